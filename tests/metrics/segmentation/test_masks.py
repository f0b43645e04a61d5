"""One class in one case: by hand, by brute force, at borders, and where there is nothing."""

import numpy as np
import pytest
from hypothesis import given, settings

from voxgraft.errors import MetricError
from voxgraft.metrics.segmentation import (
    DISTANCES,
    SCORES,
    score_masks,
    surface_distances,
)
from voxgraft.metrics.segmentation.elements import surface_elements

SPACING = (5.0, 0.5, 2.0)


def box(shape, *sides):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def test_a_shifted_box_by_hand():
    reference = box((12, 12, 12), (2, 6), (3, 7), (4, 8))
    prediction = box((12, 12, 12), (3, 7), (3, 7), (4, 8))
    scores = score_masks(prediction, reference, SPACING, tolerance_mm=1.0, convention="voxel")
    assert scores["dice"] == scores["precision"] == scores["recall"] == 48 / 64
    assert scores["iou"] == 48 / 80
    assert scores["reference_ml"] == scores["predicted_ml"] == pytest.approx(64 * 5 / 1000)
    assert scores["volume_error_ml"] == scores["relative_volume_error"] == 0
    assert scores["hausdorff_mm"] == 5.0
    # Each edge has 56 voxels: two full slices of 16, two rims of 12. The reference's rims lie on
    # the other's full slice and rim (12 + 12); of its far full slice 12 lie on a rim, and the 4
    # inner ones are 0.5 mm from it; its near full slice is 5 mm away.
    assert scores["surface_dice"] == pytest.approx(40 / 56)


def test_areas_of_flat_sides_and_of_one_voxel():
    whole = surface_elements(box((30, 30, 30), (5, 25), (5, 25), (5, 25)), SPACING, "area")
    sides = 2 * 20 * 20 * (5 * 0.5 + 5 * 2 + 0.5 * 2)
    assert sides * 0.9 < whole.weights.sum() < sides
    inner = 6 * 19 * 19
    flat = np.isin(whole.weights.round(9), [2.5, 10.0, 1.0])
    assert flat.sum() == inner
    one = surface_elements(np.ones((1, 1, 1), bool), SPACING, "area")
    assert one.weights.sum() == pytest.approx(np.sqrt(2.5**2 + 10**2 + 1))


def brute(of, to, spacing):
    near = np.argwhere(of.present)[:, None] - np.argwhere(to.present)[None]
    return np.sqrt(((near * np.asarray(spacing)) ** 2).sum(-1)).min(1)


def reached(mm, weights, share):
    """The smallest distance within which that share of the area lies."""
    return min(d for d in mm if weights[mm <= d].sum() >= min(share, 1 - 1e-12) * weights.sum())


def test_distances_equal_brute_force(pairs_of_masks):
    @settings(max_examples=40, deadline=None, derandomize=True)
    @given(pairs_of_masks())
    def holds(pair):
        one, two, spacing = pair
        apart = surface_distances(one, two, spacing)
        a, b = (surface_elements(mask, spacing, "area") for mask in (one, two))
        forth, back = brute(a, b, spacing), brute(b, a, spacing)
        np.testing.assert_allclose(apart.prediction_mm, forth, atol=1e-12)
        np.testing.assert_allclose(apart.reference_mm, back, atol=1e-12)
        weights = np.r_[a.weights, b.weights]
        assert apart.average_mm() == pytest.approx(np.average(np.r_[forth, back], weights=weights))
        assert apart.hausdorff_mm() == pytest.approx(max(forth.max(), back.max()))
        robust = apart.hausdorff_mm(95)
        sides = ((forth, a.weights), (back, b.weights))
        low, high = (max(reached(*side, 0.95 + slack) for side in sides) for slack in (-1e-9, 1e-9))
        assert low - 1e-9 <= robust <= high + 1e-9

    holds()


def test_scores_do_not_depend_on_place_border_or_order(pairs_of_masks):
    @settings(max_examples=30, deadline=None, derandomize=True)
    @given(pairs_of_masks())
    def holds(pair):
        one, two, spacing = pair
        there = score_masks(one, two, spacing, tolerance_mm=1.0)
        moved = score_masks(
            np.pad(one, ((3, 1), (0, 7), (2, 2))),
            np.pad(two, ((3, 1), (0, 7), (2, 2))),
            spacing,
            tolerance_mm=1.0,
        )
        assert there.values == moved.values
        back = score_masks(two, one, spacing, tolerance_mm=1.0)
        for name in ("dice", "iou", "surface_dice", *DISTANCES):
            assert back[name] == pytest.approx(there[name])
        assert back["precision"] == there["recall"]
        turned = score_masks(
            one.transpose(2, 0, 1), two.transpose(2, 0, 1), (spacing[2], *spacing[:2]),
            tolerance_mm=1.0,
        )  # fmt: skip
        assert turned["surface_dice"] == pytest.approx(there["surface_dice"])
        assert turned["hausdorff_mm"] == pytest.approx(there["hausdorff_mm"])

    holds()


def test_a_tolerance_is_not_lost_to_rounding():
    one, two = box((9, 1, 1), (0, 2)), box((9, 1, 1), (0, 5))
    scores = score_masks(one, two, (0.1, 1, 1), tolerance_mm=0.3)
    assert scores["surface_dice"] == 1.0


EMPTY = {
    "reference": ("class not predicted", {"precision", *DISTANCES}),
    "prediction": (
        "class absent in the reference",
        {"recall", *DISTANCES, "relative_volume_error"},
    ),
    "neither": ("class absent in both", set(SCORES) - {"reference_ml", "predicted_ml"}),
}


@pytest.mark.parametrize("presence", EMPTY)
def test_where_there_is_nothing(presence):
    full, empty = np.ones((2, 3, 4), np.uint8), np.zeros((2, 3, 4), np.uint8)
    prediction = full if presence == "prediction" else empty
    reference = full if presence == "reference" else empty
    scores = score_masks(prediction, reference, SPACING, tolerance_mm=2.0)
    reason, undefined = EMPTY[presence]
    assert scores.presence == presence
    assert dict(scores.reasons) == dict.fromkeys(undefined, reason)
    assert {name for name in SCORES if np.isnan(scores[name])} == undefined
    if presence != "neither":
        assert scores["dice"] == scores["iou"] == scores["surface_dice"] == 0
        assert abs(scores["volume_error_ml"]) == pytest.approx(24 * 5 / 1000)


def test_same_mask_is_perfect():
    mask = box((5, 6, 7), (0, 5), (1, 4), (0, 2))
    scores = score_masks(mask, mask, SPACING, tolerance_mm=0)
    assert scores["dice"] == scores["surface_dice"] == 1
    assert scores["hausdorff_mm"] == scores["assd_mm"] == 0
    assert not scores.reasons


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"spacing_mm": (1, 0, 1)}, "above 0"),
        ({"spacing_mm": (1, float("nan"), 1)}, "finite"),
        ({"spacing_mm": 1.0}, "three numbers"),
        ({"tolerance_mm": -1}, "at least 0"),
        ({"convention": "surface"}, "'area'"),
        ({"prediction": np.zeros((2, 2, 2))}, "dtype float64"),
        ({"prediction": np.zeros((2, 2), bool)}, "depth, height, width"),
        ({"prediction": np.zeros((2, 2, 3), bool)}, r"\(2, 2, 3\), reference \(2, 2, 2\)"),
        ({"prediction": [[[1]]]}, "a list, not a numpy array"),
    ],
)
def test_what_is_refused(changed, words):
    mask = np.ones((2, 2, 2), bool)
    given_ = {"prediction": mask, "reference": mask, "spacing_mm": SPACING, "tolerance_mm": 1.0}
    with pytest.raises(MetricError, match=words):
        score_masks(**(given_ | changed))


def test_other_names_and_percentiles_are_refused():
    mask = np.ones((2, 2, 2), bool)
    with pytest.raises(MetricError, match="there are dice"):
        score_masks(mask, mask, SPACING, tolerance_mm=1.0)["nsd"]
    with pytest.raises(MetricError, match="percentile"):
        surface_distances(mask, mask, SPACING).hausdorff_mm(0)
    with pytest.raises(MetricError, match="reference is empty"):
        surface_distances(mask, np.zeros_like(mask), SPACING)
