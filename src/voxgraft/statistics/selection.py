"""The best network of one group against the best of another, as "3D against 2D".

Who takes the network that scored highest on the test patients takes luck with it, and more of it
from the group with more networks. So the networks are chosen on validation patients, and the test
patients compare two networks that were chosen without them. The other way is given beside it, with
what its selection adds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from voxgraft.errors import StatisticsError, raise_faults
from voxgraft.statistics.bootstrap import expanded_tail, resampled_counts
from voxgraft.statistics.differences import Difference, paired_difference
from voxgraft.statistics.intervals import UNBOUNDED
from voxgraft.statistics.jackknife import weighted_values
from voxgraft.statistics.sample import (
    Array,
    Floats,
    MetricLike,
    Patients,
    check_level,
    check_replicates,
    check_scores,
    check_target,
    class_strata,
    group_patients,
)

REPLICATES = 2_000


@dataclass(frozen=True)
class BestOnTest:
    """The network of each group that scored best on the test patients themselves: descriptive.

    Attributes:
        name_a: Network of group a with the best test value, the mean over seeds.
        name_b: The same of group b.
        value_a: Its test value.
        value_b: The same of group b.
        difference: a − b, which flatters the group with more networks or noisier ones.
        low: Lower end of an interval for the difference of these two networks on other patients,
            which takes the selection into account; NaN if it cannot be estimated.
        high: Upper end.
        level: Of the interval.
        optimism_a: How much better ``value_a`` is than that network is on other patients, as far
            as the bootstrap can tell; in the metric's direction (below 0 for an error).
        optimism_b: The same of group b.
        replicates: Draws of patients behind it.
        note: What it does not cover, or why there is no interval.
    """

    name_a: str
    name_b: str
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    level: float
    optimism_a: float
    optimism_b: float
    replicates: int
    note: str

    @property
    def optimism(self) -> float:
        """What selection adds to the difference."""
        return self.optimism_a - self.optimism_b

    @property
    def corrected(self) -> float:
        """The difference without what selection adds."""
        return self.difference - self.optimism


@dataclass(frozen=True)
class BestAgainstBest:
    """The best of group a against the best of group b.

    Attributes:
        chosen_a: Network of group a with the best validation value, the mean over seeds.
        chosen_b: The same of group b.
        validation_a: That value.
        validation_b: The same of group b.
        difference: Of the chosen networks on the test patients, who had no part in the choice.
        on_test: The networks with the best test values, with what their selection adds.
    """

    chosen_a: str
    chosen_b: str
    validation_a: float
    validation_b: float
    difference: Difference
    on_test: BestOnTest


def best_against_best(
    metric: MetricLike,
    target: ArrayLike,
    scores_a: Mapping[str, ArrayLike],
    scores_b: Mapping[str, ArrayLike],
    validation_a: Mapping[str, ArrayLike],
    validation_b: Mapping[str, ArrayLike],
    patients: ArrayLike,
    *,
    bounds: tuple[float, float] = UNBOUNDED,
    higher_is_better: bool = True,
    replicates: int = REPLICATES,
    seed: int = 0,
    level: float = 0.95,
) -> BestAgainstBest:
    """Compare the best network of two groups, chosen on validation patients.

    The difference of the chosen networks is :func:`paired_difference`: it claims to cover these
    two networks (trained anew, if there are several seeds) on the population of patients. Other
    networks are not covered: they may be better. Equal validation values go to the first.

    The networks that are best on the test patients are given beside it. A bootstrap over patients
    chooses again in each draw; how far the values of the networks chosen in it lie above those of
    the same networks on all test patients is the optimism. Their interval is the basic one of the
    two networks, moved by the optimism of their difference; in simulation it covered 93% to 97%
    (``benchmarks/networks_coverage.py``).

    Args:
        metric: ``metric(target, score, weights=None)``.
        target: ``(n,)`` or ``(n, columns)`` of the test patients.
        scores_a: Test scores ``(seeds, n[, columns])`` of each network of group a, by name.
        scores_b: The same of group b.
        validation_a: Validation values ``(seeds,)`` of each network of group a, by name.
        validation_b: The same of group b.
        patients: ``(n,)`` ids of the test patients.
        bounds: Lowest and highest value of the metric.
        higher_is_better: Direction of the metric, in validation as in test.
        replicates: Draws of patients, and swaps of the chosen networks' test.
        seed: Of the draws.
        level: Of the intervals.

    Raises:
        StatisticsError: If a group has no network, a network lacks scores or validation values, a
            value is not finite, or shapes do not fit.

    Source:
        Efron (1983), for the optimism of a choice; Davison and Hinkley (1997), section 5.2.1, for
        the basic interval.
    """
    check_level(level)
    check_replicates(replicates)
    truth = check_target(target)
    runs_a, means_a = _checked_group(scores_a, validation_a, len(truth), "a")
    runs_b, means_b = _checked_group(scores_b, validation_b, len(truth), "b")
    chosen_a = _best(means_a, higher_is_better=higher_is_better)
    chosen_b = _best(means_b, higher_is_better=higher_is_better)
    difference = paired_difference(
        metric,
        truth,
        runs_a[chosen_a],
        runs_b[chosen_b],
        patients,
        bounds=bounds,
        higher_is_better=higher_is_better,
        replicates=replicates,
        seed=seed,
        level=level,
    )
    first = next(iter(runs_a.values()))[0]
    grouped = group_patients(patients, len(truth), class_strata(metric, truth, first))
    on_test = _best_on_test(
        metric,
        truth,
        runs_a,
        runs_b,
        grouped,
        higher_is_better=higher_is_better,
        replicates=replicates,
        seed=seed,
        level=level,
    )
    return BestAgainstBest(
        chosen_a, chosen_b, means_a[chosen_a], means_b[chosen_b], difference, on_test
    )


def _checked_group(
    scores: Mapping[str, ArrayLike], validation: Mapping[str, ArrayLike], cases: int, group: str
) -> tuple[dict[str, Floats], dict[str, float]]:
    """Return runs and mean validation value of each network of a group."""
    if not scores:
        raise StatisticsError(f"group {group} has no network; there is no best of none.")
    faults = [f"{name}: validation values, but no scores" for name in validation.keys() - scores]
    runs: dict[str, Floats] = {}
    means: dict[str, float] = {}
    for name, network in scores.items():
        try:
            runs[name] = check_scores(network, cases, f"scores_{group}[{name!r}]")
        except StatisticsError as error:
            faults.append(str(error))
            continue
        if name not in validation:
            faults.append(f"{name}: scores, but no validation value")
            continue
        values = np.atleast_1d(np.asarray(validation[name], dtype=np.float64))
        if values.shape != (len(runs[name]),) or not np.isfinite(values).all():
            faults.append(
                f"{name}: validation values {values.tolist()} of {len(runs[name])} seed(s); "
                "expected one finite value a seed"
            )
            continue
        means[name] = float(values.mean())
    if faults:
        raise_faults(
            StatisticsError,
            f"group {group} cannot be chosen from",
            faults,
            "Pass test scores and one validation value a seed of the same networks; leave out "
            "diverged runs in both.",
        )
    return runs, means


def _best(values: Mapping[str, float], *, higher_is_better: bool) -> str:
    """Return the name of the best value; of equal ones the first."""
    return max(values, key=lambda name: values[name] if higher_is_better else -values[name])


def _best_on_test(
    metric: MetricLike,
    target: Array,
    runs_a: Mapping[str, Floats],
    runs_b: Mapping[str, Floats],
    grouped: Patients,
    *,
    higher_is_better: bool,
    replicates: int,
    seed: int,
    level: float,
) -> BestOnTest:
    """Return the best test value of each group against the other's, and what selection adds."""
    sign = 1.0 if higher_is_better else -1.0
    sides = (runs_a, runs_b)
    whole = [
        np.array([np.mean([metric(target, run) for run in runs]) for runs in side.values()])
        for side in sides
    ]
    notes = ["these very trainings: their luck is selected for as well, and not corrected"]
    if not all(np.isfinite(values).all() for values in whole):
        notes.insert(0, "the metric is undefined for these patients")
        best = [0, 0]
        draws = np.empty((4, 0))
    else:
        best = [int(np.argmax(sign * values)) for values in whole]
        draws = np.concatenate(
            [
                np.concatenate(
                    [
                        _errors(metric, target, side, values, weights, sign)
                        for side, values in zip(sides, whole, strict=True)
                    ]
                )
                for weights in map(grouped.cases, resampled_counts(grouped, replicates, seed))
            ],
            axis=1,
        )
    names = [list(side)[k] for side, k in zip(sides, best, strict=True)]
    value_a, value_b = (float(values[k]) for values, k in zip(whole, best, strict=True))
    difference = value_a - value_b
    defined = draws[:, np.isfinite(draws).all(axis=0)]
    undefined = replicates - defined.shape[1]
    low = high = optimism_a = optimism_b = math.nan
    if math.isfinite(difference) and undefined:
        notes.insert(0, f"{undefined} of {replicates} draws left the metric undefined")
    if grouped.count < 2:
        notes.insert(0, "one patient: no interval can be given")
    elif min(len(members) for members in grouped.strata()) < 2:
        notes.insert(0, "too few patients of a class: no interval can be given")
    elif undefined <= 0.05 * replicates:
        chosen_a, same_a, chosen_b, same_b = defined
        optimism_a, optimism_b = float(chosen_a.mean()), float(chosen_b.mean())
        tail = expanded_tail(level, grouped)
        below, above = np.quantile(same_a - same_b, [tail, 1 - tail])
        middle = difference - (optimism_a - optimism_b)
        low, high = middle - float(above), middle - float(below)
    return BestOnTest(
        names[0],
        names[1],
        value_a,
        value_b,
        difference,
        low,
        high,
        level,
        optimism_a,
        optimism_b,
        replicates,
        "; ".join(notes),
    )


def _errors(
    metric: MetricLike,
    target: Array,
    side: Mapping[str, Floats],
    whole: Floats,
    weights: Array,
    sign: float,
) -> Floats:
    """Return ``(2, replicates)`` errors of a group's best: chosen in each draw, and chosen once.

    An error is a network's value in the draw less its value on all patients.
    """
    values = np.stack(
        [weighted_values(metric, target, runs, weights).mean(axis=0) for runs in side.values()]
    )
    filled = np.where(np.isfinite(values), values, -sign * np.inf)
    best = np.argmax(sign * filled, axis=0)
    once = int(np.argmax(sign * whole))
    errors: Floats = np.stack(
        [values[best, np.arange(values.shape[1])] - whole[best], values[once] - whole[once]]
    )
    return np.where(np.isfinite(values).all(axis=0), errors, np.nan)
