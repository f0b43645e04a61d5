"""DeLong's variance of AUROCs on the same patients, from midranks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from voxgraft.errors import StatisticsError
from voxgraft.statistics.sample import Array, Floats, check_level, check_scores, check_target


@dataclass(frozen=True)
class DeLong:
    """One AUROC.

    Attributes:
        auroc: The area.
        variance: DeLong's.
        low: Lower end on the logit scale.
        high: Upper end.
        level: Of the interval.
    """

    auroc: float
    variance: float
    low: float
    high: float
    level: float


@dataclass(frozen=True)
class DeLongTest:
    """Two AUROCs of the same cases.

    Attributes:
        auroc_a: Of the first score.
        auroc_b: Of the second.
        difference: a − b.
        variance: Of the difference.
        covariance: ``(2, 2)`` of the two areas.
        z: Difference over its standard error; NaN if that is 0.
        p_value: Two-sided, normal; 1 if the two orders are the same.
        low: Lower end of the interval of the difference.
        high: Upper end.
        level: Of the interval.
    """

    auroc_a: float
    auroc_b: float
    difference: float
    variance: float
    covariance: Floats
    z: float
    p_value: float
    low: float
    high: float
    level: float


def _midranks(values: Floats) -> Floats:
    """Return ranks from 1, equal values sharing the middle of theirs."""
    return np.asarray(stats.rankdata(values, method="average"), dtype=np.float64)


def delong_covariance(target: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Return the AUROCs of several scores of the same cases and their covariance.

    Args:
        target: ``(n,)`` of 0 and 1.
        scores: ``(scores, n)`` or ``(n,)``.

    Returns:
        ``(scores,)`` areas and ``(scores, scores)`` covariance.

    Raises:
        StatisticsError: If the target is not 0 and 1, or a class has fewer than two cases.

    Source:
        DeLong, DeLong and Clarke-Pearson (1988); computed as Sun and Xu (2014), algorithm 2.
    """
    truth: Array = check_target(target)
    if truth.ndim != 1 or not np.isin(truth, (0, 1)).all():
        raise StatisticsError("DeLong needs a target of 0 and 1, one a case.")
    runs = check_scores(scores, len(truth))
    if runs.ndim != 2:
        raise StatisticsError(f"DeLong needs one score a case; scores have shape {runs.shape}.")
    positive = truth > 0
    count, others = int(positive.sum()), int((~positive).sum())
    if min(count, others) < 2:
        raise StatisticsError(
            f"DeLong needs two cases of each class; there are {count} positive and {others} "
            "negative ones."
        )
    areas = np.empty(len(runs))
    of_positives, of_negatives = np.empty((len(runs), count)), np.empty((len(runs), others))
    for index, run in enumerate(runs):
        both = _midranks(run)
        of_positives[index] = (both[positive] - _midranks(run[positive])) / others
        of_negatives[index] = 1 - (both[~positive] - _midranks(run[~positive])) / count
        areas[index] = of_positives[index].mean()
    covariance = np.atleast_2d(np.cov(of_positives)) / count
    covariance = covariance + np.atleast_2d(np.cov(of_negatives)) / others
    return areas, covariance


def delong(target: ArrayLike, score: ArrayLike, level: float = 0.95) -> DeLong:
    """Return an AUROC with DeLong's variance and a logit interval.

    Where the area is 0 or 1 the variance is 0 and the interval is that single point: it then
    says nothing; :func:`performance_interval` gives an exact bound instead.

    Raises:
        StatisticsError: As :func:`delong_covariance`.
    """
    check_level(level)
    areas, covariance = delong_covariance(target, score)
    area, variance = float(areas[0]), max(0.0, float(covariance[0, 0]))
    if variance <= 0 or area in (0.0, 1.0):
        return DeLong(area, variance, area, area, level)
    reach = float(stats.norm.ppf((1 + level) / 2)) * math.sqrt(variance) / (area * (1 - area))
    center = math.log(area / (1 - area))
    low, high = (1 / (1 + math.exp(-(center + side * reach))) for side in (-1, 1))
    return DeLong(area, variance, low, high, level)


def delong_test(
    target: ArrayLike, score_a: ArrayLike, score_b: ArrayLike, level: float = 0.95
) -> DeLongTest:
    """Compare two AUROCs of the same cases by DeLong's test.

    It covers the patients only: two trainings of one start may well differ by it.

    Raises:
        StatisticsError: As :func:`delong_covariance`.
    """
    check_level(level)
    truth = check_target(target)
    pair = [check_scores(score, len(truth)) for score in (score_a, score_b)]
    if any(len(score) != 1 for score in pair):
        raise StatisticsError("DeLong compares two single runs; pass one score a case of each.")
    areas, covariance = delong_covariance(truth, np.concatenate(pair))
    difference = float(areas[0] - areas[1])
    variance = max(0.0, float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    error = math.sqrt(variance)
    if error > 1e-12:
        z = difference / error
        p_value = float(2 * stats.norm.sf(abs(z)))
    else:
        z, p_value = math.nan, 1.0 if difference == 0 else math.nan
    reach = float(stats.norm.ppf((1 + level) / 2)) * error
    return DeLongTest(
        float(areas[0]),
        float(areas[1]),
        difference,
        variance,
        covariance,
        z,
        p_value,
        difference - reach,
        difference + reach,
        level,
    )
