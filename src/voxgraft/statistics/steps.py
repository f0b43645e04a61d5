"""Metrics that move in steps: shares of right decisions in few patients.

Balanced accuracy of 6 positive patients is one of 7 shares in that class. If all 6 are right, the
sample shows no spread there, and an interval from it is far too narrow. As for a single share, half
a patient is added at either extreme of each class: one scored as low, one as high as any.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voxgraft.statistics.jackknife import MAX_GROUPS, Spread, weighted_values
from voxgraft.statistics.sample import (
    CHUNK_ELEMENTS,
    Array,
    Floats,
    MetricLike,
    Patients,
)

HALF = 0.5


@dataclass(frozen=True)
class Extended:
    """The sample with its half patients.

    Attributes:
        estimate: ``(seeds,)`` values with them.
        spread: Their covariance; its degrees of freedom are those of a normal quantile.
    """

    estimate: Floats
    spread: Spread


def _extremes(runs: Floats, label: int) -> tuple[Floats, Floats] | None:
    """Return the worst and the best scores ``(seeds,[ columns])`` for a class, or None."""
    if runs.ndim == 2:
        low, high = runs.min(axis=1), runs.max(axis=1)
        return (low, high) if label > 0 else (high, low)
    classes = runs.shape[2]
    if label >= classes or classes < 2:
        return None
    right, wrong = np.zeros((len(runs), classes)), np.zeros((len(runs), classes))
    right[:, label] = 1.0
    wrong[:, (label + 1) % classes] = 1.0
    return wrong, right


def extended_by_halves(
    metric: MetricLike, target: Array, runs: Floats, patients: Patients, spread: Spread
) -> Extended | None:
    """Return estimate and spread with half patients, or None where the metric has no steps.

    Args:
        metric: The metric.
        target: ``(n,)`` class indices.
        runs: ``(seeds, n[, classes])``.
        patients: With one case each, else None is returned.
        spread: Of the sample as it is.

    Source:
        Agresti and Caffo (2000) add one success and one failure to each of two shares; halves
        cover better here (``benchmarks/interval_coverage.py``).
    """
    count = len(target)
    if (
        spread.steps > len(runs) + 1
        or target.ndim != 1
        or not patients.single_cases
        or count > MAX_GROUPS
        or not np.array_equal(target, np.floor(target))
        or target.min() < 0
    ):
        return None
    strata = patients.strata()
    labels = [int(np.bincount(target[members].astype(np.intp)).argmax()) for members in strata]
    added = [_extremes(runs, label) for label in labels]
    extremes = [pair for pair in added if pair is not None]
    if len(extremes) < len(strata):
        return None
    extra = np.stack([side for pair in extremes for side in pair], axis=1)
    scores = np.concatenate([runs, extra], axis=1)
    truth = np.concatenate([target, np.repeat(labels, 2)]).astype(np.float64)
    base = np.concatenate([np.ones(count), np.full(2 * len(strata), HALF)])
    estimate = weighted_values(metric, truth, scores, base[None])[:, 0]
    left = np.empty((len(runs), len(base)))
    rows = max(1, CHUNK_ELEMENTS // len(base))
    for start in range(0, len(base), rows):
        chosen = np.arange(start, min(len(base), start + rows))
        weights = np.tile(base, (len(chosen), 1))
        weights[np.arange(len(chosen)), chosen] = 0.0
        left[:, chosen] = weighted_values(metric, truth, scores, weights)
    away = left - estimate[:, None]
    if not np.isfinite(away).all():
        return None
    parts = []
    for index, members in enumerate(strata):
        total = len(members) + 2 * HALF
        halves = count + 2 * index + np.arange(2)
        change = np.concatenate(
            [away[:, members], away[:, halves] / HALF * (total - HALF) / (total - 1)], axis=1
        )
        share = np.r_[np.ones(len(members)), np.full(2, HALF)]
        parts.append((total - 1) / total * (change * share) @ change.T)
    normal = tuple(10**9 for _ in strata)
    return Extended(estimate, Spread(np.sum(parts, axis=0), tuple(parts), normal, spread.steps))
