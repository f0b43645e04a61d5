"""Metrics of the order of the scores: AUROC, average precision, points of the ROC curve.

Cases are sorted once by score; each replicate then needs cumulative counts only. Equal scores form
one group, so ties count one half in the AUROC and share one threshold elsewhere.
"""

from __future__ import annotations

import numpy as np

from voxgraft.metrics.contract import (
    Array,
    Evaluator,
    Floats,
    MetricFunction,
    binary_metric,
)

INT32_CASES = 2**31 - 1
"""Largest total weight that a 32-bit integer counts."""

EXACT_INT32 = 32_000
"""Largest total weight whose doubled square fits a 32-bit integer."""

Counts = tuple[Array, Array]


class _Order:
    """Cases sorted by score, equal scores in groups."""

    def __init__(self, target: Floats, score: Floats, *, descending: bool) -> None:
        order = np.argsort(-score if descending else score, kind="stable")
        in_order = score[order]
        self.order = None if np.array_equal(order, np.arange(len(order))) else order
        self.positive = target[order] > 0
        self.starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]])
        self.tied = len(self.starts) < len(order)

    def counts(self, weights: Array) -> Counts:
        """Return (positives, all) in each group, ``(replicates, groups)``, exactly summed."""
        if self.order is not None:
            weights = np.take(weights, self.order, axis=1)
        whole = weights.dtype.kind != "f" and int(weights.max(initial=0)) < INT32_CASES // max(
            weights.shape[1], 1
        )
        kind: type = np.int32 if whole else np.float64
        every: Array = weights.astype(kind)
        positives = every * self.positive.astype(kind)
        if self.tied:
            every = np.add.reduceat(every, self.starts, axis=1, dtype=kind)
            positives = np.add.reduceat(positives, self.starts, axis=1, dtype=kind)
        return positives, every


def _auroc(target: Floats, score: Floats) -> Evaluator:
    """Return the area under the ROC curve.

    The chance that a positive case scores above a negative one, ties counting one half. Undefined
    without a positive or without a negative case.

    Args:
        target: ``(n,)`` of 0 and 1.
        score: ``(n,)``, higher for the positive class, on any scale.
        weights: ``(replicates, n)`` counts, or None.

    Source:
        Mann-Whitney statistic over ``positives x negatives``; computed from cumulative counts.
    """
    ordered = _Order(target, score, descending=False)

    def evaluate(weights: Array) -> Floats:
        positives, every = ordered.counts(weights)
        upto = np.cumsum(every, axis=1, dtype=every.dtype)
        all_count = upto[:, -1].astype(np.float64)
        narrow = every.dtype == np.int32 and all_count.max(initial=0) <= EXACT_INT32
        exact: type = np.int32 if narrow else np.float64
        twice = 2.0 * np.einsum("rn,rn->r", positives, upto, dtype=exact)
        twice -= np.einsum("rn,rn->r", positives, every, dtype=exact)
        positive_count = np.einsum("rn->r", positives, dtype=exact).astype(np.float64)
        negative_count = all_count - positive_count
        pairs = positive_count * negative_count
        value: Floats = (twice - positive_count**2) / (2 * pairs)
        value[pairs <= 0] = np.nan
        return value

    return evaluate


def _average_precision(target: Floats, score: Floats) -> Evaluator:
    """Return the average precision, the step-wise area under the precision-recall curve.

    The sum over thresholds of (gain in recall) x precision, without interpolation, as
    scikit-learn's ``average_precision_score``. A random score has the prevalence as its
    expectation. Undefined without a positive or without a negative case.
    """
    ordered = _Order(target, score, descending=True)

    def evaluate(weights: Array) -> Floats:
        positives, every = (part.astype(np.float64) for part in ordered.counts(weights))
        found = np.cumsum(positives, axis=1)
        called = np.cumsum(every, axis=1)
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        total = found[:, -1]
        value: Floats = np.einsum("rn,rn->r", positives, precision) / total
        value[(total <= 0) | (called[:, -1] - total <= 0)] = np.nan
        return value

    return evaluate


def _sensitivity_at_specificity(
    target: Floats, score: Floats, specificity: float = 0.9
) -> Evaluator:
    """Return the highest sensitivity of a threshold with at least that specificity.

    A point of the empirical ROC curve, without interpolation; a threshold above all scores
    (sensitivity 0, specificity 1) is always allowed. The threshold is chosen on these very cases,
    so the value flatters a little in small samples. Undefined with one class only.
    """
    ordered = _Order(target, score, descending=True)

    def evaluate(weights: Array) -> Floats:
        positives, every = (part.astype(np.float64) for part in ordered.counts(weights))
        found = np.cumsum(positives, axis=1)
        alarms = np.cumsum(every, axis=1) - found
        allowed = (1 - specificity) * alarms[:, -1:] + 1e-9
        best = np.where(alarms <= allowed, found, 0.0).max(axis=1)
        value: Floats = best / found[:, -1]
        value[(found[:, -1] <= 0) | (alarms[:, -1] <= 0)] = np.nan
        return value

    return evaluate


def _specificity_at_sensitivity(
    target: Floats, score: Floats, sensitivity: float = 0.9
) -> Evaluator:
    """Return the highest specificity of a threshold with at least that sensitivity.

    A point of the empirical ROC curve, without interpolation. Undefined with one class only.
    """
    ordered = _Order(target, score, descending=True)

    def evaluate(weights: Array) -> Floats:
        positives, every = (part.astype(np.float64) for part in ordered.counts(weights))
        found = np.cumsum(positives, axis=1)
        alarms = np.cumsum(every, axis=1) - found
        needed = sensitivity * found[:, -1:] - 1e-9
        fewest = np.where(found >= needed, alarms, np.inf).min(axis=1)
        value: Floats = 1 - fewest / alarms[:, -1]
        value[(found[:, -1] <= 0) | (alarms[:, -1] <= 0)] = np.nan
        return value

    return evaluate


auroc: MetricFunction = binary_metric(_auroc)
average_precision: MetricFunction = binary_metric(_average_precision)
sensitivity_at_specificity: MetricFunction = binary_metric(_sensitivity_at_specificity)
specificity_at_sensitivity: MetricFunction = binary_metric(_specificity_at_sensitivity)
