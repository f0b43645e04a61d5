"""Label savings: with how many training patients a start reaches what the reference reached."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from voxgraft.statistics.bootstrap import resampled_counts
from voxgraft.statistics.curves import check_sizes, isotonic
from voxgraft.statistics.jackknife import spread_over_patients, weighted_values
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
from voxgraft.statistics.seeds import mean_uncertainty

Status = Literal["interpolated", "at the smallest size", "not reached", "undefined"]
REPLICATES = 2_000


@dataclass(frozen=True)
class LabelSavings:
    """How many training patients a start needs for the reference's performance with all of its.

    A number of patients is censored at both ends: 0 stands for "already at the smallest size",
    infinity for "not reached at the largest".

    Attributes:
        patients: Estimate; 0, infinity or NaN as its status says.
        low: Lower end of its interval, censored alike.
        high: Upper end.
        status: Of the estimate.
        level: Of the interval.
        smallest: Smallest size of the start.
        largest: Largest size of the start.
        reference_patients: All patients of the reference.
        reference_value: What it reaches with them, the mean over seeds.
        n_patients: Test patients.
        replicates: Draws of patients and seeds.
        note: What the interval does not cover, or why it is missing.
    """

    patients: float
    low: float
    high: float
    status: Status
    level: float
    smallest: int
    largest: int
    reference_patients: int
    reference_value: float
    n_patients: int
    replicates: int
    note: str = ""

    def _saved(self, patients: float) -> float:
        if math.isnan(patients) or math.isinf(patients):
            return math.nan
        return 1 - max(patients, self.smallest) / self.reference_patients

    @property
    def saved(self) -> float:
        """Share of the reference's patients that the start saves; NaN if not reached.

        At the smallest size it is what is saved at least.
        """
        return self._saved(self.patients)

    @property
    def saved_low(self) -> float:
        """Lower end of the saved share; NaN if the upper end of the patients is not reached."""
        return self._saved(self.high)

    @property
    def saved_high(self) -> float:
        """Upper end of the saved share, at least this where it is censored."""
        return self._saved(self.low)

    def _count(self, patients: float) -> str:
        if math.isinf(patients):
            return f"more than {self.largest}"
        if patients <= self.smallest:
            return f"at most {self.smallest}"
        return f"{patients:.0f}"

    def text(self, start: str, reference: str, metric_label: str) -> str:
        """Return the finding in a sentence or two."""
        goal = (
            f"what {reference} reaches with all {self.reference_patients} "
            f"({metric_label} {self.reference_value:.3f})"
        )
        if self.status == "undefined":
            return f"Label savings of {start} cannot be given: {self.note}."
        interval = ""
        if not math.isnan(self.low):
            interval = (
                f" [{self.level:.0%} interval: {self._count(self.low)} to {self._count(self.high)}]"
            )
        note = f" {self.note[0].upper()}{self.note[1:]}." if self.note else ""
        if self.status == "not reached":
            return (
                f"{start} does not reach {goal} with up to {self.largest} patients{interval}.{note}"
            )
        if self.status == "at the smallest size":
            found = (
                f"{start} reaches {goal} already with {self.smallest} patients, the fewest tried"
            )
        else:
            found = f"{start} needs about {self.patients:.0f} patients to reach {goal}"
        return f"{found}{interval}: {self._saved_text()}.{note}"

    def _saved_text(self) -> str:
        if self.saved < 0:
            return f"{-self.saved:.0%} more patients, none saved"
        least = "at least " if self.status == "at the smallest size" else ""
        text = f"{least}{self.saved:.0%} fewer labels"
        if math.isnan(self.low):
            return text
        if math.isnan(self.saved_low) or self.saved_low <= 0:
            return f"{text}, but the interval allows no saving at all"
        beyond = "at least " if self.low <= self.smallest else ""
        return f"{text} [{self.saved_low:.0%} to {beyond}{self.saved_high:.0%}]"


def _needed(sizes: list[int], curves: Floats, goals: Floats) -> Floats:
    """Return patients needed, ``(rows,)``, of curves ``(rows, sizes)``: 0 and inf are censored."""
    monotone = isotonic(curves)
    points = np.log(np.asarray(sizes, dtype=np.float64))
    reached = monotone >= goals[:, None] - 1e-12
    first = reached.argmax(axis=1)
    before = np.maximum(first - 1, 0)
    rows = np.arange(len(curves))
    low, high = monotone[rows, before], monotone[rows, first]
    rise = np.where(high > low, high - low, 1.0)
    share = np.clip((goals - low) / rise, 0.0, 1.0)
    needed: Floats = np.exp(points[before] + share * (points[first] - points[before]))
    needed[first == 0] = 0.0
    needed[~reached.any(axis=1)] = np.inf
    needed[~(np.isfinite(curves).all(axis=1) & np.isfinite(goals))] = np.nan
    return needed


def _cells(
    start: Mapping[int, ArrayLike],
    sizes: list[int],
    goal: ArrayLike,
    cases: int,
    *,
    undefined: bool,
) -> list[Floats]:
    """Return the runs of the start at each size, and of the reference at its largest."""
    named = [(start[size], f"start at {size} patients") for size in sizes]
    named.append((goal, "reference at its largest size"))
    return [check_scores(runs, cases, name, undefined=undefined) for runs, name in named]


def _reference_needs(
    metric: MetricLike,
    truth: Array,
    reference: Mapping[int, ArrayLike],
    sign: float,
    *,
    undefined: bool,
) -> int | None:
    """Return the fewest patients with which the reference reaches its goal itself, if not all."""
    sizes = check_sizes(list(reference), "the reference")
    means = []
    for size in sizes:
        runs = check_scores(
            reference[size], len(truth), f"reference at {size} patients", undefined=undefined
        )
        means.append(np.mean([float(metric(truth, run)) for run in runs]))
    curve = sign * np.array(means)
    first = int(np.argmax(isotonic(curve) >= curve[-1] - 1e-12))
    return sizes[first] if np.isfinite(curve).all() and first < len(sizes) - 1 else None


def _draws(
    metric: MetricLike, truth: Array, cells: list[Floats], grouped: Patients, size: int, seed: int
) -> Floats:
    """Return ``(replicates, cells)`` means over seeds, patients drawn once for all cells."""
    drawn = []
    for counts in resampled_counts(grouped, size, seed):
        weights = grouped.cases(counts)
        drawn.append(
            np.stack(
                [weighted_values(metric, truth, runs, weights).mean(axis=0) for runs in cells],
                axis=1,
            )
        )
    return np.concatenate(drawn)


def label_savings(
    metric: MetricLike,
    target: ArrayLike,
    start: Mapping[int, ArrayLike],
    reference: Mapping[int, ArrayLike],
    patients: ArrayLike,
    *,
    higher_is_better: bool = True,
    replicates: int = REPLICATES,
    seed: int = 0,
    level: float = 0.95,
    undefined: bool = False,
) -> LabelSavings:
    """Return how many training patients a start needs to reach the reference with all of its.

    The start's curve is made monotone and interpolated linearly in the logarithm of the size.
    The interval draws test patients, the same for all cells, and in each cell an error of the
    seeds, as :func:`hierarchical_bootstrap` does; its ends are quantiles of the needed
    patients, with "already at the smallest size" below and "not reached" above all numbers. It
    does not cover another draw of training patients.

    Args:
        metric: ``metric(target, score, weights=None)``.
        target: ``(n,)`` or ``(n, columns)`` of the test cases.
        start: Training patients -> ``(seeds, n)`` or ``(seeds, n, columns)``.
        reference: The same of the reference; its largest size is the goal.
        patients: ``(n,)`` ids of the test cases.
        higher_is_better: Direction of the metric.
        replicates: Draws.
        seed: Of the draws.
        level: Of the interval.
        undefined: Whether target and scores may hold NaN, which the metric leaves out, as that of
            a segmentation does with structures that a case does not annotate.

    Raises:
        StatisticsError: If there is no size, shapes differ, or a score is not finite.
    """
    check_level(level)
    check_replicates(replicates)
    sizes = check_sizes(list(start), "the start")
    largest = check_sizes(list(reference), "the reference")[-1]
    truth = check_target(target, undefined=undefined)
    cells = _cells(start, sizes, reference[largest], len(truth), undefined=undefined)
    grouped = group_patients(patients, len(truth), class_strata(metric, truth, cells[-1][0]))
    by_seed = [np.array([float(metric(truth, run)) for run in runs]) for runs in cells]
    means = np.array([values.mean() for values in by_seed])
    sign = 1.0 if higher_is_better else -1.0
    needed = float(_needed(sizes, sign * means[None, :-1], sign * means[None, -1])[0])
    status: Status = "interpolated"
    notes = []
    alone = _reference_needs(metric, truth, reference, sign, undefined=undefined)
    if alone is not None and not math.isnan(needed):
        notes.append(f"the reference itself is as good already with {alone} patients")
    if math.isnan(needed):
        status = "undefined"
        notes.append("the metric is undefined for these test patients")
    elif needed == 0:
        status = "at the smallest size"
    elif math.isinf(needed):
        status = "not reached"
    low = high = math.nan
    spreads = [
        spread_over_patients(metric, truth, runs, grouped, values)
        if grouped.count > 1 and status != "undefined"
        else None
        for runs, values in zip(cells, by_seed, strict=True)
    ]
    if status != "undefined" and any(spread is None for spread in spreads):
        notes.append("too few test patients for an interval")
    elif status != "undefined":
        draws = _draws(metric, truth, cells, grouped, replicates, seed)
        rng = np.random.default_rng([seed, 3])
        for index, (values, spread) in enumerate(zip(by_seed, spreads, strict=True)):
            if spread is not None:
                uncertainty = mean_uncertainty(values, spread)
                draws[:, index] += uncertainty.seed_errors(replicates, rng, cautious=False)
        found = _needed(sizes, sign * draws[:, :-1], sign * draws[:, -1])
        found = np.sort(found[~np.isnan(found)])
        if len(found) >= 0.95 * replicates:
            tail = (1 - level) / 2
            low = float(found[math.floor(tail * (len(found) - 1))])
            high = float(found[math.ceil((1 - tail) * (len(found) - 1))])
        else:
            notes.append("too many replicates left the metric undefined for an interval")
        if min(map(len, cells)) < 2:
            notes.append("some cell has one training seed: its training error is not covered")
    return LabelSavings(
        needed,
        low,
        high,
        status,
        level,
        sizes[0],
        sizes[-1],
        largest,
        float(means[-1]),
        grouped.count,
        replicates,
        "; ".join(notes),
    )
