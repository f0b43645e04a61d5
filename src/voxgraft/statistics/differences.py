"""Two starts on the same patients: the difference, its interval, its p-value, Holm's correction."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from voxgraft.errors import StatisticsError
from voxgraft.statistics.intervals import UNBOUNDED
from voxgraft.statistics.jackknife import spread_over_patients
from voxgraft.statistics.lopsided import arm_reach, ends_without_spread, lopsided_ends
from voxgraft.statistics.permutation import (
    comparable_scores,
    swapped_differences,
    two_sided,
)
from voxgraft.statistics.sample import (
    Floats,
    MetricLike,
    check_level,
    check_replicates,
    check_scores,
    check_target,
    class_strata,
    group_patients,
)
from voxgraft.statistics.seeds import Uncertainty, difference_uncertainty, mean_uncertainty

REPLICATES = 10_000
ONE_SEED = (
    "one training seed each: the difference is that of these two runs; training again may give "
    "another, and neither interval nor p-value covers that"
)


@dataclass(frozen=True)
class Difference:
    """Start a minus start b on the same patients.

    Attributes:
        estimate: Difference of the means over seeds.
        low: Lower end of its interval; NaN if it cannot be estimated.
        high: Upper end.
        level: Of the interval.
        p_value: Permutation of starts within patients, with the seeds' error added if there are
            several; two-sided.
        p_patients: The permutation alone: are these very runs different on such patients?
        p_holm: ``p_value`` corrected within its family by :func:`adjust`; NaN before.
        value_a: Mean over seeds of a.
        value_b: Mean over seeds of b.
        n_patients: Test patients.
        n_seeds_a: Trainings of a.
        n_seeds_b: Trainings of b.
        higher_is_better: Direction of the metric.
        method: How interval and p-value were made.
        note: What is not covered, or why there is no interval.
    """

    estimate: float
    low: float
    high: float
    level: float
    p_value: float
    p_patients: float
    p_holm: float
    value_a: float
    value_b: float
    n_patients: int
    n_seeds_a: int
    n_seeds_b: int
    higher_is_better: bool
    method: str
    note: str = ""

    @property
    def p_decisive(self) -> float:
        """The corrected p-value if there is one, else the plain one."""
        return self.p_value if math.isnan(self.p_holm) else self.p_holm

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    @property
    def shown(self) -> bool:
        """Whether a difference is shown: interval without 0 and corrected p within 1 − level."""
        return self.excludes_zero and self.p_decisive <= 1 - self.level + 1e-12

    @property
    def favors_a(self) -> bool:
        """Whether the estimate speaks for a."""
        return (self.estimate > 0) == self.higher_is_better


def paired_difference(
    metric: MetricLike,
    target: ArrayLike,
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    patients: ArrayLike,
    *,
    pair_seeds: bool = False,
    bounds: tuple[float, float] = UNBOUNDED,
    higher_is_better: bool = True,
    replicates: int = REPLICATES,
    seed: int = 0,
    level: float = 0.95,
    undefined: bool = False,
) -> Difference:
    """Compare two starts on the same patients.

    With several seeds, interval and p-value claim to cover the difference expected of new
    trainings on the population of patients: a start compared with itself under other seeds shows
    a difference in at most ``1 − level`` of comparisons. With one seed they cover the patients
    only, and the note says so.

    The interval comes from the jackknife's variance of the difference over patients plus the
    seeds' variance, by a t quantile, and is as lopsided near a bound as those of the two starts.
    The p-value swaps the starts' answers within patients (all ``2^n`` swaps
    up to 13 patients, else drawn ones with the +1 rule) and adds to each swap a draw of the
    seeds' error.

    Args:
        metric: ``metric(target, score, weights=None)``.
        target: ``(n,)`` or ``(n, columns)``.
        scores_a: ``(seeds, n)`` or ``(seeds, n, columns)`` of start a.
        scores_b: The same of start b, on the same cases in the same order.
        patients: ``(n,)`` ids.
        pair_seeds: Whether the seeds' variance is that of the differences run by run. That pays
            if run ``k`` of both starts was trained on its own draw ``k`` of patients. Seeds that
            share no more than their number are better left unpaired: twice the degrees of
            freedom, and valid (wider, if anything) where the runs go together.
        bounds: Lowest and highest value of the metric. If both are finite, each start's part of
            the interval is lopsided near them.
        higher_is_better: Direction of the metric.
        replicates: Swaps drawn.
        seed: Of the swaps.
        level: Of the interval.
        undefined: Whether target and scores may hold NaN, which the metric leaves out, as that of
            a segmentation does with structures that a case does not annotate.

    Raises:
        StatisticsError: If shapes differ, a score is not finite, there is no case, or seeds are
            to be paired and their numbers differ.

    Source:
        Bandos, Rockette and Gur (2005) for the swaps; the seeds' error is ours and checked in
        ``benchmarks/null_comparison.py``.
    """
    check_level(level)
    check_replicates(replicates)
    truth = check_target(target, undefined=undefined)
    runs_a = check_scores(scores_a, len(truth), "scores_a", undefined=undefined)
    runs_b = check_scores(scores_b, len(truth), "scores_b", undefined=undefined)
    if runs_a.shape[2:] != runs_b.shape[2:]:
        raise StatisticsError(
            f"scores_a has shape {runs_a.shape} and scores_b {runs_b.shape}; both starts need the "
            "same columns."
        )
    if pair_seeds and len(runs_a) != len(runs_b):
        raise StatisticsError(
            f"seeds cannot be paired: a has {len(runs_a)} and b has {len(runs_b)}. Leave "
            "pair_seeds out, or pass the same seeds of both."
        )
    runs = np.concatenate([runs_a, runs_b])
    values = np.array([float(metric(truth, run)) for run in runs])
    values_a, values_b = values[: len(runs_a)], values[len(runs_a) :]
    value_a, value_b = float(values_a.mean()), float(values_b.mean())
    grouped = group_patients(patients, len(truth), class_strata(metric, truth, runs_a[0]))
    several = min(len(runs_a), len(runs_b)) > 1

    def result(low: float, high: float, p: float, p_patients: float, note: str) -> Difference:
        kind = ("paired seeds" if pair_seeds else "unpaired seeds") if several else "one seed"
        return Difference(
            value_a - value_b,
            low,
            high,
            level,
            p,
            p_patients,
            math.nan,
            value_a,
            value_b,
            grouped.count,
            len(runs_a),
            len(runs_b),
            higher_is_better,
            f"jackknife t interval; paired permutation ({kind})",
            note,
        )

    nan = math.nan
    if not math.isfinite(value_a - value_b):
        return result(nan, nan, nan, nan, "the metric is undefined for these patients")
    if grouped.count < 2:
        return result(nan, nan, nan, nan, "one patient: no difference can be tested")
    notes = [] if several else [ONE_SEED]
    if len(runs_a) == len(runs_b) and np.array_equal(runs_a, runs_b, equal_nan=undefined):
        return result(0.0, 0.0, 1.0, 1.0, "; ".join(["the predictions are identical", *notes]))
    swap_a, swap_b = runs_a, runs_b
    if not undefined:
        swap_a, swap_b = comparable_scores(metric, truth, runs_a, runs_b)
    null, exact = swapped_differences(metric, truth, swap_a, swap_b, grouped, replicates, seed)
    p_patients = two_sided(value_a - value_b, null, exact=exact)
    spread = spread_over_patients(metric, truth, runs, grouped, values)
    if spread is None:
        notes.insert(0, "too few patients of a class: no interval can be given")
        return result(nan, nan, nan if several else p_patients, p_patients, "; ".join(notes))
    uncertainty = difference_uncertainty(values_a, values_b, spread, paired=pair_seeds)
    p_value = _with_seeds(value_a - value_b, null, uncertainty, seed, exact=exact)
    if uncertainty.total <= 1e-24:
        low, high, text = ends_without_spread(value_a, value_b, bounds, grouped, level)
        return result(low, high, p_value, p_patients, "; ".join([text, *notes]))
    half_width = uncertainty.half_width(level)
    quantile = half_width / math.sqrt(uncertainty.total)
    variance_a, variance_b = (
        mean_uncertainty(values[part], spread.of(part)).total
        for part in (slice(None, len(runs_a)), slice(len(runs_a), None))
    )
    arms = (
        arm_reach(value_a, variance_a, quantile, bounds, grouped, level),
        arm_reach(value_b, variance_b, quantile, bounds, grouped, level),
    )
    low, high = lopsided_ends(value_a - value_b, half_width, quantile, arms)
    return result(low, high, p_value, p_patients, "; ".join(notes))


def _with_seeds(
    observed: float, null: Floats, uncertainty: Uncertainty, seed: int, *, exact: bool
) -> float:
    """Return the p-value with the seeds' error added to each swap."""
    if uncertainty.seeds_degrees <= 0 or uncertainty.observed <= 0:
        return two_sided(observed, null, exact=exact)
    wide = np.tile(null, max(1, -(-REPLICATES // len(null))))
    rng = np.random.default_rng([seed, 2])
    errors = uncertainty.seed_errors(len(wide), rng, cautious=True)
    return two_sided(observed, wide + errors, exact=False)


def holm(p_values: ArrayLike) -> Floats:
    """Return Holm-corrected p-values of one family; NaN stays NaN and is not counted.

    Raises:
        StatisticsError: If a value is outside [0, 1].

    Source:
        Holm (1979).
    """
    values = np.asarray(p_values, dtype=np.float64)
    if values.ndim != 1:
        raise StatisticsError(f"p-values have shape {values.shape}; expected one axis.")
    known = np.flatnonzero(~np.isnan(values))
    wrong = (values[known] < 0) | (values[known] > 1)
    if wrong.any():
        raise StatisticsError(f"p-value {values[known][wrong][0]:g} is outside [0, 1].")
    corrected = np.full(len(values), np.nan)
    order = known[np.argsort(values[known], kind="stable")]
    steps = values[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps)) if len(order) else steps
    return corrected


def adjust(differences: Sequence[Difference]) -> list[Difference]:
    """Return the differences of one family with ``p_holm`` filled."""
    corrected = holm([difference.p_value for difference in differences])
    return [
        dataclasses.replace(difference, p_holm=float(p))
        for difference, p in zip(differences, corrected, strict=True)
    ]
