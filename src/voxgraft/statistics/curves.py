"""Learning curves: performance against the number of training patients, made monotone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from voxgraft.errors import StatisticsError
from voxgraft.statistics.intervals import UNBOUNDED, Interval, performance_interval
from voxgraft.statistics.sample import Floats, MetricLike


def isotonic(values: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Return the nearest non-decreasing values, along the last axis.

    Args:
        values: ``(..., sizes)``, finite.
        weights: ``(sizes,)``; all 1 if None.

    Source:
        Pool adjacent violators, by its min-max formula: the value at ``k`` is the largest over
        ``i ≤ k`` of the smallest over ``j ≥ k`` of the mean from ``i`` to ``j`` (Robertson,
        Wright and Dykstra, 1988, theorem 1.4.4).
    """
    table = np.asarray(values, dtype=np.float64)
    count = table.shape[-1]
    share = np.ones(count) if weights is None else np.asarray(weights, dtype=np.float64)
    zero = np.zeros((*table.shape[:-1], 1))
    sums = np.concatenate([zero, np.cumsum(table * share, axis=-1)], axis=-1)
    totals = np.concatenate([[0.0], np.cumsum(share)])
    result = np.full(table.shape, -np.inf)
    for i in range(count):
        lowest = np.full(table.shape[:-1], np.inf)
        for j in range(count - 1, i - 1, -1):
            mean = (sums[..., j + 1] - sums[..., i]) / (totals[j + 1] - totals[i])
            lowest = np.minimum(lowest, mean)
            result[..., j] = np.maximum(result[..., j], lowest)
    return result


def check_sizes(sizes: Sequence[int], name: str) -> list[int]:
    """Return training sizes in rising order, or refuse them."""
    if not sizes:
        raise StatisticsError(f"{name} has no training size.")
    wrong = [
        size
        for size in sizes
        if not (isinstance(size, int | np.integer) and not isinstance(size, bool) and size > 0)
    ]
    if wrong:
        raise StatisticsError(
            f"{name} has training size(s) {', '.join(map(str, wrong))}; expected whole numbers "
            "of patients above 0."
        )
    return sorted(int(size) for size in sizes)


def interpolated(sizes: Sequence[int], values: ArrayLike, at: float) -> float:
    """Return a curve's value at a size, linear in the logarithm of the size; NaN outside it."""
    if not sizes[0] <= at <= sizes[-1]:
        return math.nan
    points = np.log(np.asarray(sizes, dtype=np.float64))
    return float(np.interp(math.log(at), points, np.asarray(values, dtype=np.float64)))


@dataclass(frozen=True)
class LearningCurve:
    """A start's performance at each training size.

    Attributes:
        sizes: Training patients, rising.
        intervals: Mean over seeds at each size, with its interval (each its own, not a band for
            the whole curve).
        monotone: The nearest curve that never gets worse with more patients; a size whose
            estimate is undefined is NaN here and bridged by its neighbors.
    """

    sizes: tuple[int, ...]
    intervals: tuple[Interval, ...]
    monotone: tuple[float, ...]

    def value_at(self, patients: float) -> float:
        """Return the monotone curve at a size, linear in log size; NaN outside the sizes."""
        known = [
            (size, value)
            for size, value in zip(self.sizes, self.monotone, strict=True)
            if math.isfinite(value)
        ]
        if not known:
            return math.nan
        sizes, values = zip(*known, strict=True)
        return interpolated(sizes, values, patients)


def learning_curve(
    metric: MetricLike,
    target: ArrayLike,
    scores_by_size: Mapping[int, ArrayLike],
    patients: ArrayLike,
    *,
    bounds: tuple[float, float] = UNBOUNDED,
    higher_is_better: bool = True,
    level: float = 0.95,
) -> LearningCurve:
    """Return a start's learning curve.

    Args:
        metric: ``metric(target, score, weights=None)``.
        target: ``(n,)`` or ``(n, columns)``.
        scores_by_size: Training patients -> ``(seeds, n)`` or ``(seeds, n, columns)``.
        patients: ``(n,)`` ids of the test cases.
        bounds: Lowest and highest value of the metric.
        higher_is_better: Direction of the metric.
        level: Of the intervals.

    Raises:
        StatisticsError: If there is no size, a size is no whole number above 0, or as
            :func:`performance_interval`.
    """
    sizes = check_sizes(list(scores_by_size), "the learning curve")
    intervals = [
        performance_interval(
            metric, target, scores_by_size[size], patients, bounds=bounds, level=level
        )
        for size in sizes
    ]
    estimates = np.array([interval.estimate for interval in intervals])
    known = np.isfinite(estimates)
    monotone = np.full(len(sizes), np.nan)
    if known.any():
        sign = 1.0 if higher_is_better else -1.0
        monotone[known] = sign * isotonic(sign * estimates[known])
    return LearningCurve(tuple(sizes), tuple(intervals), tuple(map(float, monotone)))
