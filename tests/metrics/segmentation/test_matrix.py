"""Scores of cases as a matrix, and the means over it: by hand, and weights against repetition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.errors import MetricError
from voxgraft.metrics import (
    METRICS,
    by_patient,
    get_metric,
    metric_names,
    primary_metric,
    score_all,
)
from voxgraft.metrics.segmentation import SCORED, score_case, score_matrix

NAN = np.nan
NAMES = ["dice", "surface_dice", "hausdorff95_mm", "volume_error"]


def matrix(dice, surface, distance, volume):
    return np.hstack([np.array(part, float) for part in (dice, surface, distance, volume)])


# three cases, two structures: (both, annotated absent), (missed, both), (not annotated, both)
TARGET = np.array([[1, 0], [1, 1], [NAN, 1]])
SCORES = matrix(
    [[0.8, NAN], [0.0, 0.5], [NAN, 0.9]],
    [[0.6, NAN], [0.0, 0.7], [NAN, 1.0]],
    [[4.0, NAN], [NAN, 10.0], [NAN, 2.0]],
    [[-0.2, NAN], [-1.0, 0.5], [NAN, 0.1]],
)


def test_means_by_hand():
    scored = score_all("segmentation", TARGET, SCORES)
    assert list(scored) == metric_names("segmentation") == NAMES
    assert scored["dice"].value == pytest.approx((0.4 + 0.7) / 2)
    assert scored["surface_dice"].value == pytest.approx((0.3 + 0.85) / 2)
    assert scored["hausdorff95_mm"].value == pytest.approx((4.0 + 6.0) / 2)
    assert scored["volume_error"].value == pytest.approx((0.6 + 0.3) / 2)
    assert scored["hausdorff95_mm"].note == "1 of 4 structures were not predicted and have none"
    assert scored["dice"].note == ""


def test_a_replicate_leaves_out_the_class_that_none_of_its_cases_defines():
    weights = np.array([[1, 1, 1], [0, 0, 3], [1, 0, 0], [2, 1, 0], [0, 0, 0]])
    dice = get_metric("dice")("segmentation", TARGET, SCORES, weights)
    by_hand = [0.55, 0.9, 0.8, (1.6 / 3 + 0.5) / 2, NAN]
    np.testing.assert_allclose(dice, by_hand)


def test_what_is_left_out_is_told_and_what_is_undefined_has_a_reason():
    target = np.array([[1.0, 0.0, NAN]])
    scores = matrix([[0.5, NAN, NAN]], [[0.5, NAN, NAN]], [[1.0, NAN, NAN]], [[0, NAN, NAN]])
    scored = score_all("segmentation", target, scores)
    assert scored["dice"].value == 0.5
    assert scored["dice"].note == (
        "left out of the mean: structure 1 has no value in any of 1 annotated cases; "
        "structure 2 is annotated in no case"
    )
    named = score_all("segmentation", target, scores, classes=("liver", "spleen", "aorta"))
    assert named["dice"].note == (
        "left out of the mean: spleen has no value in any of 1 annotated cases; "
        "aorta is annotated in no case"
    )
    missed = score_all("segmentation", [[1.0]], [[0.0, 0.0, NAN, -1.0]])
    assert missed["dice"].value == 0.0
    assert np.isnan(missed["hausdorff95_mm"].value)
    assert missed["hausdorff95_mm"].reason == (
        "no structure is both in the reference and predicted in any case"
    )
    absent = score_all("segmentation", [[0.0]], [[NAN] * 4])
    assert absent["dice"].reason == "no annotated structure is in any reference or prediction"
    assert absent["volume_error"].reason == "no structure is in any reference"
    unknown = score_all("segmentation", [[NAN]], [[NAN] * 4])
    assert unknown["dice"].reason == "no structure is annotated in any case"
    nobody = score_all("segmentation", np.empty((0, 1)), np.empty((0, 4)))
    assert nobody["dice"].reason == "there is no case"


@st.composite
def matrices(draw):
    cases, classes = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    target = rng.choice([1.0, 0.0, NAN], (cases, classes))
    found = rng.random((cases, classes)) < 0.7
    has, known = target == 1, ~np.isnan(target)
    overlap = np.where(has & found, rng.random((cases, classes)), np.where(has | found, 0.0, NAN))
    overlap[~known] = NAN
    surface = np.where(overlap > 0, rng.random((cases, classes)), overlap)
    distance = np.where(has & found, rng.random((cases, classes)) * 50, NAN)
    volume = np.where(has, np.where(found, rng.normal(0, 0.3, (cases, classes)), -1), NAN)
    return target, np.hstack([overlap, surface, distance, np.maximum(volume, -1)])


@settings(max_examples=60, deadline=None)
@given(matrices(), st.data())
def test_weights_are_repetitions_of_rows(made, data):
    target, scores = made
    weights = data.draw(
        st.lists(st.integers(0, 3), min_size=len(target), max_size=len(target)).map(np.array)
    )
    for name in NAMES:
        function = get_metric(name).function("segmentation")
        weighted = function(target, scores, weights[None])[0]
        repeated = function(np.repeat(target, weights, axis=0), np.repeat(scores, weights, axis=0))
        np.testing.assert_allclose(weighted, repeated, rtol=1e-12)
        np.testing.assert_array_equal(
            function(target, scores), function(target, scores, np.ones((1, len(target))))[0]
        )


@settings(max_examples=30, deadline=None)
@given(matrices())
def test_a_plain_loop_says_the_same(made):
    target, scores = made
    count = target.shape[1]
    for index, name in enumerate(NAMES):
        means = []
        for column in range(count):
            values = [abs(x) for x in scores[:, index * count + column] if not np.isnan(x)]
            if values:
                means.append(sum(values) / len(values))
        value = get_metric(name)("segmentation", target, scores)
        np.testing.assert_allclose(value, sum(means) / len(means) if means else NAN)


def maps():
    reference = np.zeros((4, 4, 4), np.uint8)
    reference[:2], reference[3] = 1, 2
    prediction = np.zeros_like(reference)
    prediction[:2], prediction[2, 0, 0] = 1, 3
    return prediction, reference


def rows_of(case_id, annotated=None):
    classes = {"a": 1, "b": 2, "c": 3, "d": 4}
    return score_case(*maps(), classes, (1.0, 1.0, 1.0), annotated, 1.0, case_id=case_id)


def test_rows_of_label_maps_become_the_matrix():
    rows = rows_of("two", {"b"}) + rows_of("one")
    target, scores = score_matrix(rows, ["one", "two"], ["b", "a", "c", "d"])
    np.testing.assert_array_equal(target, [[1, 1, 0, 0], [1, NAN, NAN, NAN]])
    dice, surface, distance, volume = np.split(scores, len(SCORED), axis=1)
    np.testing.assert_array_equal(dice, [[0, 1, 0, NAN], [0, NAN, NAN, NAN]])
    np.testing.assert_array_equal(surface, dice)
    np.testing.assert_array_equal(distance, [[NAN, 0, NAN, NAN], [NAN] * 4])
    np.testing.assert_array_equal(volume, [[-1, 0, NAN, NAN], [-1, NAN, NAN, NAN]])
    assert score_all("segmentation", target, scores)["dice"].value == pytest.approx(1 / 3)


def test_rows_that_make_no_matrix_are_refused_at_once():
    rows = rows_of("one")
    with pytest.raises(MetricError) as refused:
        score_matrix([*rows, rows[0], *rows_of("three")], ["one", "two"], ["a", "b", "c", "d"])
    told = str(refused.value)
    assert "'one' has class 'a' twice" in told
    assert "case 'three', class 'b' was not asked for" in told
    assert "case 'two' has no row of class 'd'" in told
    other = score_case(*maps(), {"a": 1}, (1.0, 1.0, 1.0), None, 2.0, case_id="two")
    with pytest.raises(MetricError, match=r"several rules: 1\.0 mm by area, 2\.0 mm by area"):
        score_matrix([rows[0], *other], ["one", "two"], ["a"])
    with pytest.raises(MetricError, match="case 'one' is named 2 times"):
        score_matrix(rows[:1], ["one", "one"], ["a"])


@pytest.mark.parametrize(
    ("target", "scores", "told"),
    [
        ([[1.0]], [[0.5] * 3], "score has 3 columns for 1 structures; expected 4"),
        ([1.0], [[0.5] * 4], "shape"),
        ([[1.0], [1.0]], [[0.5] * 4], "target has 2 cases and score has 1"),
        ([[2.0]], [[0.5] * 4], "target is not 1, 0 or NaN in cases 0"),
        ([[1.0]], [[1.5, 0.5, 1, 0]], "dice is outside its range in cases 0"),
        ([[NAN]], [[NAN, 0.5, NAN, NAN]], "surface_dice is given for a structure that is not"),
        ([[1.0]], [[NAN, 0.5, 1, 0]], "dice is missing for a structure of the reference"),
        ([[1.0]], [[0.5, 0.5, np.inf, 0]], "score is infinite"),
    ],
)
def test_what_is_no_matrix_is_refused(target, scores, told):
    with pytest.raises(MetricError, match=told):
        score_all("segmentation", target, scores)


def test_dice_decides_and_other_kinds_keep_refusing_nan():
    assert primary_metric("segmentation") is METRICS["dice"]
    assert METRICS["hausdorff95_mm"].unit == "mm"
    assert not METRICS["volume_error"].higher_is_better
    with pytest.raises(MetricError, match="NaN or infinite"):
        score_all("multilabel", [[0.0, 1.0]], [[NAN, 0.5]])
    with pytest.raises(MetricError, match="not pooled by patient"):
        by_patient("segmentation", TARGET, SCORES, np.array(["p", "p", "q"]))
