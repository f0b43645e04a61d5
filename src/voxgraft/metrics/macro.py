"""Binary metrics averaged over classes (one against the rest) or over labels.

A class or label whose value is undefined, because a replicate or the sample holds only one side of
it, is left out of the mean; the mean is undefined where none is left. :func:`score_all` says which
were left out.
"""

from __future__ import annotations

import functools

import numpy as np

from voxgraft.metrics import calibration, decisions, ranking
from voxgraft.metrics.contract import (
    Array,
    Evaluator,
    Floats,
    Kernel,
    MetricFunction,
    multiclass_metric,
    multilabel_metric,
)


def _mean_of_defined(evaluators: list[Evaluator], weights: Array) -> Floats:
    values = np.stack([evaluate(weights) for evaluate in evaluators])
    defined = ~np.isnan(values)
    count = defined.sum(axis=0)
    value: Floats = np.where(defined, values, 0.0).sum(axis=0) / np.maximum(count, 1)
    value[count == 0] = np.nan
    return value


def _one_vs_rest(kernel: Kernel) -> Kernel:
    @functools.wraps(kernel)
    def macro(target: Floats, score: Floats, **options: float) -> Evaluator:
        evaluators = [
            kernel((target == index).astype(np.float64), score[:, index], **options)
            for index in range(score.shape[1])
        ]
        return lambda weights: _mean_of_defined(evaluators, weights)

    macro.__doc__ = f"Mean over classes, each against the rest, of:\n\n    {kernel.__doc__}"
    return macro


def _over_labels(kernel: Kernel) -> Kernel:
    @functools.wraps(kernel)
    def macro(target: Floats, score: Floats, **options: float) -> Evaluator:
        evaluators = [
            kernel(target[:, index], score[:, index], **options) for index in range(score.shape[1])
        ]
        return lambda weights: _mean_of_defined(evaluators, weights)

    macro.__doc__ = f"Mean over labels (macro) of:\n\n    {kernel.__doc__}"
    return macro


multiclass_auroc: MetricFunction = multiclass_metric(_one_vs_rest(ranking._auroc))
multiclass_average_precision: MetricFunction = multiclass_metric(
    _one_vs_rest(ranking._average_precision)
)

multilabel_auroc: MetricFunction = multilabel_metric(_over_labels(ranking._auroc))
multilabel_average_precision: MetricFunction = multilabel_metric(
    _over_labels(ranking._average_precision)
)
multilabel_sensitivity_at_specificity: MetricFunction = multilabel_metric(
    _over_labels(ranking._sensitivity_at_specificity)
)
multilabel_specificity_at_sensitivity: MetricFunction = multilabel_metric(
    _over_labels(ranking._specificity_at_sensitivity)
)
multilabel_accuracy: MetricFunction = multilabel_metric(_over_labels(decisions._accuracy))
multilabel_balanced_accuracy: MetricFunction = multilabel_metric(
    _over_labels(decisions._balanced_accuracy)
)
multilabel_f1: MetricFunction = multilabel_metric(_over_labels(decisions._f1))
multilabel_brier: MetricFunction = multilabel_metric(_over_labels(calibration._brier))
multilabel_log_loss: MetricFunction = multilabel_metric(_over_labels(calibration._log_loss))
multilabel_expected_calibration_error: MetricFunction = multilabel_metric(
    _over_labels(calibration._expected_calibration_error)
)
multilabel_expected_calibration_error_equal_mass: MetricFunction = multilabel_metric(
    _over_labels(calibration._expected_calibration_error_equal_mass)
)
