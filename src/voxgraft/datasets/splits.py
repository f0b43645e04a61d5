"""Train, validation and test: by patient, stratified, the same on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence

from voxgraft.datasets.strata import Strata, patient_strata
from voxgraft.datasets.table import SPLITS, Table
from voxgraft.datasets.target import Target
from voxgraft.errors import TableError


def split_table(
    table: Table,
    *,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int,
    target: Target | None = None,
    replace: bool = False,
) -> Table:
    """Add a column ``split`` that keeps each patient on one side.

    Patients are drawn by a hash of seed and patient id, so the split does not depend on the order
    of rows or on the machine (``Table.split_sha256`` names it). With a target, classes (or, for
    regression, quantile bins) have the same share in each split, as nearly as whole patients
    allow, and each class is in each split.

    Args:
        table: Cases; nothing but ``patient_id`` and the target columns is looked at.
        fractions: Shares of patients for train, validation and test; they sum to 1. A share of 0
            leaves the split out (not for train).
        seed: Another seed, another split.
        target: What to stratify by.
        replace: Replace a column ``split`` that is there.

    Returns:
        The table with the column ``split``.

    Raises:
        TableError: If fractions are impossible, there is a split already, a patient id is empty,
            or a class has fewer patients than there are splits.
    """
    shares = _checked_fractions(fractions)
    where = "the table" if table.path is None else str(table.path)
    if "split" in table.frame and not replace:
        raise TableError(
            f"{where}: has a column 'split' already. Remove it, or ask for it to be replaced."
        )
    if "" in table.patients:
        raise TableError(
            f"{where}: {sum(table.frame['patient_id'] == '')} cases have no patient_id, so they "
            "cannot be kept on one side. Fill it in."
        )
    strata = patient_strata(table.frame, target, "split", seed)
    used = sum(share > 0 for share in shares)
    _check_enough(where, table, strata, used)
    side = _deal(strata, shares)
    _check_classes(where, strata, side, [s for s, f in zip(SPLITS, shares, strict=True) if f > 0])
    return table.with_column("split", [side[name] for name in table.frame["patient_id"]])


def _checked_fractions(fractions: Sequence[float]) -> tuple[float, ...]:
    shares = tuple(float(value) for value in fractions)
    good = len(shares) == 3 and all(math.isfinite(f) and 0 <= f <= 1 for f in shares)
    if not good or abs(sum(shares) - 1) > 1e-6 or shares[0] == 0:
        raise TableError(
            f"split fractions are {shares}; expected three shares for train, validation and test "
            "that sum to 1, train above 0. For example 0.7, 0.15, 0.15."
        )
    return shares


def _check_enough(where: str, table: Table, strata: Strata, used: int) -> None:
    if len(table.patients) < used:
        raise TableError(
            f"{where}: has {len(table.patients)} patients for {used} splits; expected one in each "
            "at the least. Add patients, or set a fraction to 0."
        )
    short = [f"{name!r} has {n}" for name, n in strata.classes.items() if n < used]
    if short:
        raise TableError(
            f"{where}: classes with too few patients for {used} splits: {', '.join(short)}. "
            f"Expected {used} or more each. Add patients, merge or drop the class, or set a "
            "fraction to 0."
        )


def _deal(strata: Strata, shares: tuple[float, ...]) -> dict[str, str]:
    """Deal strata out, small ones first; what one gets too much of, the next gets less of."""
    side: dict[str, str] = {}
    owed = [0.0] * len(shares)
    used = [place for place, share in enumerate(shares) if share > 0]
    for patients in sorted(strata.members.values(), key=len):
        n = len(patients)
        ideal = [
            n * share + debt if share else 0.0 for share, debt in zip(shares, owed, strict=True)
        ]
        counts = _whole_counts(ideal, n, used)
        owed = [want - got for want, got in zip(ideal, counts, strict=True)]
        start = 0
        for split, count in zip(SPLITS, counts, strict=True):
            side.update(dict.fromkeys(patients[start : start + count], split))
            start += count
    for place in used:
        if SPLITS[place] not in side.values():
            giver = max(used, key=lambda other: sum(s == SPLITS[other] for s in side.values()))
            moved = next(name for name, split in side.items() if split == SPLITS[giver])
            side[moved] = SPLITS[place]
    return side


def _whole_counts(ideal: list[float], n: int, used: list[int]) -> list[int]:
    """Round to whole patients that sum to ``n``; one for each used split if there are enough."""
    counts = [max(0, math.floor(value + 1e-9)) for value in ideal]
    while sum(counts) > n:
        counts[max(used, key=lambda k: (counts[k] > 0, counts[k] - ideal[k], -k))] -= 1
    while sum(counts) < n:
        counts[max(used, key=lambda k: (round(ideal[k] - counts[k], 9), -k))] += 1
    if n >= len(used):
        for place in used:
            if counts[place] == 0:
                counts[max(used, key=lambda k: (counts[k], -k))] -= 1
                counts[place] += 1
    return counts


def _check_classes(where: str, strata: Strata, side: dict[str, str], used: list[str]) -> None:
    present = {(label, side[name]) for name, labels in strata.labels.items() for label in labels}
    absent = [
        f"{label!r} is not in {split}"
        for label in strata.classes
        for split in used
        if (label, split) not in present
    ]
    if absent:
        raise TableError(
            f"{where}: no split found with every class on every side: {', '.join(absent)}. "
            "Add patients, merge or drop the class, try another seed, or split by hand."
        )
