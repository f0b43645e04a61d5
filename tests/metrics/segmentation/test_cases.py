"""Label maps of cases, and tables over them."""

import csv
import pickle

import numpy as np
import pytest

from voxgraft.errors import MetricError
from voxgraft.metrics.segmentation import (
    SCORES,
    score_case,
    score_masks,
    summarize,
    write_records,
)

CLASSES = {"liver": 3, "spleen": 1, "kidney": 7, "ghost": 2}
SPACING = (2.5, 0.8, 0.8)


@pytest.fixture
def maps():
    rng = np.random.default_rng(4)
    reference = np.zeros((12, 16, 14), np.int16)
    reference[1:6, 2:9, 0:7] = 3
    reference[7:12, 1:6, 6:14] = 1
    reference[2:5, 11:16, 9:13] = 9  # of no class
    prediction = np.roll(reference, 1, axis=2)
    prediction[rng.random(reference.shape) < 0.02] = 7
    return prediction, reference


def score(maps, **changed):
    given = {"annotated": None, "tolerance_mm": 1.0, "case_id": "a"}
    return score_case(*maps, CLASSES, SPACING, **(given | changed))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.uint64])
@pytest.mark.parametrize("convention", ["area", "voxel"])
def test_rows_equal_masks_one_by_one(maps, dtype, convention):
    prediction, reference = (labels.astype(dtype) for labels in maps)
    rows = score((prediction, reference), convention=convention)
    assert [row.class_name for row in rows] == list(CLASSES)
    for row in rows:
        index = CLASSES[row.class_name]
        alone = score_masks(
            prediction == index,
            reference == index,
            SPACING,
            tolerance_mm=1.0,
            convention=convention,
        )
        assert row.scores.presence == alone.presence
        assert repr(row.scores.values) == repr(alone.values)
    assert [row.scores.presence for row in rows] == ["both", "both", "prediction", "neither"]


def test_a_class_that_was_not_annotated_is_unknown(maps):
    row = score(maps, annotated={"liver"})[1]
    assert row.scores.presence == "unknown"
    assert all(np.isnan(row.scores[name]) for name in SCORES)
    assert set(row.scores.reasons.values()) == {"class not annotated in the case"}
    assert pickle.loads(pickle.dumps(row)) is not row


def test_maps_of_booleans_and_without_voxels():
    mask = np.ones((2, 2, 2), bool)
    (row,) = score_case(mask, mask, {"lung": 1}, SPACING, None, 1.0)
    assert row.scores["dice"] == 1
    nothing = np.zeros((0, 4, 4), np.uint8)
    (row,) = score_case(nothing, nothing, {"lung": 1}, SPACING, None, 1.0)
    assert row.scores.presence == "neither"
    assert score_case(mask, mask, {}, SPACING, None, 1.0) == []


@pytest.mark.parametrize(
    ("classes", "changed", "words"),
    [
        ({"liver": 0, "spleen": 1}, {}, "class 'liver' has index 0"),
        ({"liver": 1, "spleen": 1}, {}, "stands for 'liver' and for 'spleen'"),
        ({"liver": 1.5}, {}, "1.5"),
        ({"liver": 1}, {"annotated": {"livr"}}, "annotated names 'livr'"),
        ({"liver": 1}, {"annotated": "liver"}, "a set of names"),
        ({"liver": 1, "spleen": 2}, {"tolerance_mm": {"liver": 1}}, "no entry for spleen"),
        ({"liver": 1}, {"tolerance_mm": {"liver": -1}}, "tolerance_mm of liver"),
    ],
)
def test_what_is_refused(maps, classes, changed, words):
    given = {"annotated": None, "tolerance_mm": 1.0}
    with pytest.raises(MetricError, match=words):
        score_case(*maps, classes, SPACING, **(given | changed))


def test_summary_counts_who_is_left_out(maps):
    perfect = (maps[1], maps[1])
    rows = [
        *score(maps),
        *score(perfect, case_id="b"),
        *score(perfect, case_id="c", annotated={"spleen", "kidney"}),
        *score((np.zeros_like(maps[0]), maps[1]), case_id="d"),
    ]
    summaries = {(line.class_name, line.score): line for line in summarize(rows)}
    assert len(summaries) == len(CLASSES) * len(SCORES)
    first = rows[0].scores["dice"]
    liver = summaries["liver", "dice"]
    assert liver.mean == pytest.approx((first + 1 + 0) / 3)
    assert liver.median == first
    assert (liver.n, liver.left_out) == (3, 1)
    assert liver.reasons == {"class not annotated in the case": 1}
    far = summaries["liver", "hausdorff95_mm"]
    assert (far.n, far.left_out) == (2, 2)
    assert far.reasons == {"class not annotated in the case": 1, "class not predicted": 1}
    kidney = summaries["kidney", "dice"]
    assert (kidney.mean, kidney.n, kidney.reasons) == (0, 1, {"class absent in both": 3})
    ghost = summaries["ghost", "dice"]
    assert np.isnan(ghost.mean)
    assert np.isnan(ghost.median)
    assert summarize([]) == []


def test_tables_that_mix_are_refused(maps):
    with pytest.raises(MetricError, match="'liver' stands 2 times for case 'a'"):
        summarize([*score(maps), *score(maps)])
    with pytest.raises(MetricError, match=r"several tolerances \(mm\): 1.0, 2.0"):
        summarize([*score(maps), *score(maps, case_id="b", tolerance_mm=2)])
    with pytest.raises(MetricError, match="several conventions: area, voxel"):
        summarize([*score(maps), *score(maps, case_id="b", convention="voxel")])


def test_tables_as_files(maps, tmp_path):
    rows = score(maps, tolerance_mm=dict.fromkeys(CLASSES, 1.5))
    write_records([row.to_record() for row in rows], tmp_path / "cases.csv")
    write_records([line.to_record() for line in summarize(rows)], tmp_path / "classes.csv")
    with (tmp_path / "cases.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert float(lines[0]["dice"]) == rows[0].scores["dice"]
    assert lines[2]["hausdorff95_mm"] == ""
    assert lines[2]["reason"] == "class absent in the reference"
    assert lines[0]["tolerance_mm"] == "1.5"
    with (tmp_path / "classes.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines[-1]["class"] == "ghost"
    assert lines[-1]["reasons"] == "1 class absent in both"
    with pytest.raises(MetricError, match="no row"):
        write_records([], tmp_path / "none.csv")
