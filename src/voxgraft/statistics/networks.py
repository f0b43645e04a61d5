"""Start a against start b, on average over networks: for other networks and other patients.

Networks are to starts what readers are to modalities in a reader study: several of them, each with
both starts, all tested on the same patients. What has been seen of seven networks holds for an
eighth only as far as the seven agree, and the smallest and largest of seven differences are no
interval for their mean: they move apart with every network that is added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from voxgraft.errors import StatisticsError, raise_faults
from voxgraft.statistics.differences import ONE_SEED, paired_difference
from voxgraft.statistics.intervals import UNBOUNDED
from voxgraft.statistics.jackknife import spread_over_patients
from voxgraft.statistics.obuchowski_rockette import Networks, Quantile, interval_over_networks
from voxgraft.statistics.sample import (
    Array,
    Floats,
    MetricLike,
    check_level,
    check_scores,
    check_target,
    class_strata,
    group_patients,
)

ONE_NETWORK = "one network: whether the difference holds for others is not covered"
TWO_NETWORKS = (
    "two networks: one degree of freedom says how much networks differ, so the interval is wide, "
    "and it covers down to 90% only"
)
FIXED = "these very networks: others are not covered"


@dataclass(frozen=True)
class NetworkDifference:
    """Start a minus start b, the mean over networks.

    Attributes:
        estimate: Mean over networks of the difference of the means over seeds.
        low: Lower end of its interval; NaN if it cannot be estimated.
        high: Upper end.
        level: Of the interval.
        p_value: Two-sided.
        df: Degrees of freedom: those of Hillis for random networks; over patients and seeds for
            fixed ones; NaN where there is no t interval over networks.
        n_networks: Networks.
        n_patients: Test patients.
        n_seeds: Trainings of a network and start; the fewest if they differ.
        per_network: Difference of each network, in their order.
        value_a: Mean of start a.
        value_b: Mean of start b.
        higher_is_better: Direction of the metric.
        method: How interval and p-value were made.
        note: What is not covered, or why there is no interval.
    """

    estimate: float
    low: float
    high: float
    level: float
    p_value: float
    df: float
    n_networks: int
    n_patients: int
    n_seeds: int
    per_network: tuple[float, ...]
    value_a: float
    value_b: float
    higher_is_better: bool
    method: str
    note: str = ""

    @property
    def shown(self) -> bool:
        """Whether a difference is shown: interval without 0 and p within 1 − level."""
        outside = self.low > 0 or self.high < 0
        return outside and self.p_value <= 1 - self.level + 1e-12

    @property
    def favors_a(self) -> bool:
        """Whether the estimate speaks for a."""
        return (self.estimate > 0) == self.higher_is_better


def mean_difference_over_networks(
    metric: MetricLike,
    target: ArrayLike,
    scores_a: Sequence[ArrayLike] | Floats,
    scores_b: Sequence[ArrayLike] | Floats,
    patients: ArrayLike,
    *,
    networks: Networks = "random",
    quantile: Quantile = "between",
    bounds: tuple[float, float] = UNBOUNDED,
    higher_is_better: bool = True,
    level: float = 0.95,
    undefined: bool = False,
) -> NetworkDifference:
    """Compare two starts over several networks tested on the same patients.

    With random networks the interval claims to cover the mean difference in the population of
    networks of which these are a sample, trained anew, on the population of patients. With fixed
    networks it claims these very networks, trained anew if there are several seeds of each, on
    the population of patients.

    Seeds are averaged within a network first. What they leave is part of how much a network's
    difference deviates from the mean of all (the interaction of network and start), which is
    estimated from the spread of the networks' differences: so one seed each is covered as well,
    at the price of a wider interval. What all networks err together on these patients is their
    covariance, jackknifed over patients. The sum of both is the variance of Obuchowski and
    Rockette, and that of the room's paired seeds with networks in place of seeds.

    Args:
        metric: ``metric(target, score, weights=None)``.
        target: ``(n,)`` or ``(n, columns)``.
        scores_a: ``(networks, seeds, n[, columns])`` of start a, or one ``(seeds, n[, columns])``
            a network where their numbers of seeds differ.
        scores_b: The same of start b: same networks in the same order, same cases.
        patients: ``(n,)`` ids; equal ids are one patient.
        networks: ``"random"`` (networks and patients) or ``"fixed"`` (patients only).
        quantile: For random networks, how far to go: ``"between"`` Welch's and Cochran's rule as
            for training seeds, or by the degrees of freedom of ``"hillis"``, as programs for
            reader studies do, which covers down to 86% with two networks and 91% with three, and
            about as well from five on (``benchmarks/networks_coverage.py``).
        bounds: Lowest and highest value of the metric. If both are finite, the interval is
            lopsided near them and does not leave what a difference can be.
        higher_is_better: Direction of the metric.
        level: Of the interval.
        undefined: Whether target and scores may hold NaN, which the metric leaves out, as that of
            a segmentation does with structures that a case does not annotate.

    Returns:
        The difference; for one network that of :func:`paired_difference`, whose note says so.

    Raises:
        StatisticsError: If networks, columns or cases differ, a score is not finite, or there is
            nothing to compare.

    Source:
        Obuchowski and Rockette (1995); Hillis (2007) for the degrees of freedom; Hillis,
        Obuchowski and Berbaum (2011) for both together.
    """
    check_level(level)
    if networks not in ("random", "fixed"):
        raise StatisticsError(f"networks is {networks!r}; expected 'random' or 'fixed'.")
    if quantile not in ("between", "hillis"):
        raise StatisticsError(f"quantile is {quantile!r}; expected 'between' or 'hillis'.")
    truth = check_target(target, undefined=undefined)
    runs_a, runs_b = checked_grid(scores_a, scores_b, len(truth), undefined=undefined)
    count = len(runs_a)
    fewest = min(len(runs) for runs in (*runs_a, *runs_b))
    if count == 1:
        return _of_one(
            metric,
            truth,
            runs_a[0],
            runs_b[0],
            patients,
            bounds,
            higher_is_better,
            level,
            undefined=undefined,
        )
    runs = np.concatenate([*runs_a, *runs_b])
    values = np.array([float(metric(truth, run)) for run in runs])
    sizes = [len(arm) for arm in (*runs_a, *runs_b)]
    each = np.array([part.mean() for part in np.split(values, np.cumsum(sizes)[:-1])])
    of_a, of_b = each[:count], each[count:]
    grouped = group_patients(patients, len(truth), class_strata(metric, truth, runs[0]))

    def result(
        low: float, high: float, p: float, notes: Sequence[str], df: float = math.nan
    ) -> NetworkDifference:
        return NetworkDifference(
            float((of_a - of_b).mean()),
            low,
            high,
            level,
            p,
            df,
            count,
            grouped.count,
            fewest,
            tuple(float(value) for value in of_a - of_b),
            float(of_a.mean()),
            float(of_b.mean()),
            higher_is_better,
            _method(networks, quantile, fewest),
            "; ".join(notes),
        )

    notes = _caveats(networks, count, fewest)
    nan = math.nan
    if not np.isfinite(each).all():
        lacking = ", ".join(str(k) for k in np.flatnonzero(~np.isfinite(of_a - of_b)))
        return result(nan, nan, nan, [f"the metric is undefined in network(s) {lacking}", *notes])
    if grouped.count < 2:
        return result(nan, nan, nan, ["one patient: no difference can be tested", *notes])
    if all(np.array_equal(a, b, equal_nan=undefined) for a, b in zip(runs_a, runs_b, strict=True)):
        return result(0.0, 0.0, 1.0, ["the predictions are identical", *notes])
    spread = spread_over_patients(metric, truth, runs, grouped, values)
    if spread is None:
        why = "too few patients of a class: no interval can be given"
        return result(nan, nan, nan, [why, *notes])
    found = interval_over_networks(
        values,
        sizes,
        spread,
        grouped,
        networks=networks,
        quantile=quantile,
        bounds=bounds,
        level=level,
    )
    if found.error <= 0:
        notes.insert(0, found.note)
        p = 1.0 if float((of_a - of_b).mean()) == 0 else nan
        return result(found.low, found.high, p, notes)
    p = found.p_value(abs(float((of_a - of_b).mean())))
    return result(found.low, found.high, p, notes, found.df)


def checked_grid(
    scores_a: Sequence[ArrayLike] | Floats,
    scores_b: Sequence[ArrayLike] | Floats,
    cases: int,
    *,
    undefined: bool = False,
) -> tuple[list[Floats], list[Floats]]:
    """Return the runs ``(seeds, n[, columns])`` of each network with start a and with start b.

    Raises:
        StatisticsError: If there is no network, their numbers differ, or shapes do not fit.
    """
    faults: list[str] = []
    checked: list[list[Floats]] = []
    for name, scores in (("scores_a", scores_a), ("scores_b", scores_b)):
        if np.ndim(scores[0] if len(scores) else 0.0) == 0:
            raise StatisticsError(
                f"{name} has no axis of networks; expected (networks, seeds, {cases}[, columns])."
            )
        runs = []
        for k, network in enumerate(scores):
            try:
                runs.append(check_scores(network, cases, f"{name}[{k}]", undefined=undefined))
            except StatisticsError as error:
                faults.append(str(error))
        checked.append(runs)
    if faults:
        raise_faults(
            StatisticsError,
            "scores of networks do not fit the test cases",
            faults,
            "Every network and seed needs a score of each test case, in the order of the target.",
        )
    runs_a, runs_b = checked
    if len(runs_a) != len(runs_b):
        raise StatisticsError(
            f"scores_a has {len(runs_a)} networks and scores_b {len(runs_b)}; the difference is "
            "within networks, so both starts need the same ones in the same order."
        )
    if len({runs.shape[2:] for runs in (*runs_a, *runs_b)}) > 1:
        raise StatisticsError("networks differ in columns; all need the same columns of scores.")
    return runs_a, runs_b


def _caveats(networks: Networks, count: int, fewest: int) -> list[str]:
    if networks == "fixed":
        return [FIXED] if fewest > 1 else [FIXED, ONE_SEED]
    return [TWO_NETWORKS] if count == 2 else []


def _method(networks: Networks, quantile: Quantile, fewest: int) -> str:
    if networks == "fixed":
        return f"jackknife t over patients{' and seeds' if fewest > 1 else ''}, networks fixed"
    rule = "Hillis' degrees of freedom" if quantile == "hillis" else "t between Welch and Cochran"
    return f"Obuchowski–Rockette over networks and patients, jackknife; {rule}"


def _of_one(
    metric: MetricLike,
    target: Array,
    runs_a: Floats,
    runs_b: Floats,
    patients: ArrayLike,
    bounds: tuple[float, float],
    higher_is_better: bool,
    level: float,
    *,
    undefined: bool,
) -> NetworkDifference:
    """Return the difference of one network, which covers no other."""
    found = paired_difference(
        metric,
        target,
        runs_a,
        runs_b,
        patients,
        bounds=bounds,
        higher_is_better=higher_is_better,
        level=level,
        undefined=undefined,
    )
    return NetworkDifference(
        found.estimate,
        found.low,
        found.high,
        level,
        found.p_value,
        math.nan,
        1,
        found.n_patients,
        min(found.n_seeds_a, found.n_seeds_b),
        (found.estimate,),
        found.value_a,
        found.value_b,
        higher_is_better,
        found.method,
        "; ".join(filter(None, [ONE_NETWORK, found.note])),
    )
