"""The printed table of Ke et al. (2023), what is wrong in it, and means over its networks."""

import math

import numpy as np
import pytest
from scipy import stats

from voxgraft.comparison.published import Cell, published_cells, published_means
from voxgraft.comparison.published.cells import SEVEN_3D, noted
from voxgraft.errors import ReportError, StatisticsError
from voxgraft.statistics import interval_from_differences


def _cell(model, start, dataset, percent):
    found = [
        cell
        for cell in published_cells("ke2023")
        if (cell.model, cell.start, cell.dataset, cell.finetune_pct)
        == (model, start, dataset, percent)
    ]
    assert len(found) == 1
    return found[0]


def test_all_cells_are_there_once():
    cells = published_cells("ke2023")
    places = {(cell.model, cell.start, cell.dataset, cell.finetune_pct) for cell in cells}
    assert len(cells) == len(places) == 180
    assert len({cell.model for cell in cells}) == 10
    assert _cell("Swin-T", "video", "RSNA", 100).auc == 0.902
    assert _cell("LRCN", "image, CT", "RSNA", 10).high == 0.754


def test_what_is_impossible_or_suspicious_says_so():
    cells = published_cells("ke2023")
    constant = [cell for cell in cells if cell.constant]
    assert len(constant) == 14
    assert all(cell.note.startswith("constant prediction") for cell in constant)
    impossible = [cell for cell in cells if cell.note.startswith("impossible")]
    assert impossible == [_cell("MViT", "CT", "RSNA", 100)]
    assert "lower end 0.572 lies above its upper" in impossible[0].note
    assert "does not hold its value 0.523" in impossible[0].note
    twins = {(cell.model, cell.start) for cell in cells if "same value and interval" in cell.note}
    assert twins == {
        ("ResNet-18", "none"),
        ("ResNext-101", "none"),
        ("ResNext-101", "image"),
        ("ResNext-101", "image, CT"),
        ("PENet", "CT"),
        ("PENet", "video, CT"),
    }
    assert "misprint" in _cell("MViT", "video, CT", "RSNA", 100).note
    assert "worse than chance" in _cell("R(2+1)D R50", "CT", "RSNA", 10).note
    assert sum(bool(cell.note) for cell in cells) == 30
    assert _cell("Swin-T", "video", "RSNA", 100).note == ""


def test_a_sound_table_gets_no_notes():
    sound = [Cell(f"n{k}", True, False, "RSNA", 10, 0.7 + k / 100, 0.6, 0.83) for k in range(5)]
    assert [cell.note for cell in noted(sound)] == [""] * 5


@pytest.mark.parametrize(
    ("contrast", "dataset", "percent", "stated"),
    [
        ("video − none", "RSNA", 100, 0.146),
        ("video − none", "RSNA", 10, 0.074),
        ("video − none", "LIDC", 100, 0.124),
        ("video − none", "LIDC", 10, 0.077),
        ("video − CT", "RSNA", 100, 0.182),  # the printed cells give 0.1814
    ],
)
def test_the_stated_means_and_an_interval_in_place_of_smallest_and_largest(
    contrast, dataset, percent, stated
):
    found = next(
        mean
        for mean in published_means()
        if (mean.contrast, mean.dataset, mean.finetune_pct) == (contrast, dataset, percent)
    )
    assert found.estimate == pytest.approx(stated, abs=0.0007)
    assert list(found.per_network) == list(SEVEN_3D)
    expected = stats.ttest_1samp(list(found.per_network.values()), 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (found.smallest, found.largest) == (
        min(found.per_network.values()),
        max(found.per_network.values()),
    )
    assert abs(found.low - found.smallest) > 0.001
    assert abs(found.high - found.largest) > 0.001
    assert "what all networks err together on these test patients is not in it" in found.note


def test_means_name_their_doubtful_cells_and_only_cells_that_exist():
    means = published_means()
    assert len(means) == 9  # CT alone was not fine-tuned on 1%
    against_ct = next(m for m in means if (m.contrast, m.finetune_pct) == ("video − CT", 100))
    assert "MViT, CT" in against_ct.note
    wider = published_means(level=0.99)
    assert all(b.high > a.high for a, b in zip(means, wider, strict=True))


def test_unknown_tables_and_too_few_differences_are_refused():
    with pytest.raises(ReportError, match="'ke2024'; there is ke2023"):
        published_cells("ke2024")
    for differences in ([0.1], [0.1, math.nan], np.zeros((2, 2))):
        with pytest.raises(StatisticsError, match="two finite ones"):
            interval_from_differences(differences)
