"""Metrics of numbers: MAE, RMSE, R², Pearson and Spearman correlation."""

from __future__ import annotations

import numpy as np

from voxgraft.metrics.contract import (
    Array,
    Evaluator,
    Floats,
    MetricFunction,
    regression_metric,
)
from voxgraft.metrics.decisions import _mean_of, weighted_sums

ROUNDING = 1e-13
"""Spread below this share of the squared values is rounding: the values are constant."""


def _mae(target: Floats, score: Floats) -> Evaluator:
    """Return the mean absolute error, in the target's unit."""
    return _mean_of(np.abs(score - target))


def _rmse(target: Floats, score: Floats) -> Evaluator:
    """Return the root of the mean squared error, in the target's unit."""
    mean_square = _mean_of((score - target) ** 2)
    return lambda weights: np.sqrt(mean_square(weights))


def _is_constant(values: Floats) -> bool:
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max(initial=0.0))


def _centered(values: Floats) -> Floats:
    """Return ``values`` less their mean, exactly 0 if they are all equal up to rounding."""
    if _is_constant(values):
        return np.zeros_like(values)
    centered: Floats = values - values.mean()
    return centered


def _r2(target: Floats, score: Floats) -> Evaluator:
    """Return the coefficient of determination, 1 − SSE / SST.

    0 is what the mean of these very cases would reach; it can be negative. Undefined for fewer
    than two cases and for equal targets.
    """
    centered = _centered(target)
    columns = np.stack([(score - target) ** 2, centered**2, centered, np.ones_like(target)], axis=1)

    def evaluate(weights: Array) -> Floats:
        errors, squares, sums, count = weighted_sums(weights, columns).T
        spread = squares - sums**2 / count
        value: Floats = 1 - errors / spread
        value[~(spread > ROUNDING * squares)] = np.nan
        return value

    return evaluate


def _pearson(target: Floats, score: Floats) -> Evaluator:
    """Return Pearson's correlation of target and prediction.

    Undefined for fewer than two cases, equal targets and constant predictions.
    """
    x, y = _centered(score), _centered(target)
    columns = np.stack([x * y, x * x, y * y, x, y, np.ones_like(x)], axis=1)

    def evaluate(weights: Array) -> Floats:
        xy, xx, yy, sum_x, sum_y, count = weighted_sums(weights, columns).T
        spread_x, spread_y = xx - sum_x**2 / count, yy - sum_y**2 / count
        value: Floats = (xy - sum_x * sum_y / count) / np.sqrt(spread_x * spread_y)
        value[~((spread_x > ROUNDING * xx) & (spread_y > ROUNDING * yy))] = np.nan
        return np.clip(value, -1, 1)

    return evaluate


class _Midranks:
    """Weighted midranks of one variable: those of the sample with repeated cases."""

    def __init__(self, values: Floats) -> None:
        distinct, self.group = np.unique(values, return_inverse=True)
        self.order = np.argsort(self.group, kind="stable")
        self.starts = np.searchsorted(self.group[self.order], np.arange(len(distinct)))

    def __call__(self, weights: Floats) -> Floats:
        size = np.add.reduceat(weights[:, self.order], self.starts, axis=1)
        rank = np.cumsum(size, axis=1) - (size - 1) / 2
        ranks: Floats = rank[:, self.group]
        return ranks


def _spearman(target: Floats, score: Floats) -> Evaluator:
    """Return Spearman's rank correlation, equal values sharing their midrank.

    Undefined for fewer than two cases, equal targets and constant predictions.
    """
    ranks_x, ranks_y = _Midranks(score), _Midranks(target)

    def evaluate(weights: Array) -> Floats:
        counts = weights.astype(np.float64)
        total = counts.sum(axis=1, keepdims=True)
        x, y = (ranks(counts) - (total + 1) / 2 for ranks in (ranks_x, ranks_y))
        xy, xx, yy = (np.einsum("rn,rn,rn->r", counts, a, b) for a, b in ((x, y), (x, x), (y, y)))
        value: Floats = xy / np.sqrt(xx * yy)
        scale = ROUNDING * total[:, 0] ** 3
        value[~((xx > scale) & (yy > scale))] = np.nan
        return np.clip(value, -1, 1)

    return evaluate


mae: MetricFunction = regression_metric(_mae)
rmse: MetricFunction = regression_metric(_rmse)
r2: MetricFunction = regression_metric(_r2)
pearson: MetricFunction = regression_metric(_pearson)
spearman: MetricFunction = regression_metric(_spearman)
