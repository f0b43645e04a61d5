"""Points of the ROC curve against scikit-learn, and what is refused."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_curve

from voxgraft.errors import MetricError
from voxgraft.metrics import auroc
from voxgraft.metrics.segmentation import roc_points

PATIENTS = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.5, 2.0, 7.5])), min_size=2
).filter(lambda drawn: len({positive for positive, _ in drawn}) == 2)


@given(PATIENTS)
def test_points_are_scikit_learns(drawn):
    target, score = np.array(drawn).T
    points = roc_points(target, score)
    false, true, thresholds = roc_curve(target, score, drop_intermediate=False)
    assert [point.sensitivity for point in points] == pytest.approx(true)
    assert [1 - point.specificity for point in points] == pytest.approx(false)
    assert [point.threshold for point in points] == list(thresholds)
    sides = [(1 - point.specificity, point.sensitivity) for point in points]
    area = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in itertools.pairwise(sides))
    assert area == pytest.approx(auroc(target, score))


def test_one_kind_of_patients_and_cells():
    points = roc_points([1, 1], [0.2, 0.2])
    assert [point.true_positives for point in points] == [0, 2]
    assert np.isnan(points[0].specificity)
    assert points[0].to_record()["threshold"] == points[1].to_record()["specificity"] == ""
    for target, score in (([0, 2], [0, 1]), ([0, 1], [0, np.nan]), ([], []), ([0, 1], [0])):
        with pytest.raises(MetricError):
            roc_points(target, score)
