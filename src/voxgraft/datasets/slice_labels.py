"""Labels slice by slice: a sidecar file beside the table, named in its column ``slice_labels``.

The file is CSV with the columns ``case_id``, ``slice`` and one column of 0 and 1 for each target
column. ``slice`` counts from 0 along the first axis of the scan as ``read_volume`` gives it (a
DICOM series: sorted along the slice normal). Only slices that are positive for some column need a
row: a case without rows has no positive slice. A case that is not annotated slice by slice has one
row with an empty ``slice``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from voxgraft.datasets.csv_rows import Rows, read_rows
from voxgraft.datasets.table import Table
from voxgraft.errors import TableError, listed, raise_faults
from voxgraft.files import atomic_path

COLUMN = "slice_labels"
"""The table's column that names the sidecar, in every row."""
_NUMBER = re.compile(r"\d{1,9}(\.0*)?")
_REMEDY = "Correct the file, or remove the table's column slice_labels to leave it out."


@dataclass(frozen=True)
class SliceLabels:
    """Which slices of each case are positive.

    Attributes:
        columns: Target columns, in the order that they were asked for.
        path: The sidecar.
        marked: Case to slice to one truth value a column; only rows that the file has.
        unannotated: Cases that are not annotated slice by slice.
        case_ids: All cases of the table.
    """

    columns: tuple[str, ...]
    path: Path
    marked: Mapping[str, Mapping[int, tuple[bool, ...]]] = field(repr=False)
    unannotated: frozenset[str] = field(repr=False)
    case_ids: frozenset[str] = field(repr=False)

    def of(self, case_id: str) -> tuple[tuple[int, ...], ...] | None:
        """Return the positive slices of each column, ascending; None without slice annotation.

        Raises:
            TableError: If the case is not in the table.
        """
        if case_id not in self.case_ids:
            raise TableError(
                f"{self.path}: was read for a table without case {case_id!r}. Read it again with "
                "the table that has the case."
            )
        if case_id in self.unannotated:
            return None
        rows = sorted(self.marked.get(case_id, {}).items())
        return tuple(
            tuple(place for place, values in rows if values[column])
            for column in range(len(self.columns))
        )

    def positive(self, case_id: str, depth: int) -> Bool[np.ndarray, "depth k"] | None:
        """Return which slices are positive for each column.

        Args:
            case_id: A case of the table.
            depth: Slices of its scan along the first axis, as it is read.

        Returns:
            One row a slice, one column a target column; None if the case is not annotated slice
            by slice.

        Raises:
            TableError: If the case is not in the table, or the file has a row beyond the scan.
        """
        if self.of(case_id) is None:
            return None
        rows = self.marked.get(case_id, {})
        beyond = sorted(place for place in rows if place >= depth)
        if beyond:
            raise TableError(
                f"{self.path}: case {case_id}: has rows for {_slices(beyond)}, but its scan has "
                f"{depth} slices (0 to {depth - 1}). Were the labels made for another scan?"
            )
        found = np.zeros((depth, len(self.columns)), dtype=bool)
        for place, values in rows.items():
            found[place] = values
        return found


def write_slice_labels(
    path: Path | str,
    columns: Sequence[str],
    cases: Mapping[str, Bool[np.ndarray, "depth k"] | None],
) -> None:
    """Write a sidecar, whole or not at all.

    Args:
        path: A ``.csv`` file.
        columns: Target columns, K of them.
        cases: Which slices of each case are positive; None for a case that is not annotated slice
            by slice.

    Raises:
        TableError: If an array has another number of columns, or the file cannot be written.
    """
    path = Path(path)
    odd = [
        f"case {case_id}: labels have shape {found.shape}, expected (slices, {len(columns)})"
        for case_id, found in cases.items()
        if found is not None and (found.ndim != 2 or found.shape[1] != len(columns))
    ]
    if odd:
        raise_faults(TableError, f"{path}: cannot be written", odd, "Give one column a target.")
    try:
        with (
            atomic_path(path) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as handle,
        ):
            out = csv.writer(handle, lineterminator="\n")
            out.writerow(["case_id", "slice", *columns])
            for case_id, found in cases.items():
                if found is None:
                    out.writerow([case_id, "", *[""] * len(columns)])
                    continue
                for place in np.flatnonzero(found.any(axis=1)):
                    out.writerow([case_id, int(place), *found[place].astype(int).tolist()])
    except OSError as error:
        raise TableError(f"{path}: cannot be written: {error}") from error


def read_slice_labels(
    table: Table, columns: Sequence[str], *, subset: bool = False
) -> SliceLabels | None:
    """Read the sidecar of a table.

    Args:
        table: Cases; its column ``slice_labels`` names one file, relative to the table's folder.
        columns: Target columns.
        subset: The table is a part of the one that the file was made for: rows of other cases are
            passed over. Otherwise they are a fault.

    Returns:
        The labels; None where the table has no column ``slice_labels``.

    Raises:
        TableError: If the column does not name one file, or the file cannot be read, lacks
            columns, or has unknown cases, slices that are no whole numbers from 0, values that are
            not 0 or 1, or two rows for a slice; all faults are named with their line.
    """
    if COLUMN not in table.frame:
        return None
    path = _sidecar(table)
    found = read_rows(path, _REMEDY)
    wanted = tuple(columns)
    missing = [name for name in ("case_id", "slice", *wanted) if name not in found.header]
    if missing or not wanted:
        lack = f"has no column {', '.join(map(repr, missing))}"
        raise TableError(
            f"{path}, line 1: {lack if missing else 'is asked for no target column'}; found "
            f"{', '.join(found.header)}. Expected case_id, slice and a column of 0 and 1 for each "
            f"target. {_REMEDY}"
        )
    return _parsed(path, found, wanted, frozenset(table.case_ids), subset)


def sidecar_columns(table: Table) -> tuple[str, ...]:
    """Return the target columns that the table's sidecar labels slice by slice.

    Raises:
        TableError: If the table does not name one file, or it cannot be read.
    """
    found = read_rows(_sidecar(table), _REMEDY)
    return tuple(name for name in found.header if name not in ("case_id", "slice"))


def _parsed(
    path: Path,
    found: Rows,
    columns: tuple[str, ...],
    case_ids: frozenset[str],
    subset: bool,
) -> SliceLabels:
    faults: list[str] = []
    remedy = _REMEDY
    marked: dict[str, dict[int, tuple[bool, ...]]] = {}
    lines: dict[tuple[str, int | None], int] = {}
    places = [found.header.index(name) for name in ("case_id", "slice", *columns)]
    for line, row in found.rows:
        if len(row) != len(found.header):
            faults.append(f"line {line}: has {len(row)} cells, the header has {len(found.header)}")
            continue
        case_id, slice_text, *values = (row[place].strip() for place in places)
        if case_id not in case_ids:
            if not (subset and case_id):
                faults.append(f"line {line}: case {case_id!r} is not in the table")
                remedy = f"{_REMEDY} A table that was cut down needs a file that is, too."
            continue
        if slice_text and not _NUMBER.fullmatch(slice_text):
            faults.append(
                f"line {line}: slice is {slice_text!r}, expected a whole number from 0, or nothing"
            )
            continue
        index = int(float(slice_text)) if slice_text else None
        odd = [
            f"line {line}: {name} is {value!r}, expected 0 or 1"
            for name, value in zip(columns, values, strict=True)
            if value not in ("0", "1", "0.0", "1.0") and not (index is None and value == "")
        ]
        faults += odd
        before = lines.setdefault((case_id, index), line)
        if before != line:
            faults.append(
                f"line {line}: case {case_id!r}, slice {slice_text or '(empty)'} stands in line "
                f"{before} already"
            )
        elif index is not None and not odd:
            marked.setdefault(case_id, {})[index] = tuple(float(value) == 1 for value in values)
    unannotated = frozenset(case_id for case_id, index in lines if index is None)
    faults += [
        f"line {lines[case_id, None]}: case {case_id!r} is said not to be annotated slice by slice "
        f"(empty slice), but has rows with a slice, such as {_slices(sorted(marked[case_id]))}"
        for case_id in sorted(unannotated & set(marked))
    ]
    if faults:
        raise_faults(TableError, f"{path}: slice labels cannot be used", faults, remedy)
    return SliceLabels(columns, path, marked, unannotated, case_ids)


def _sidecar(table: Table) -> Path:
    where = "the table" if table.path is None else str(table.path)
    named = {
        case_id: str(cell).strip() if isinstance(cell, str) else ""
        for case_id, cell in zip(table.case_ids, table.frame[COLUMN], strict=True)
    }
    found = sorted(set(named.values()))
    empty = [case_id for case_id, cell in named.items() if not cell]
    if empty or len(found) != 1:
        shown = f"is empty for {listed(empty)}" if empty else f"names {listed(found)}"
        raise TableError(
            f"{where}: column slice_labels {shown}; expected the same file in every row. Write "
            "the rows of all cases into one file (a case that is not annotated slice by slice gets "
            "a row with an empty slice)."
        )
    return table.root / found[0]


def _slices(places: Sequence[int]) -> str:
    return f"slice{'s' * (len(places) > 1)} {listed([str(place) for place in places])}"
