"""Metrics of decided classes: accuracy, balanced accuracy, F1.

A binary case is called positive where its score is at least the threshold (0.5). A multi-class
case is given the class of its highest score, the first of equals.
"""

from __future__ import annotations

import numpy as np

from voxgraft.metrics.contract import (
    Array,
    Evaluator,
    Floats,
    MetricFunction,
    binary_metric,
    multiclass_metric,
)


def weighted_sums(weights: Array, columns: Array) -> Floats:
    """Return ``weights @ columns`` in float64: ``(replicates, columns)``."""
    result: Floats = weights.astype(np.float64) @ np.asarray(columns, dtype=np.float64)
    return result


def _accuracy(target: Floats, score: Floats, threshold: float = 0.5) -> Evaluator:
    """Return the share of cases on the right side of the threshold."""
    right = (score >= threshold) == (target > 0)
    return _mean_of(right.astype(np.float64))


def _mean_of(values: Floats) -> Evaluator:
    columns = np.stack([values, np.ones_like(values)], axis=1)

    def evaluate(weights: Array) -> Floats:
        sums = weighted_sums(weights, columns)
        value: Floats = sums[:, 0] / sums[:, 1]
        value[sums[:, 1] <= 0] = np.nan
        return value

    return evaluate


def _balanced_accuracy(target: Floats, score: Floats, threshold: float = 0.5) -> Evaluator:
    """Return the mean of sensitivity and specificity at the threshold.

    Undefined with one class only.
    """
    called, positive = score >= threshold, target > 0
    columns = np.stack([positive & called, positive, ~positive & ~called, ~positive], axis=1)

    def evaluate(weights: Array) -> Floats:
        sums = weighted_sums(weights, columns)
        value: Floats = (sums[:, 0] / sums[:, 1] + sums[:, 2] / sums[:, 3]) / 2
        value[(sums[:, 1] <= 0) | (sums[:, 3] <= 0)] = np.nan
        return value

    return evaluate


def _f1(target: Floats, score: Floats, threshold: float = 0.5) -> Evaluator:
    """Return F1 of the positive class: 2 TP / (2 TP + FP + FN).

    Undefined without a positive case.
    """
    called, positive = score >= threshold, target > 0
    columns = np.stack([positive & called, positive, called], axis=1)

    def evaluate(weights: Array) -> Floats:
        hits, positives, calls = weighted_sums(weights, columns).T
        value: Floats = 2 * hits / (positives + calls)
        value[positives <= 0] = np.nan
        return value

    return evaluate


def _class_columns(target: Floats, score: Floats) -> tuple[Array, Array, Array]:
    """Return hits, members and calls of each class, as ``(n, classes)`` of 0 and 1."""
    classes = np.arange(score.shape[1])
    members = target[:, None] == classes
    calls = score.argmax(axis=1)[:, None] == classes
    return members & calls, members, calls


def _multiclass_accuracy(target: Floats, score: Floats) -> Evaluator:
    """Return the share of cases whose highest score is that of their class."""
    return _mean_of((score.argmax(axis=1) == target).astype(np.float64))


def _multiclass_balanced_accuracy(target: Floats, score: Floats) -> Evaluator:
    """Return the mean recall over the classes that have a case.

    Undefined with fewer than two such classes.
    """
    hits, members, _ = _class_columns(target, score)

    def evaluate(weights: Array) -> Floats:
        found, present = weighted_sums(weights, hits), weighted_sums(weights, members)
        here = present > 0
        recall = np.divide(found, present, out=np.zeros_like(found), where=here)
        value: Floats = recall.sum(axis=1) / here.sum(axis=1)
        value[here.sum(axis=1) < 2] = np.nan
        return value

    return evaluate


def _multiclass_f1(target: Floats, score: Floats) -> Evaluator:
    """Return the mean F1 over the classes that have a case or are called (macro F1).

    Undefined with fewer than two classes among the cases.
    """
    hits, members, calls = _class_columns(target, score)

    def evaluate(weights: Array) -> Floats:
        found, present, called = (weighted_sums(weights, part) for part in (hits, members, calls))
        size = present + called
        here = size > 0
        f1 = np.divide(2 * found, size, out=np.zeros_like(found), where=here)
        value: Floats = f1.sum(axis=1) / here.sum(axis=1)
        value[(present > 0).sum(axis=1) < 2] = np.nan
        return value

    return evaluate


accuracy: MetricFunction = binary_metric(_accuracy)
balanced_accuracy: MetricFunction = binary_metric(_balanced_accuracy)
f1: MetricFunction = binary_metric(_f1)
multiclass_accuracy: MetricFunction = multiclass_metric(_multiclass_accuracy)
multiclass_balanced_accuracy: MetricFunction = multiclass_metric(_multiclass_balanced_accuracy)
multiclass_f1: MetricFunction = multiclass_metric(_multiclass_f1)
