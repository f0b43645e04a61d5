"""The sample that a statistic is of: targets, scores of each seed, and the patients behind them.

Patients are the units. A patient with several cases brings all of them into a resample, or none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxgraft.errors import StatisticsError

Array = NDArray[Any]
Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

CHUNK_ELEMENTS = 1 << 21
"""Counts drawn at once: about 4 MiB, whatever the number of replicates."""


class MetricLike(Protocol):
    """``metric(target, score)``: a float; with weights ``(replicates, cases)``: one value each."""

    @overload
    def __call__(self, target: Array, score: Array, weights: None = None) -> float: ...

    @overload
    def __call__(self, target: Array, score: Array, weights: Array) -> Floats: ...


@dataclass(frozen=True)
class Patients:
    """Cases grouped by patient.

    Attributes:
        group: ``(n,)`` index of each case's patient.
        count: Number of patients.
        stratum: ``(count,)`` class of each patient, or None if patients are not stratified.
    """

    group: Ints
    count: int
    stratum: Ints | None = None

    @property
    def single_cases(self) -> bool:
        """Whether each patient has one case, in order."""
        return self.count == len(self.group) and bool(
            np.array_equal(self.group, np.arange(self.count))
        )

    def cases(self, counts: Array) -> Array:
        """Return weights of cases ``(replicates, n)`` from those of patients."""
        return counts if self.single_cases else np.take(counts, self.group, axis=1)

    def strata(self) -> list[Ints]:
        """Return the patients of each stratum."""
        if self.stratum is None:
            return [np.arange(self.count)]
        return [np.flatnonzero(self.stratum == value) for value in np.unique(self.stratum)]


def group_patients(patients: ArrayLike, cases: int, strata: ArrayLike | None = None) -> Patients:
    """Group cases by patient.

    Args:
        patients: ``(n,)`` ids; equal ids are one patient.
        cases: ``n`` of the other arrays.
        strata: ``(n,)`` class of each case. Used only if each patient's cases agree on it.

    Raises:
        StatisticsError: If the lengths differ or there is no case.
    """
    ids = np.asarray(patients)
    if ids.ndim != 1 or len(ids) != cases:
        raise StatisticsError(
            f"patients has shape {ids.shape}; expected ({cases},): one id a case, in their order."
        )
    if cases == 0:
        raise StatisticsError("there is no test case; nothing can be said about the starts.")
    ids = ids.astype(str) if ids.dtype == object else ids
    _, first, group = np.unique(ids, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    group = rank[group]
    count = len(first)
    if strata is None:
        return Patients(group, count)
    labels = np.asarray(strata)
    _, label = np.unique(labels, return_inverse=True)
    of_patient = np.zeros(count, np.intp)
    of_patient[group] = label
    if not np.array_equal(of_patient[group], label):
        return Patients(group, count)
    return Patients(group, count, of_patient)


def check_target(target: ArrayLike, *, undefined: bool = False) -> Array:
    """Return the target as ``(n,)`` if it has one column, else ``(n, columns)``, all finite.

    Args:
        target: ``(n,)`` or ``(n, columns)``.
        undefined: Whether NaN is legal, as of structures that a case does not annotate; then one
            column stays ``(n, 1)``, as such a metric wants it.

    Raises:
        StatisticsError: If it holds no numbers, has other axes, or some are not finite.
    """
    try:
        array = np.asarray(target, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StatisticsError(f"target does not hold numbers ({error}).") from error
    if array.ndim == 2 and array.shape[1] == 1 and not undefined:
        array = array[:, 0]
    if array.ndim not in (1, 2):
        raise StatisticsError(f"target has shape {array.shape}; expected (cases[, columns]).")
    if (np.isinf(array) if undefined else ~np.isfinite(array)).any():
        what = "infinity" if undefined else "NaN or infinity"
        raise StatisticsError(f"target holds {what}; check the table first.")
    return array


def check_scores(
    scores: ArrayLike, cases: int, name: str = "scores", *, undefined: bool = False
) -> Floats:
    """Return scores as ``(seeds, n)`` or ``(seeds, n, columns)``, all finite.

    One seed may come as ``(n,)``; ``(seeds, n, 1)`` becomes ``(seeds, n)``. With ``undefined`` NaN
    is legal: a number that a case does not define.

    Raises:
        StatisticsError: On another shape, another number of cases, or a score that is not finite.
    """
    try:
        array = np.asarray(scores, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise StatisticsError(
            f"{name} is not one array of numbers ({error}). All seeds need the same cases."
        ) from error
    if array.ndim == 1:
        array = array[None]
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or array.shape[0] == 0:
        raise StatisticsError(
            f"{name} has shape {array.shape}; expected (seeds, {cases}) or (seeds, {cases}, "
            "columns) with one seed at least."
        )
    if array.shape[1] != cases:
        raise StatisticsError(
            f"{name} has {array.shape[1]} cases and target has {cases}. Starts are compared on the "
            f"same cases in the same order; axes are (seeds, cases[, columns])."
        )
    wrong = np.isinf(array) if undefined else ~np.isfinite(array)
    bad = wrong.reshape(len(array), -1).any(axis=1)
    if bad.any():
        what = "infinity" if undefined else "NaN or infinity"
        raise StatisticsError(
            f"{name} holds {what} in seed(s) {', '.join(map(str, np.flatnonzero(bad)))}. "
            "Leave diverged runs out and list them (flag_run finds them)."
        )
    return array


def check_level(level: float) -> float:
    """Refuse a level that is not between 0 and 1."""
    if not 0 < level < 1:
        raise StatisticsError(f"level is {level!r}; expected a share between 0 and 1, as 0.95.")
    return level


def check_replicates(replicates: int) -> int:
    """Refuse fewer than 100 replicates."""
    if replicates < 100:
        raise StatisticsError(
            f"replicates is {replicates}; a 95% interval needs 100 at least, 1,000 or more to be "
            "stable."
        )
    return replicates


def class_strata(metric: MetricLike, target: Array, score: Array) -> Array | None:
    """Return the classes of the cases if the metric does not depend on their shares, else None.

    AUROC, balanced accuracy or sensitivity stay the same when every positive case counts twice.
    For such a metric the patients of each class are resampled apart, since their numbers say
    nothing about it; accuracy, Brier score or average precision depend on the prevalence.
    """
    if target.ndim != 1 or not np.array_equal(target, np.floor(target)):
        return None
    classes = np.unique(target)
    if not 2 <= len(classes) <= 20 or not np.array_equal(classes, np.arange(len(classes))):
        return None
    weights = np.stack([np.ones_like(target), *(1.0 + 2.0 * (target == c) for c in classes)])
    values = metric(target, score, weights)
    if np.isfinite(values).all() and np.allclose(values, values[0], rtol=0, atol=1e-9):
        return target
    return None
