"""Bootstrap over patients: percentile, BCa, and with training seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from voxgraft.errors import StatisticsError
from voxgraft.statistics.intervals import ONE_SEED, UNBOUNDED, Interval
from voxgraft.statistics.jackknife import leave_one_out, spread_over_patients, weighted_values
from voxgraft.statistics.sample import (
    CHUNK_ELEMENTS,
    Array,
    Floats,
    Ints,
    MetricLike,
    Patients,
    check_level,
    check_replicates,
    check_scores,
    check_target,
    class_strata,
    group_patients,
)
from voxgraft.statistics.seeds import mean_uncertainty

Values = Callable[[Array], Floats]
"""Weights ``(replicates, cases)`` to values ``(replicates,)``."""

REPLICATES = 10_000
FEW_PATIENTS = 200
DRAWN_AT_ONCE = 1 << 16
"""Draws held as 64-bit indices at a time: half a MiB stays in the cache."""


def resampled_counts(patients: Patients, replicates: int, seed: int) -> Iterator[Array]:
    """Yield how often each patient stands in each replicate, ``(rows, patients)``, in chunks.

    Patients are drawn with replacement, within their stratum if they have one.
    """
    rng = np.random.Generator(np.random.SFC64(seed))
    rows = max(1, min(replicates, CHUNK_ELEMENTS // max(patients.count, len(patients.group))))
    strata = patients.strata()
    for start in range(0, replicates, rows):
        here = min(rows, replicates - start)
        counts = np.empty((here, patients.count), np.uint16)
        step = max(1, DRAWN_AT_ONCE // patients.count)
        for first in range(0, here, step):
            part = counts[first : first + step]
            part[...] = _drawn(rng, strata, len(part), patients.count)
        yield counts


def _drawn(rng: np.random.Generator, strata: list[Ints], rows: int, patients: int) -> Array:
    """Draw patients with replacement within strata; return counts ``(rows, patients)``."""
    offset = (np.arange(rows) * patients)[:, None]
    flat = []
    for members in strata:
        chosen = rng.integers(0, len(members), (rows, len(members)))
        if len(members) < patients:
            chosen = np.take(members, chosen)
        chosen += offset
        flat.append(chosen.ravel())
    drawn = flat[0] if len(flat) == 1 else np.concatenate(flat)
    return np.bincount(drawn, minlength=rows * patients).reshape(rows, patients)


def expanded_tail(level: float, patients: Patients) -> float:
    """Return the tail to cut off for a percentile interval of few patients.

    Source:
        Hesterberg (2015), section 5.3: the percentile interval of a mean is too narrow by
        sqrt((n − 1) / n) and by the normal in place of the t quantile.
    """
    count = patients.count
    quantile = float(stats.t.ppf((1 - level) / 2, count - 1))
    return float(stats.norm.cdf(math.sqrt(count / (count - 1)) * quantile))


def _quantiles(draws: Floats, shares: tuple[float, float]) -> tuple[float, float]:
    low, high = np.quantile(draws, np.clip(shares, 0.0, 1.0))
    return float(low), float(high)


def _undefined_note(undefined: int, replicates: int) -> str:
    if not undefined:
        return ""
    return (
        f"{undefined} of {replicates} replicates left the metric undefined (a class was not "
        "drawn); they are left out"
    )


def bootstrap(
    values: Values,
    patients: ArrayLike,
    *,
    method: Literal["percentile", "bca"] = "bca",
    replicates: int = REPLICATES,
    seed: int = 0,
    level: float = 0.95,
    strata: ArrayLike | None = None,
) -> Interval:
    """Bootstrap a statistic over patients.

    It claims to cover the statistic's value in the population of patients, for the very run (or
    the very runs) that were trained. Replicates that leave the statistic undefined are left out
    and counted; with more than 5% of them there is no interval.

    Args:
        values: Weights ``(replicates, cases)`` to values ``(replicates,)``; a metric with its
            arrays bound, as ``lambda weights: auroc(target, score, weights)``.
        patients: ``(cases,)`` ids; a patient's cases are drawn together.
        method: ``"bca"`` (bias-corrected and accelerated) or ``"percentile"``, the latter widened
            for few patients.
        replicates: Draws.
        seed: Of the draws.
        level: Of the interval.
        strata: ``(cases,)`` classes within which patients are drawn, or None.

    Returns:
        The interval; NaN ends with a note where it cannot be given.

    Raises:
        StatisticsError: On an unknown method, shapes that differ, or no case.

    Source:
        Efron (1987) for BCa, the acceleration from leaving patients out; Hesterberg (2015),
        section 5.3, for the widened percentile.
    """
    if method not in ("percentile", "bca"):
        raise StatisticsError(f"method is {method!r}; expected 'percentile' or 'bca'.")
    check_level(level)
    check_replicates(replicates)
    cases = len(np.asarray(patients))
    grouped = group_patients(patients, cases, strata)
    estimate = float(np.asarray(values(np.ones((1, cases), np.uint8)))[0])

    def result(low: float, high: float, note: str, undefined: int = 0) -> Interval:
        return Interval(
            estimate,
            low,
            high,
            level,
            f"{method} bootstrap over patients",
            grouped.count,
            1,
            replicates,
            undefined,
            note,
        )

    if not math.isfinite(estimate):
        return result(math.nan, math.nan, "the statistic is undefined for these patients")
    if grouped.count < 2:
        return result(math.nan, math.nan, "one patient: no interval can be given")
    draws = np.concatenate(
        [
            np.asarray(values(grouped.cases(counts)), dtype=np.float64)
            for counts in resampled_counts(grouped, replicates, seed)
        ]
    )
    defined = draws[np.isfinite(draws)]
    undefined = replicates - len(defined)
    note = _undefined_note(undefined, replicates)
    if undefined > 0.05 * replicates:
        return result(math.nan, math.nan, f"{note}: too many, no interval is given", undefined)
    notes = [note] if note else []
    if np.ptp(defined) == 0:
        notes.append("no replicate changes the value")
        return result(estimate, estimate, "; ".join(notes), undefined)
    tail = expanded_tail(level, grouped)
    if method == "percentile":
        if grouped.count < FEW_PATIENTS:
            notes.append(
                f"{grouped.count} patients: a percentile interval near a bound covers too little"
            )
        low, high = _quantiles(defined, (tail, 1 - tail))
        return result(low, high, "; ".join(notes), undefined)
    shares = _bca_shares(values, grouped, defined, estimate, (1 - level) / 2)
    low, high = _quantiles(defined, shares)
    return result(low, high, "; ".join(notes), undefined)


def _bca_shares(
    values: Values, grouped: Patients, draws: Floats, estimate: float, tail: float
) -> tuple[float, float]:
    """Return the quantiles of the draws that BCa takes."""
    below = (np.mean(draws < estimate) + np.mean(draws <= estimate)) / 2
    edge = 1 / (len(draws) + 1)
    bias = float(stats.norm.ppf(np.clip(below, edge, 1 - edge)))
    placeholder = np.zeros(len(grouped.group))
    left, strata = leave_one_out(
        lambda _target, _score, weights=None: values(weights),  # type: ignore[arg-type]
        placeholder,
        placeholder[None],
        grouped,
    )
    cubes = squares = 0.0
    for members in strata:
        kept = left[0, members]
        kept = kept[np.isfinite(kept)]
        if len(kept) < 2:
            continue
        away = (kept.mean() - kept) * (len(kept) - 1) / len(kept)
        cubes += float((away**3).sum())
        squares += float((away**2).sum())
    acceleration = cubes / (6 * squares**1.5) if squares > 0 else 0.0

    def share(z: float) -> float:
        shifted = bias + z
        return float(stats.norm.cdf(bias + shifted / (1 - acceleration * shifted)))

    quantile = float(stats.norm.ppf(tail))
    return share(quantile), share(-quantile)


def hierarchical_bootstrap(
    metric: MetricLike,
    target: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike,
    *,
    bounds: tuple[float, float] = UNBOUNDED,
    replicates: int = REPLICATES,
    seed: int = 0,
    level: float = 0.95,
) -> Interval:
    """Bootstrap a start's mean performance over patients and training seeds.

    Each replicate draws patients, the same for all seeds, and adds a draw of the seeds' error: a
    t variable with ``seeds − 1`` degrees of freedom times their standard error. (Drawing three
    seeds with replacement instead gives two thirds of their variance and covers too little.) The
    ends are those of BCa for the patients' draws. :func:`performance_interval` claims the same
    and is the one that a comparison uses: it covers better with few patients.

    Args:
        metric: ``metric(target, score, weights=None)``.
        target: ``(n,)`` or ``(n, columns)``.
        scores: ``(seeds, n)`` or ``(seeds, n, columns)``.
        patients: ``(n,)`` ids.
        bounds: Lowest and highest value of the metric; the ends do not leave them.
        replicates: Draws.
        seed: Of the draws.
        level: Of the interval.

    Raises:
        StatisticsError: If shapes differ, a score is not finite, or there is no case.
    """
    check_level(level)
    check_replicates(replicates)
    truth = check_target(target)
    runs = check_scores(scores, len(truth))
    grouped = group_patients(patients, len(truth), class_strata(metric, truth, runs[0]))
    values = np.array([float(metric(truth, run)) for run in runs])
    estimate = float(values.mean())
    method = f"hierarchical bootstrap over patients{' and seeds' if len(runs) > 1 else ''}"

    def result(low: float, high: float, note: str, undefined: int = 0) -> Interval:
        return Interval(
            estimate,
            low,
            high,
            level,
            method,
            grouped.count,
            len(runs),
            replicates,
            undefined,
            note,
        )

    spread = None
    if math.isfinite(estimate) and grouped.count > 1:
        spread = spread_over_patients(metric, truth, runs, grouped, values)
    if spread is None:
        return result(math.nan, math.nan, "too few patients of a class: no interval can be given")
    draws = np.concatenate(
        [
            weighted_values(metric, truth, runs, grouped.cases(counts)).mean(axis=0)
            for counts in resampled_counts(grouped, replicates, seed)
        ]
    )
    defined = draws[np.isfinite(draws)]
    undefined = replicates - len(defined)
    notes = [_undefined_note(undefined, replicates), "" if len(runs) > 1 else ONE_SEED]
    if undefined > 0.05 * replicates:
        return result(math.nan, math.nan, f"{notes[0]}: too many, no interval", undefined)
    shares = _bca_shares(
        lambda weights: weighted_values(metric, truth, runs, weights).mean(axis=0),
        grouped,
        defined,
        estimate,
        (1 - level) / 2,
    )
    uncertainty = mean_uncertainty(values, spread)
    rng = np.random.default_rng([seed, 1])
    defined = defined + uncertainty.seed_errors(len(defined), rng, cautious=False)
    low, high = _quantiles(np.clip(defined, *bounds), shares)
    return result(low, high, "; ".join(filter(None, notes)), undefined)
