"""From predictions of cases to one prediction a patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxgraft.errors import MetricError, raise_faults
from voxgraft.metrics.contract import Floats, numbers
from voxgraft.metrics.table import KINDS


@dataclass(frozen=True)
class PatientLevel:
    """One row a patient.

    Attributes:
        patients: ``(p,)`` ids, sorted.
        target: ``(p, columns)``.
        scores: ``(p, columns)``.
    """

    patients: NDArray[Any]
    target: Floats
    scores: Floats


def by_patient(
    kind: str,
    target: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike,
    aggregate: Literal["mean", "max"] = "mean",
) -> PatientLevel:
    """Aggregate cases to patients.

    The target of a patient: positive if any case is (binary, multilabel); the mean (regression);
    the class that all its cases share (multiclass). The score: the mean over cases, or the highest
    (``"max"``; for multiclass the highest of each class, scaled to sum to 1).

    Args:
        kind: ``binary``, ``multiclass``, ``multilabel`` or ``regression``.
        target: ``(n,)`` or ``(n, columns)``.
        scores: ``(n,)`` or ``(n, columns)``.
        patients: ``(n,)`` ids.
        aggregate: ``"mean"`` or ``"max"``.

    Raises:
        MetricError: If shapes differ, a score is NaN, ``aggregate`` is unknown or is ``"max"`` for
            regression, cases of one patient are of different classes (multiclass), or the kind is
            ``segmentation``, whose scores may be undefined.
    """
    if kind not in KINDS:
        raise MetricError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}.")
    if kind == "segmentation":
        raise MetricError(
            "scores of structures are not pooled by patient: some are undefined. Score the cases; "
            "intervals resample patients either way."
        )
    if aggregate not in ("mean", "max"):
        raise MetricError(f"aggregate is {aggregate!r}; expected 'mean' or 'max'.")
    if aggregate == "max" and kind == "regression":
        raise MetricError("aggregate 'max' makes no sense for regression; use 'mean'.")
    truth, table = numbers(target, "target"), numbers(scores, "score")
    truth = truth[:, None] if truth.ndim == 1 else truth
    table = table[:, None] if table.ndim == 1 else table
    ids = np.asarray(patients)
    if ids.ndim != 1 or not len(ids) == len(truth) == len(table):
        raise MetricError(
            f"target has {len(truth)} cases, score {len(table)} and patients shape {ids.shape}; "
            "pass one patient id a case, in the same order."
        )
    names, group = np.unique(ids.astype(str) if ids.dtype == object else ids, return_inverse=True)
    cases = np.bincount(group, minlength=len(names))[:, None]
    highest = _extreme(truth, group, len(names))
    if kind == "regression":
        patient_target = _sum(truth, group, len(names)) / cases
    elif kind == "multiclass":
        lowest = -_extreme(-truth, group, len(names))
        mixed = np.flatnonzero((lowest != highest).any(axis=1))
        if len(mixed):
            raise_faults(
                MetricError,
                "cases of one patient are of different classes",
                [f"patient {names[index]}" for index in mixed],
                "Score the cases instead, or give each patient one class.",
            )
        patient_target = highest
    else:
        patient_target = highest
    if aggregate == "mean":
        patient_scores = _sum(table, group, len(names)) / cases
    else:
        patient_scores = _extreme(table, group, len(names))
        if kind == "multiclass":
            total = patient_scores.sum(axis=1, keepdims=True)
            patient_scores = patient_scores / np.where(total > 0, total, 1)
    return PatientLevel(names, patient_target, patient_scores)


def _sum(values: Floats, group: NDArray[Any], groups: int) -> Floats:
    result = np.zeros((groups, values.shape[1]))
    np.add.at(result, group, values)
    return result


def _extreme(values: Floats, group: NDArray[Any], groups: int) -> Floats:
    result = np.full((groups, values.shape[1]), -np.inf)
    np.maximum.at(result, group, values)
    return result
