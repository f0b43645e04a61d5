"""Tables of several data sets as one, each case keeping what its own data set says of its masks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from voxgraft.datasets.columns import as_text
from voxgraft.datasets.mask_classes import FILE, STRUCTURES, structure_files
from voxgraft.datasets.slice_labels import COLUMN as SLICE_LABELS
from voxgraft.datasets.table import Table, read_table, write_table
from voxgraft.datasets.target import MASKS
from voxgraft.errors import TableError, raise_faults

DATASET = "dataset"
"""Column of a joined table: which data set a case is of."""
_FILE_NAMES = ("table", "cases", "split", "table_split", "cases_split")
_SHOWN = 10

Say = Callable[[str], object]


def join_tables(
    tables: Sequence[Table],
    out: Path | str,
    *,
    names: Sequence[str] | None = None,
    same_patients: bool = False,
    on_notice: Say | None = None,
) -> Table:
    """Join the tables of several, also partially labelled, data sets and write them as one.

    Paths lead to the same files from the new place. Each row names the ``structures.json`` of its
    own data set and keeps its ``annotated``, so that what one data set does not annotate stays
    unknown in its cases. Case ids that stand in several tables get their data set's name before
    them, and so do patient ids. Other columns are united; where a table lacks one, its cells are
    missing. ``split`` stays if every table has it, and ``slice_labels`` never: one file is of one
    table.

    Args:
        tables: Two or more.
        out: The table to write; its suffix says how.
        names: What each data set is called; by default as its file, or as its folder where the
            file is called ``table`` or ``cases``. A table that has the column ``dataset`` keeps it.
        same_patients: Whether equal patient ids of different tables are the same patient.
        on_notice: Told what was renamed, and what was left out.

    Returns:
        The table as it stands in the file.

    Raises:
        TableError: If the data sets cannot be told apart, only some have masks, a case stands
            twice in a table, one scan would belong to two patients, a patient would stand in
            several splits, or the table cannot be written. All faults of a kind are named.
    """
    say: Say = on_notice or (lambda _: None)
    out = Path(out)
    _check_tables(tables)
    if out.resolve() in [table.path.resolve() for table in tables if table.path is not None]:
        raise TableError(f"{out}: is one of the tables to join. Give another name for the whole.")
    called = _names(tables, names)
    root = out.parent.resolve()
    frames = [_moved(table, name, root) for table, name in zip(tables, called, strict=True)]
    _rename(frames, "case_id", say)
    if not same_patients:
        _rename(frames, "patient_id", say)
    for column, why in (
        ("split", "not every table has it; make it anew with `voxgraft data split`"),
        (SLICE_LABELS, "a file of slice labels is of one table"),
    ):
        having = sum(column in frame for frame in frames)
        if having and (column == SLICE_LABELS or having < len(frames)):
            say(f"column {column} is left out: {why}")
            frames = [frame.drop(columns=column, errors="ignore") for frame in frames]
    joined = _united(frames)
    _check_joined(joined, root)
    write_table(Table(joined, root), out)
    return read_table(out)


def _check_tables(tables: Sequence[Table]) -> None:
    if len(tables) < 2:
        raise TableError(f"joining needs two tables or more, found {len(tables)}.")
    without = [_where(table) for table in tables if MASKS not in table.frame]
    if 0 < len(without) < len(tables):
        raise_faults(
            TableError,
            "some tables have masks and some have not",
            [f"{where} has no column {MASKS!r}" for where in without],
            "Join tables of one kind, or add the masks (`voxgraft data import` makes tables with).",
        )
    twice = [
        f"{_where(table)}: {case_id!r} stands in {count} rows"
        for table in tables
        for case_id, count in Counter(table.case_ids).items()
        if count > 1
    ]
    if twice:
        raise_faults(TableError, "cases stand twice", twice, "Give each row a case_id of its own.")


def _where(table: Table) -> str:
    return f"the table in {table.root}" if table.path is None else str(table.path)


def _names(tables: Sequence[Table], names: Sequence[str] | None) -> list[str]:
    """Return what each data set is called, each name once."""
    remedy = "Give each table a name of its own (--name, once a table)."
    if names is not None:
        called = [name.strip() for name in names]
        if len(called) != len(tables) or len(set(called)) != len(called) or "" in called:
            raise TableError(
                f"data sets are called {', '.join(map(repr, names))}, for {len(tables)} tables. "
                f"{remedy}"
            )
        return called
    stems = [None if table.path is None else table.path.stem for table in tables]
    folders = [table.root.resolve().name for table in tables]
    called = [
        folder if stem is None or stem in _FILE_NAMES else stem
        for stem, folder in zip(stems, folders, strict=True)
    ]
    if len(set(called)) < len(called):
        called = [f"{folder}_{stem}" for stem, folder in zip(stems, folders, strict=True)]
    if len(set(called)) < len(called):
        shown = ", ".join(map(_where, tables))
        raise TableError(f"{shown}: the data sets cannot be told apart by their names. {remedy}")
    return called


def _moved(table: Table, name: str, root: Path) -> pd.DataFrame:
    """Return a table's rows with the data set's name, and paths as they are from ``root``."""
    frame = table.frame.copy()
    said = [as_text(cell) for cell in frame[DATASET]] if DATASET in frame else [""] * len(frame)
    frame[DATASET] = [cell or name for cell in said]
    if MASKS in frame:
        structure_files(table)  # refuses empty cells
        cells = frame[STRUCTURES] if STRUCTURES in frame else [FILE] * len(frame)
        frame[STRUCTURES] = [_path(cell, table.root, root) for cell in cells]
        frame[MASKS] = [_path(cell, table.root, root) for cell in frame[MASKS]]
    frame["image"] = [_path(cell, table.root, root) for cell in frame["image"]]
    return frame


def _path(cell: str, old: Path, new: Path) -> str:
    """Return a path from a new folder; an absolute one, or one on another drive, is absolute."""
    if not cell or Path(cell).is_absolute():
        return cell
    whole = old.resolve() / Path(cell)
    try:
        return Path(os.path.relpath(whole, new)).as_posix()
    except ValueError:
        return str(whole)


def _rename(frames: list[pd.DataFrame], column: str, say: Say) -> None:
    """Put the data set's name before ids that stand in several tables."""
    counts = Counter(name for frame in frames for name in set(frame[column]))
    shared = {name for name, count in counts.items() if count > 1 and name}
    for frame in frames:
        renamed = {
            old: f"{data_set}_{old}"
            for old, data_set in zip(frame[column], frame[DATASET], strict=True)
            if old in shared
        }
        frame[column] = [renamed.get(name, name) for name in frame[column]]
        if renamed:
            shown = ", ".join(f"{old} is {new}" for old, new in list(renamed.items())[:_SHOWN])
            more = f" and {len(renamed) - _SHOWN} more" if len(renamed) > _SHOWN else ""
            say(f"{len(renamed)} {column} stand in several tables: {shown}{more}")


def _united(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Return all rows with all columns; a column of several types becomes text."""
    columns = list(dict.fromkeys(name for frame in frames for name in frame.columns))
    united: dict[str, list[Any]] = {}
    for name in columns:
        present = [frame[name] for frame in frames if name in frame]
        numbers = [pd.api.types.is_numeric_dtype(cells) for cells in present]
        mixed = any(numbers) and not all(numbers)
        cells: list[Any] = []
        for frame in frames:
            own = frame[name].tolist() if name in frame else [None] * len(frame)
            cells += [as_text(cell) or None for cell in own] if mixed else own
        united[name] = cells
    return pd.DataFrame(united)


def _check_joined(joined: pd.DataFrame, root: Path) -> None:
    """Refuse ids that are not unique, scans of two patients, and patients of two splits."""
    rows = joined["case_id"].value_counts()
    twice = [f"{case_id!r} stands in {count} rows" for case_id, count in rows.items() if count > 1]
    if twice:
        raise_faults(
            TableError,
            "cases cannot be told apart, though their data sets' names stand before them",
            twice,
            "Give the tables other names (--name, once a table).",
        )
    scans = pd.Series([os.path.normpath(root / Path(cell)) for cell in joined["image"]])
    patients = joined["patient_id"].groupby(scans).agg(lambda ids: sorted(set(ids)))
    several = [f"{scan}: {', '.join(ids)}" for scan, ids in patients.items() if len(ids) > 1]
    if several:
        raise_faults(
            TableError,
            "scans would belong to several patients, who could fall into training and test",
            several,
            "The tables have scans in common: join them with --same-patients (in Python, "
            "same_patients=True), which keeps equal patient ids.",
        )
    if "split" in joined:
        splits = joined.groupby("patient_id")["split"].agg(lambda own: sorted(set(own)))
        leaks = [
            f"{patient!r}: {', '.join(own)}" for patient, own in splits.items() if len(own) > 1
        ]
        if leaks:
            raise_faults(
                TableError,
                "patients stand in several splits",
                leaks,
                "Remove the column split from a table, and split the joined one anew "
                "(`voxgraft data split`).",
            )
