"""Metrics of probabilities: Brier score, log loss, expected calibration error."""

from __future__ import annotations

import numpy as np

from voxgraft.errors import MetricError
from voxgraft.metrics.contract import (
    Array,
    Evaluator,
    Floats,
    MetricFunction,
    binary_metric,
    check_probabilities,
    multiclass_metric,
)
from voxgraft.metrics.decisions import _mean_of, weighted_sums

LOG_LOSS_FLOOR = float(np.finfo(np.float64).eps)
"""Probabilities are clipped to at least this before the logarithm, as in scikit-learn."""

ECE_BINS = 10


def _brier(target: Floats, score: Floats) -> Evaluator:
    """Return the mean squared distance of the probability of class 1 from the outcome."""
    check_probabilities(score)
    return _mean_of((score - target) ** 2)


def _multiclass_brier(target: Floats, score: Floats) -> Evaluator:
    """Return the mean over cases of the squared distance summed over classes (0 to 2).

    Source:
        Brier (1950), the original form; for two classes it is twice the binary one.
    """
    check_probabilities(score, rows_sum_to_one=True)
    outcome = target[:, None] == np.arange(score.shape[1])
    return _mean_of(((score - outcome) ** 2).sum(axis=1))


def _log_loss(target: Floats, score: Floats) -> Evaluator:
    """Return the mean negative log-likelihood, in nats, probabilities clipped to 2.2e-16."""
    check_probabilities(score)
    right = np.where(target > 0, score, 1 - score)
    return _mean_of(-np.log(np.clip(right, LOG_LOSS_FLOOR, 1)))


def _multiclass_log_loss(target: Floats, score: Floats) -> Evaluator:
    """Return the mean negative log-probability of the true class, in nats, clipped to 2.2e-16."""
    check_probabilities(score, rows_sum_to_one=True)
    right = np.take_along_axis(score, target.astype(np.intp)[:, None], axis=1)[:, 0]
    return _mean_of(-np.log(np.clip(right, LOG_LOSS_FLOOR, 1)))


def _bin_count(bins: float) -> int:
    count = int(bins)
    if count != bins or count < 1:
        raise MetricError(f"bins is {bins!r}; expected a whole number of at least 1.")
    return count


def _equal_width(score: Floats, bins: int) -> Array:
    """Return each score's bin of ``bins`` equally wide ones over [0, 1], closed at the right."""
    edges = np.linspace(0, 1, bins + 1)[1:-1]
    return np.searchsorted(edges, score, side="left")


def _equal_mass(score: Floats, bins: int) -> Array:
    """Return each score's bin of at most ``bins`` with equally many cases, equals together."""
    edges = np.unique(np.quantile(score, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, score, side="left")


def _calibration(confidence: Floats, outcome: Floats, bin_of: Array) -> Evaluator:
    """Mean absolute gap of confidence and outcome, bins weighted by their cases."""
    bins = int(bin_of.max(initial=0)) + 1
    member = bin_of[:, None] == np.arange(bins)
    columns = np.column_stack([member * (confidence - outcome)[:, None], np.ones(len(outcome))])

    def evaluate(weights: Array) -> Floats:
        sums = weighted_sums(weights, columns)
        value: Floats = np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1]
        value[sums[:, -1] <= 0] = np.nan
        return value

    return evaluate


def _expected_calibration_error(target: Floats, score: Floats, bins: float = ECE_BINS) -> Evaluator:
    """Return the expected calibration error over equally wide bins of [0, 1].

    The mean over bins, weighted by their cases, of the absolute
    difference between mean probability and share of positives.
    It is biased upward in small samples (it is not 0 for a perfect forecaster).

    Source:
        Naeini et al. (2015), for the probability of class 1.
    """
    check_probabilities(score)
    return _calibration(score, target, _equal_width(score, _bin_count(bins)))


def _expected_calibration_error_equal_mass(
    target: Floats, score: Floats, bins: float = ECE_BINS
) -> Evaluator:
    """Return the expected calibration error over bins with equally many of the given cases.

    The bins are those of the given sample, the same in all replicates; equal scores share a bin.
    """
    check_probabilities(score)
    return _calibration(score, target, _equal_mass(score, _bin_count(bins)))


def _top_label(target: Floats, score: Floats) -> tuple[Floats, Floats]:
    check_probabilities(score, rows_sum_to_one=True)
    right = (score.argmax(axis=1) == target).astype(np.float64)
    return score.max(axis=1), right


def _multiclass_expected_calibration_error(
    target: Floats, score: Floats, bins: float = ECE_BINS
) -> Evaluator:
    """Return the top-label calibration error over equally wide bins.

    Confidence is the highest probability, outcome whether that class is the true one.

    Source:
        Guo et al. (2017), equation 3.
    """
    confidence, right = _top_label(target, score)
    return _calibration(confidence, right, _equal_width(confidence, _bin_count(bins)))


def _multiclass_expected_calibration_error_equal_mass(
    target: Floats, score: Floats, bins: float = ECE_BINS
) -> Evaluator:
    """Return the top-label calibration error over bins with equally many of the given cases."""
    confidence, right = _top_label(target, score)
    return _calibration(confidence, right, _equal_mass(confidence, _bin_count(bins)))


brier: MetricFunction = binary_metric(_brier)
log_loss: MetricFunction = binary_metric(_log_loss)
expected_calibration_error: MetricFunction = binary_metric(_expected_calibration_error)
expected_calibration_error_equal_mass: MetricFunction = binary_metric(
    _expected_calibration_error_equal_mass
)
multiclass_brier: MetricFunction = multiclass_metric(_multiclass_brier)
multiclass_log_loss: MetricFunction = multiclass_metric(_multiclass_log_loss)
multiclass_expected_calibration_error: MetricFunction = multiclass_metric(
    _multiclass_expected_calibration_error
)
multiclass_expected_calibration_error_equal_mass: MetricFunction = multiclass_metric(
    _multiclass_expected_calibration_error_equal_mass
)
