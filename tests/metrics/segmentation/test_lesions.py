"""Lesions found, missed and invented, on rows of voxels where every overlap can be counted."""

import numpy as np
import pytest

from voxgraft.errors import MetricError
from voxgraft.metrics.segmentation import (
    LesionRules,
    count_lesions,
    label_components,
    largest_component,
    pool_lesions,
)

SPACING = (1.0, 2.0, 0.5)  # a voxel is 1 mm3


def row(text):
    return np.array([character == "#" for character in text])[None, None]


def tally(prediction, reference, **rules):
    counts = count_lesions(row(prediction), row(reference), SPACING, LesionRules(**rules))
    return counts.lesions, counts.found, counts.predicted, counts.false_positives, counts.ignored


def test_any_overlap():
    #                truth: 3 lesions; the first component finds two, the last is a false alarm
    assert tally("######..........##", "##..##...###......") == (3, 2, 2, 1, 0)
    assert tally("....", "....") == (0, 0, 0, 0, 0)
    assert tally("....", "##.#") == (2, 0, 0, 0, 0)
    assert tally("##.#", "....") == (0, 0, 2, 2, 0)


def test_iou_pairs_one_to_one():
    iou = {"matching": "iou", "min_iou": 0.3}
    # one component over two lesions finds one of them only
    assert tally("######", "##..##", **iou) == (2, 1, 1, 0, 0)
    # IoU 2/6 passes 0.3, not 0.4
    assert tally("######", "##....", **iou) == (1, 1, 1, 0, 0)
    assert tally("######", "##....", matching="iou", min_iou=0.4) == (1, 0, 1, 1, 0)
    # as many pairs as possible: the long component must leave the better lesion to its neighbor
    prediction = "#######.###"
    reference_ = "##.########"
    assert tally(prediction, reference_, matching="iou", min_iou=0.2) == (2, 2, 2, 0, 0)


def test_small_ones():
    small = {"min_volume_mm3": 2.0}
    # the single voxels fall: predicted ones are removed, true ones ignored, and marking an
    # ignored one is no false alarm
    assert tally("#...###...##", "#.#..#.....#", **small) == (0, 0, 0, 0, 4)
    assert tally("##..#...##", "##.....##.", **small) == (2, 2, 2, 0, 0)
    assert tally("....##.##", "#........", **small) == (0, 0, 2, 2, 1)
    assert tally("##", "##", min_volume_mm3=2.0)[0] == 1
    thirds = count_lesions(row("###"), row("###"), (0.1, 1, 1), LesionRules(min_volume_mm3=0.3))
    assert thirds.lesions == 1


def test_connectivity():
    corner = np.zeros((2, 2, 2), bool)
    corner[0, 0, 0] = corner[1, 1, 1] = True
    edge = np.zeros((2, 2, 2), bool)
    edge[0, 0, 0] = edge[0, 1, 1] = True
    found = {
        connectivity: tuple(
            count_lesions(mask, mask, SPACING, LesionRules(connectivity=connectivity)).lesions
            for mask in (corner, edge)
        )
        for connectivity in (6, 18, 26)
    }
    assert found == {6: (2, 2), 18: (2, 1), 26: (1, 1)}


def test_rates_and_pooling():
    first = count_lesions(row("######..........##"), row("##..##...###......"), SPACING)
    assert first.sensitivity == pytest.approx(2 / 3)
    assert first.precision == 0.5
    assert first.f1 == pytest.approx(4 / 7)
    clean = count_lesions(row("...."), row("...."), SPACING)
    assert all(np.isnan([clean.sensitivity, clean.precision, clean.f1]))
    assert clean.false_positives_per_scan == 0
    invented = count_lesions(row("##.#"), row("...."), SPACING)
    assert invented.f1 == 0
    assert np.isnan(invented.sensitivity)
    pooled = pool_lesions([first, clean, invented])
    assert pooled.scans == 3
    assert pooled.sensitivity == pytest.approx(2 / 3)
    assert pooled.false_positives_per_scan == 1
    assert np.isnan(pool_lesions([]).false_positives_per_scan)


def test_largest_component():
    assert (largest_component(row("#.##.##"), 26) == row("..##...")).all()
    assert not largest_component(row("...."), 6).any()
    with pytest.raises(MetricError, match="6, 18 or 26"):
        label_components(row("##"), 4)


def test_rules_that_make_no_sense_are_named_together():
    with pytest.raises(MetricError, match=r"4 faults") as caught:
        LesionRules(matching="dice", min_iou=0, connectivity=8, min_volume_mm3=-1)
    assert "min_volume_mm3 is -1" in str(caught.value)


def test_the_largest_marked_component():
    first = count_lesions(row("##..###.#"), row("........."), (2.0, 2.0, 0.5))
    assert first.largest_predicted_mm3 == 6.0
    small = count_lesions(row("##.#"), row("...."), SPACING, LesionRules(min_volume_mm3=3.0))
    assert small.largest_predicted_mm3 == 0
    assert pool_lesions([first, small]).largest_predicted_mm3 == 6.0
    assert pool_lesions([]).largest_predicted_mm3 == 0
