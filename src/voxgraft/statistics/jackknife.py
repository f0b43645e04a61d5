"""The spread of a metric over patients, from leaving each patient out once.

For ``seeds`` runs scored on the same patients it gives their covariance, so that what the runs
share (these patients are easy) and what each has alone (this run errs on these) are told apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from voxgraft.statistics.sample import (
    CHUNK_ELEMENTS,
    Array,
    Floats,
    Ints,
    MetricLike,
    Patients,
)

MAX_GROUPS = 1_500
"""Above this many patients, groups of patients are left out instead of single ones."""

MAX_PAIRS = 2_500
"""Up to this many (positive, negative) pairs the second-order excess is taken off."""


@dataclass(frozen=True)
class Spread:
    """What the patients contribute to the uncertainty of runs' values.

    Attributes:
        covariance: ``(runs, runs)`` covariance of the values over draws of patients.
        degrees: Degrees of freedom of a combination's variance, from :meth:`variance`.
        parts: Covariance of each stratum.
        sizes: Patients (or groups of them) of each stratum.
        steps: Most different values, within a stratum, of the mean without one patient; two for
            a share of right decisions in one run.
    """

    covariance: Floats
    parts: tuple[Floats, ...]
    sizes: tuple[int, ...]
    steps: int

    def of(self, runs: slice) -> Spread:
        """Return the spread of some of the runs."""
        parts = tuple(part[runs, runs] for part in self.parts)
        return Spread(self.covariance[runs, runs], parts, self.sizes, self.steps)

    def variance(self, combination: Floats) -> tuple[float, float]:
        """Return variance and degrees of freedom of a linear combination of the runs' values.

        Source:
            Satterthwaite (1946), over strata.
        """
        parts = [max(0.0, float(combination @ part @ combination)) for part in self.parts]
        raw = sum(parts)
        variance = max(float(combination @ self.covariance @ combination), 0.5 * raw)
        weight = sum(p**2 / (n - 1) for p, n in zip(parts, self.sizes, strict=True))
        degrees = raw**2 / weight if weight > 0 else float(sum(self.sizes) - len(self.sizes))
        return variance, degrees


def _left_out(patients: Patients) -> tuple[Ints, list[Ints]]:
    """Return the group of each patient that leaves together, and the groups of each stratum."""
    group = np.empty(patients.count, np.intp)
    strata: list[Ints] = []
    used = 0
    for members in patients.strata():
        wanted = len(members)
        if patients.count > MAX_GROUPS:
            wanted = max(2, min(wanted, round(MAX_GROUPS * wanted / patients.count)))
        wanted = min(wanted, len(members))
        group[members] = used + np.arange(len(members)) % wanted
        strata.append(np.arange(used, used + wanted))
        used += wanted
    return group, strata


def weighted_values(metric: MetricLike, target: Array, scores: Floats, weights: Array) -> Floats:
    """Return ``(runs, replicates)`` values of each run under the same weights."""
    return np.stack([metric(target, score, weights) for score in scores])


def leave_one_out(
    metric: MetricLike, target: Array, scores: Floats, patients: Patients
) -> tuple[Floats, list[Ints]]:
    """Return ``(runs, groups)`` values without each group, and the groups of each stratum."""
    group, strata = _left_out(patients)
    count = int(sum(len(members) for members in strata))
    group_of_case = group[patients.group]
    cases = len(target)
    rows = max(1, CHUNK_ELEMENTS // cases)
    values = np.empty((len(scores), count))
    for start in range(0, count, rows):
        stop = min(count, start + rows)
        weights = (group_of_case[None, :] != np.arange(start, stop)[:, None]).astype(np.uint8)
        values[:, start:stop] = weighted_values(metric, target, scores, weights)
    return values, strata


def _second_order(
    metric: MetricLike,
    target: Array,
    scores: Floats,
    patients: Patients,
    values: Floats,
    strata: list[Ints],
    whole: Floats,
) -> Floats | None:
    """Return what the jackknife counts twice: the interaction of the two classes' patients.

    Leaving out one of each class at a time shows it. For the AUROC the result makes the variance
    unbiased; for a sum of two classes' means it is zero.

    Source:
        Efron and Stein (1981), section 4, for two samples: the jackknife's expectation exceeds
        the variance by the interaction's term.
    """
    if len(strata) != 2:
        return None
    first, second = strata
    pairs = len(first) * len(second)
    if pairs > MAX_PAIRS or min(len(first), len(second)) < 3:
        return None
    group, _ = _left_out(patients)
    group_of_case = group[patients.group]
    i, j = (grid.ravel() for grid in np.meshgrid(first, second, indexing="ij"))
    rows = max(1, CHUNK_ELEMENTS // len(target))
    both = np.concatenate(
        [
            weighted_values(
                metric,
                target,
                scores,
                (
                    (group_of_case[None, :] != i[start : start + rows, None])
                    & (group_of_case[None, :] != j[start : start + rows, None])
                ).astype(np.uint8),
            )
            for start in range(0, pairs, rows)
        ],
        axis=1,
    )
    interaction = whole[:, None] - values[:, i] - values[:, j] + both
    if not np.isfinite(interaction).all():
        return None
    factor = (len(first) - 1) * (len(second) - 1) / pairs
    excess: Floats = factor * interaction @ interaction.T
    return excess


def spread_over_patients(
    metric: MetricLike, target: Array, scores: Floats, patients: Patients, whole: Floats
) -> Spread | None:
    """Return the covariance of the runs' values over draws of patients, or None.

    Args:
        metric: The metric.
        target: ``(n[, columns])``.
        scores: ``(runs, n[, columns])``.
        patients: Who is behind the cases, and their strata.
        whole: ``(runs,)`` values on all patients.

    Returns:
        None where it cannot be estimated: fewer than two patients in a stratum, or a metric that
        is undefined without one of them, as the AUROC without the only positive one.

    Source:
        Efron and Tibshirani (1993), section 11.5; one stratum at a time it equals DeLong's
        variance for the AUROC.
    """
    if min(len(members) for members in patients.strata()) < 2:
        if patients.stratum is None:
            return None
        patients = Patients(patients.group, patients.count)
    values, strata = leave_one_out(metric, target, scores, patients)
    if min(len(members) for members in strata) < 2:
        return None
    if not np.isfinite(values).all():
        return None
    parts, sizes, steps = [], [], 0
    for members in strata:
        left = values[:, members]
        away = left - left.mean(axis=1, keepdims=True)
        parts.append((len(members) - 1) / len(members) * away @ away.T)
        sizes.append(len(members))
        steps = max(steps, len(np.unique(np.round(left.mean(axis=0), 10))))
    covariance: Floats = np.sum(parts, axis=0)
    excess = _second_order(metric, target, scores, patients, values, strata, whole)
    if excess is not None:
        covariance = covariance - excess
    return Spread(covariance, tuple(parts), tuple(sizes), steps)
