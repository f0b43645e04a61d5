"""Whether the cases that are trained on annotate every class that is to be learnt."""

from __future__ import annotations

from collections.abc import Sequence

from voxgraft.datasets.mask_classes import case_masks
from voxgraft.datasets.table import Table
from voxgraft.errors import TableError, raise_faults


def unannotated(table: Table, classes: Sequence[str]) -> dict[str, str]:
    """Return the classes that no case of a table annotates, each with why.

    Args:
        table: The cases that are trained on, and no others: a split, or a subset of it.
        classes: What is to be learnt.

    Returns:
        Class to a phrase; empty if every class can be learnt.

    Raises:
        TableError: If the masks cannot be used.
    """
    found = case_masks(table).values()
    known = {name for each in found for name in each.annotated}
    drawn = {name for each in found for name in each.structures.names}
    left_out = "their data set has it, and none of these cases annotates it"
    unheard = "no structure of their data set has that name"
    return {name: left_out if name in drawn else unheard for name in classes if name not in known}


def cases_without(table: Table, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the cases that annotate none of some classes: nothing can be learnt from them.

    Args:
        table: Scans with masks.
        classes: What is to be learnt.

    Raises:
        TableError: If the masks cannot be used.
    """
    found = case_masks(table)
    return tuple(case for case in table.case_ids if not set(classes) & set(found[case].annotated))


def check_annotated(table: Table, classes: Sequence[str], *, where: str = "") -> None:
    """Refuse to train for a class that no training case annotates.

    Args:
        table: The cases that are trained on, and no others: a split, or a subset of it.
        classes: What is to be learnt.
        where: What the cases are ("4 training patients, subset seed 0"), for the message.

    Raises:
        TableError: If a class is annotated by none of them; all such are named with the table,
            and what to do. Or if the masks cannot be used.
    """
    missing = unannotated(table, classes)
    if not missing:
        return
    file = "the table" if table.path is None else str(table.path)
    raise_faults(
        TableError,
        f"{file}{f' ({where})' if where else ''}: {len(missing)} of {len(classes)} classes cannot "
        "be learnt",
        [
            f"{name!r} is annotated by none of {len(table)} training cases: {why}"
            for name, why in missing.items()
        ],
        "Leave them out of target.classes, or train with cases that annotate them: more training "
        "patients, another subset seed or another split. What a case annotates stands in the "
        "table's column 'annotated', or in structures.json.",
        shown=len(missing),
    )
