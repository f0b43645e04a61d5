"""Patients in strata: what a patient counts as when splits and subsets are balanced."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from voxgraft.datasets.mask_classes import case_masks
from voxgraft.datasets.table import Table
from voxgraft.datasets.target import Target

_MAX_BINS = 10
_PATIENTS_PER_BIN = 5


@dataclass(frozen=True)
class Strata:
    """Patients grouped for balanced drawing; nothing depends on the order of the table's rows.

    Attributes:
        members: Name of a stratum to its patients, in the drawn (hashed) order.
        labels: Patient to the class names that its cases have (empty for regression).
    """

    members: dict[str, list[str]]
    labels: dict[str, frozenset[str]]

    @property
    def classes(self) -> dict[str, int]:
        """Class name to the number of patients with such a case, for classes that occur."""
        counts = Counter(name for names in self.labels.values() for name in names)
        return dict(sorted(counts.items()))


def draw_key(purpose: str, seed: int, patient: str) -> str:
    """Return the hash by which patients are drawn: the same on every machine."""
    return hashlib.sha256(f"voxgraft|{purpose}|{seed}|{patient}".encode()).hexdigest()


def patient_strata(frame: pd.DataFrame, target: Target | None, purpose: str, seed: int) -> Strata:
    """Group the patients of a table.

    A patient with cases of several classes counts as the class that fewest patients have. For
    regression, patients are ranked by their mean target and cut into up to 10 equal bins. Cases
    without a usable target are ignored; a patient who has no other is in a stratum ``"none"``, as
    is one without any label of a multilabel target.

    Args:
        frame: Rows of a table.
        target: What to balance; None, or a segmentation, puts all patients into one stratum.
        purpose: Salt of the draw, so that splits and subsets are drawn apart.
        seed: Seed of the draw.
    """
    patients = sorted(set(frame["patient_id"]), key=lambda name: draw_key(purpose, seed, name))
    if target is None or target.kind == "segmentation":
        return Strata({"all": patients}, {name: frozenset() for name in patients})
    values, _ = target.encode_known(frame)
    rows: dict[str, list[int]] = {name: [] for name in patients}
    for row, name in enumerate(frame["patient_id"]):
        rows[name].append(row)
    if target.kind == "regression":
        return Strata(_bins(patients, rows, values), {name: frozenset() for name in patients})
    labels = {name: _labels(target, values[rows[name]]) for name in patients}
    return Strata(_by_rarest(patients, labels), labels)


def structure_strata(table: Table, target: Target, purpose: str, seed: int) -> Strata:
    """Group the patients of a table of masks by what their scans annotate.

    Args:
        table: Scans with masks.
        target: Of a segmentation; its classes count.
        purpose: Salt of the draw.
        seed: Seed of the draw.

    Raises:
        TableError: If the masks cannot be used.
    """
    patients = sorted(set(table.patients), key=lambda name: draw_key(purpose, seed, name))
    found = case_masks(table)
    labels: dict[str, frozenset[str]] = dict.fromkeys(patients, frozenset())
    for case_id, name in zip(table.case_ids, table.frame["patient_id"], strict=True):
        labels[name] |= set(found[case_id].annotated) & set(target.classes)
    return Strata(_by_rarest(patients, labels), labels)


def _by_rarest(patients: list[str], labels: dict[str, frozenset[str]]) -> dict[str, list[str]]:
    """Return patients in the order given, by the one of their labels that fewest have."""
    counts = Counter(label for names in labels.values() for label in names)
    members: dict[str, list[str]] = {}
    for name in patients:
        rarest = min(labels[name], key=lambda label: (counts[label], label), default="none")
        members.setdefault(rarest, []).append(name)
    return dict(sorted(members.items()))


def _labels(target: Target, values: np.ndarray) -> frozenset[str]:
    if target.kind == "multilabel":
        known = values[~np.isnan(values).any(axis=1)]
        found = {target.columns[place] for place in np.flatnonzero((known == 1).any(axis=0))}
        return frozenset(found)
    known = values[~np.isnan(values[:, 0]), 0]
    return frozenset(target.classes[int(value)] for value in known)


def _bins(
    patients: list[str], rows: dict[str, list[int]], values: np.ndarray
) -> dict[str, list[str]]:
    means = {}
    for name in patients:
        known = [float(value) for value in values[rows[name], 0] if not math.isnan(value)]
        if known:
            means[name] = math.fsum(known) / len(known)
    place = {name: position for position, name in enumerate(patients)}
    ranked = sorted(means, key=lambda name: (means[name], place[name]))
    count = max(1, min(_MAX_BINS, len(ranked) // _PATIENTS_PER_BIN))
    members: dict[str, list[str]] = {}
    for rank, name in enumerate(ranked):
        members.setdefault(f"bin {rank * count // len(ranked):02d}", []).append(name)
    unknown = [name for name in patients if name not in means]
    if unknown:
        members["none"] = unknown
    return {label: sorted(names, key=place.__getitem__) for label, names in members.items()}
