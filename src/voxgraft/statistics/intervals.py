"""Intervals for one start: over patients, and over patients and training seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from voxgraft.statistics.jackknife import spread_over_patients
from voxgraft.statistics.permutation import rank_based
from voxgraft.statistics.sample import (
    MetricLike,
    Patients,
    check_level,
    check_scores,
    check_target,
    class_strata,
    group_patients,
)
from voxgraft.statistics.scales import scale_of
from voxgraft.statistics.seeds import mean_uncertainty
from voxgraft.statistics.steps import extended_by_halves

UNBOUNDED = (-math.inf, math.inf)


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval.

    Attributes:
        estimate: The value on all patients, the mean over seeds; NaN if undefined.
        low: Lower end; NaN if it cannot be estimated.
        high: Upper end.
        level: What share of such intervals is to cover the truth.
        method: How it was made.
        n_patients: Test patients.
        n_seeds: Training seeds.
        replicates: Replicates behind it: bootstrap draws, or patients left out.
        undefined: Replicates that left the metric undefined (dropped).
        note: What the interval does not cover, or why there is none.
    """

    estimate: float
    low: float
    high: float
    level: float
    method: str
    n_patients: int
    n_seeds: int
    replicates: int = 0
    undefined: int = 0
    note: str = ""


ONE_SEED = "one training seed: the interval covers other patients, not other trainings"


def without_spread(
    estimate: float, bounds: tuple[float, float], patients: Patients, level: float
) -> tuple[float, float, str]:
    """Return ends for a value that no left-out patient changes.

    A perfect (or worst) value says no more than "none of the ``n`` patients of the rarer class
    was missed": the exact binomial bound of that. Any other value is exactly that, as the 0.5 of
    a constant prediction.

    Source:
        Clopper and Pearson (1934), the case of no failure.
    """
    rarer = min(len(members) for members in patients.strata())
    reach = 1 - ((1 - level) / 2) ** (1 / rarer)
    low, high = bounds
    if estimate == high and math.isfinite(low):
        text = f"perfect on all {patients.count} patients; exact bound from the {rarer} rarer ones"
        return high - reach * (high - low), high, text
    if estimate == low and math.isfinite(high):
        text = f"the worst value on all {patients.count} patients; exact bound from {rarer} of them"
        return low, low + reach * (high - low), text
    return estimate, estimate, "no patient changes the value"


def performance_interval(
    metric: MetricLike,
    target: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike,
    *,
    bounds: tuple[float, float] = UNBOUNDED,
    level: float = 0.95,
    undefined: bool = False,
) -> Interval:
    """Return a start's mean performance over training seeds, with its interval.

    It claims to cover the performance expected of a new training (another seed) on the population
    of patients of which the test patients are a sample; with one seed, that of this very run.

    The variance over patients is the jackknife's, by class for a metric that does not depend on
    the classes' shares (for the AUROC: DeLong's, made unbiased); that over seeds is estimated
    from the runs, less what the patients explain; the interval is a t interval on the logit or
    log scale that the bounds suggest. A share of right decisions gets half a patient at either
    extreme of each class first. Simulated coverage: ``benchmarks/interval_coverage.py``.

    Args:
        metric: ``metric(target, score, weights=None)``.
        target: ``(n,)`` or ``(n, columns)``.
        scores: ``(seeds, n)`` or ``(seeds, n, columns)``.
        patients: ``(n,)`` ids; equal ids are one patient.
        bounds: Lowest and highest value of the metric.
        level: Of the interval.
        undefined: Whether target and scores may hold NaN, which the metric leaves out, as that of
            a segmentation does with structures that a case does not annotate.

    Returns:
        The interval; NaN ends with a note where it cannot be estimated.

    Raises:
        StatisticsError: If shapes differ, a score is not finite, or there is no case.
    """
    scale = scale_of(bounds)
    check_level(level)
    truth = check_target(target, undefined=undefined)
    runs = check_scores(scores, len(truth), undefined=undefined)
    values = np.array([float(metric(truth, run)) for run in runs])
    grouped = group_patients(patients, len(truth), class_strata(metric, truth, runs[0]))
    estimate = float(values.mean())
    method = f"jackknife t over patients{' and seeds' if len(runs) > 1 else ''}"
    method += f", {scale.name} scale" if scale.name != "identity" else ""

    def result(low: float, high: float, note: str, used: int = 0) -> Interval:
        return Interval(estimate, low, high, level, method, grouped.count, len(runs), used, 0, note)

    if not math.isfinite(estimate):
        return result(math.nan, math.nan, "the metric is undefined for these patients")
    if grouped.count < 2:
        return result(math.nan, math.nan, "one patient: no interval can be given")
    spread = spread_over_patients(metric, truth, runs, grouped, values)
    if spread is None:
        return result(math.nan, math.nan, "too few patients of a class: no interval can be given")
    extended = None
    in_steps = all(map(math.isfinite, bounds)) and not undefined
    if in_steps and not rank_based(metric, truth, runs):
        extended = extended_by_halves(metric, truth, runs, grouped, spread)
    uncertainty = mean_uncertainty(values, extended.spread if extended else spread)
    notes = [] if len(runs) > 1 else [ONE_SEED]
    used = sum(spread.sizes)
    if uncertainty.total <= 1e-24 or (estimate in bounds and extended is None):
        low, high, text = without_spread(estimate, bounds, grouped, level)
        return result(low, high, "; ".join([text, *notes]), used)
    middle = float(extended.estimate.mean()) if extended else estimate
    reach = uncertainty.half_width(level) * scale.slope(middle)
    center = scale.forward(middle)
    low = min(scale.backward(center - reach), estimate)
    high = max(scale.backward(center + reach), estimate)
    return result(low, high, "; ".join(notes), used)
