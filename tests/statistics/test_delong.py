"""DeLong's variance equals the kernel's definition, written out over all pairs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from voxgraft.errors import StatisticsError
from voxgraft.metrics import auroc
from voxgraft.statistics import delong, delong_covariance, delong_test, performance_interval


def _by_definition(target, scores):
    """Areas and covariance from psi(x, y) = 1 if x > y, 1/2 if equal: O(positives x negatives)."""
    areas, of_positives, of_negatives = [], [], []
    for score in scores:
        x, y = score[target == 1], score[target == 0]
        psi = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
        areas.append(psi.sum() / psi.size)
        of_positives.append(psi.sum(axis=1) / psi.shape[1])
        of_negatives.append(psi.sum(axis=0) / psi.shape[0])

    def covariance(a, b):
        total = 0.0
        for values in (of_positives, of_negatives):
            count = len(values[a])
            products = [
                (u - areas[a]) * (v - areas[b]) for u, v in zip(values[a], values[b], strict=True)
            ]
            total += sum(products) / (count - 1) / count
        return total

    every = range(len(scores))
    return np.array(areas), np.array([[covariance(a, b) for b in every] for a in every])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    positives=st.integers(2, 30),
    negatives=st.integers(2, 30),
    digits=st.integers(0, 10),
)
def test_equals_the_definition(seed, positives, negatives, digits):
    rng = np.random.default_rng(seed)
    target = rng.permutation(np.r_[np.ones(positives), np.zeros(negatives)])
    scores = np.round(rng.normal(size=(3, len(target))) + target, digits)
    areas, covariance = delong_covariance(target, scores)
    expected_areas, expected = _by_definition(target, scores)
    assert np.abs(areas - expected_areas).max() < 1e-9
    assert np.abs(covariance - expected).max() < 1e-9
    found = delong_test(target, scores[0], scores[1])
    variance = expected[0, 0] + expected[1, 1] - 2 * expected[0, 1]
    assert found.variance == pytest.approx(max(variance, 0), abs=1e-9)
    if variance > 1e-6:
        z = (expected_areas[0] - expected_areas[1]) / np.sqrt(variance)
        assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(z)), abs=1e-9)


def test_interval_is_logit_and_close_to_the_jackknife():
    rng = np.random.default_rng(3)
    target = np.r_[np.ones(60), np.zeros(90)]
    score = rng.normal(size=150) + target
    found = delong(target, score)
    area, error = found.auroc, np.sqrt(found.variance)
    reach = stats.norm.ppf(0.975) * error / (area * (1 - area))
    logit = np.log(area / (1 - area))
    assert found.low == pytest.approx(1 / (1 + np.exp(-(logit - reach))), abs=1e-12)
    other = performance_interval(auroc, target, score, np.arange(150), bounds=(0, 1))
    assert other.low == pytest.approx(found.low, abs=0.003)
    assert other.high == pytest.approx(found.high, abs=0.003)


def test_same_order_and_perfect_order():
    target = np.array([0, 0, 1, 1, 0, 1])
    score = np.array([0.1, 0.2, 0.3, 0.25, 0.28, 0.9])
    same = delong_test(target, score, 2 * score)
    assert (same.difference, same.p_value) == (0.0, 1.0)
    perfect = delong(target, target + 0.0)
    assert (perfect.auroc, perfect.low, perfect.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("target", "score", "message"),
    [
        ([0, 0, 1], [1, 2, 3], "two cases of each class; there are 1 positive and 2 negative"),
        ([0, 1, 2], [1, 2, 3], "target of 0 and 1"),
        ([0, 1], [[1, 2], [3, 4], [5, 6]], "single runs"),
        ([0, 0, 1, 1], [1, 2, np.nan, 3], "NaN or infinity in seed"),
    ],
)
def test_refusals(target, score, message):
    with pytest.raises(StatisticsError, match=message):
        delong_test(target, score, score)
