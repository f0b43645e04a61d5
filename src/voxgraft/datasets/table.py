"""A table of cases: one row a scan, with the patient it is of and what is to be predicted."""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow

from voxgraft.datasets.columns import REQUIRED, TEXT, as_text, text_column, typed_column
from voxgraft.errors import TableError
from voxgraft.files import atomic_path

SPLITS = ("train", "validation", "test")
"""Names that the column ``split`` may hold."""
PATHS = ("image", "masks", "slice_labels", "structures")
"""Columns that hold paths, relative to the table's folder."""
_SUFFIXES = (".csv", ".tsv", ".parquet")
_PARQUET_DAMAGE = (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError)
_SEPARATORS = {".csv": ",;\t", ".tsv": "\t,;"}
_ALSO_CALLED = {
    "case_id": ("case", "id", "scan_id", "scan", "uid"),
    "patient_id": ("patient", "patientid", "subject", "subject_id", "pid", "participant_id"),
    "image": ("path", "file", "filename", "image_path", "scan", "volume", "nifti"),
}


@dataclass(frozen=True, eq=False)
class Table:
    """Cases with their images, patients and targets.

    Attributes:
        frame: One row a case. ``case_id``, ``patient_id``, ``image`` and, where present, ``site``,
            ``split``, ``slice_labels``, ``masks``, ``structures`` and ``annotated`` are text;
            other columns keep their type.
        root: Folder at which relative image paths start.
        path: File that the table was read from, if any.
    """

    frame: pd.DataFrame = field(repr=False)
    root: Path
    path: Path | None = None

    def __post_init__(self) -> None:
        frame = self.frame.reset_index(drop=True)
        frame.columns = pd.Index([as_text(name) for name in frame.columns])
        where = "the table" if self.path is None else str(self.path)
        _check_columns(where, list(frame.columns))
        if frame.empty:
            raise TableError(
                f"{where}: has no cases (columns: {', '.join(frame.columns)}); expected at least "
                "one row. Add a row for each scan."
            )
        for name in TEXT:
            if name in frame.columns:
                frame[name] = text_column(frame[name].tolist())
        object.__setattr__(self, "frame", frame)
        object.__setattr__(self, "root", Path(self.root))

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def case_ids(self) -> tuple[str, ...]:
        """The ids of all cases, in the order of the rows."""
        return tuple(self.frame["case_id"])

    @property
    def patients(self) -> tuple[str, ...]:
        """The ids of all patients, each once, in the order of their first row."""
        return tuple(dict.fromkeys(self.frame["patient_id"]))

    @property
    def splits(self) -> tuple[str, ...]:
        """Names in the column ``split``, each once; empty without that column."""
        return tuple(dict.fromkeys(self.frame["split"])) if "split" in self.frame else ()

    @cached_property
    def _rows(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for position, case_id in enumerate(self.frame["case_id"]):
            rows.setdefault(case_id, []).append(position)
        return rows

    def image_path(self, case_id: str) -> Path:
        """Return the file or folder of a case's scan.

        Raises:
            TableError: If the case is unknown or stands in several rows.
        """
        rows = self._rows.get(case_id, [])
        where = "the table" if self.path is None else str(self.path)
        if len(rows) == 1:
            image = str(self.frame["image"].iloc[rows[0]])
            if not image:
                raise TableError(f"{where}: case {case_id!r} has no image. Fill in its path.")
            return self.root / Path(image)
        if rows:
            raise TableError(
                f"{where}: case_id {case_id!r} stands in {len(rows)} rows, so its image is not "
                "unique. Give each row a case_id of its own (`voxgraft data check` lists all)."
            )
        near = difflib.get_close_matches(case_id, self._rows, n=3)
        hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
        raise TableError(f"{where}: has no case {case_id!r} among its {len(self)} cases.{hint}")

    def split(self, name: str) -> Table:
        """Return the cases of one split.

        Raises:
            TableError: If the table has no splits, or none of that name.
        """
        where = "the table" if self.path is None else str(self.path)
        if "split" not in self.frame:
            raise TableError(
                f"{where}: has no column 'split'. Make one with "
                "`voxgraft data split TABLE --out NEW`, or add it by hand "
                f"({', '.join(SPLITS)})."
            )
        if name not in self.splits:
            found = ", ".join(repr(split) for split in self.splits)
            raise TableError(
                f"{where}: has no case in split {name!r}; found {found}. "
                f"Expected names are {', '.join(SPLITS)}."
            )
        return self.where(self.frame["split"] == name)

    def where(self, keep: pd.Series[Any] | Iterable[bool]) -> Table:
        """Return the cases for which ``keep`` (one truth value a row) is true."""
        return Table(self.frame[list(keep)], self.root, self.path)

    def with_column(self, name: str, values: Iterable[Any]) -> Table:
        """Return the table with a column added or replaced (no longer tied to a file)."""
        return Table(self.frame.assign(**{name: list(values)}), self.root)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content: column names and cells in their order; not of the file's bytes.

        The same cases in CSV and in Parquet give the same hash; images are hashed by their path
        as written, not by their voxels.
        """
        digest = hashlib.sha256(json.dumps(list(self.frame.columns)).encode())
        columns = [[as_text(value) for value in self.frame[name]] for name in self.frame.columns]
        for row in zip(*columns, strict=True):
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()

    @property
    def split_sha256(self) -> str | None:
        """SHA-256 of which patient is in which split, whatever the order of rows; None without."""
        if "split" not in self.frame:
            return None
        pairs = sorted(set(zip(self.frame["patient_id"], self.frame["split"], strict=True)))
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()


def read_table(path: Path | str) -> Table:
    """Read a table of cases from CSV, TSV or Parquet.

    In text files, ids, ``image``, ``site`` and ``split`` stay text (``001`` stays ``001``); of the
    other columns, numbers become numbers and empty cells or ``NA`` become missing. A byte-order
    mark is skipped; semicolons and tabs are recognized by the header line.

    Raises:
        TableError: If the file is missing, of another kind, malformed, without rows, or lacks
            required columns (all are named together).
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise TableError(
            f"{path}: unknown suffix {path.suffix!r}; expected one of {', '.join(_SUFFIXES)}. "
            "Save the table as CSV (UTF-8)."
        )
    if not path.is_file():
        raise TableError(f"{path}: no such table file. Check the path.")
    frame = _read_parquet(path) if suffix == ".parquet" else _read_text(path, suffix)
    return Table(frame, path.resolve().parent, path)


def write_table(table: Table, path: Path | str) -> Table:
    """Write a table as CSV, TSV or Parquet, by the suffix; whole or not at all.

    Relative paths in ``image``, ``masks`` and the columns of sidecars are rewritten so that they
    lead to the same files from the new place. A table with masks that moves away from its
    ``structures.json`` names it in a column from then on.

    Returns:
        The table as it stands in the file.

    Raises:
        TableError: If the suffix is unknown or the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES:
        raise TableError(
            f"{path}: unknown suffix {path.suffix!r}; expected one of {', '.join(_SUFFIXES)}."
        )
    root = path.parent.resolve()
    frame = table.frame
    if "masks" in frame and "structures" not in frame and table.root.resolve() != root:
        frame = frame.assign(structures="structures.json")
    paths = [name for name in PATHS if name in frame]
    moved = {name: [_relocated(cell, table.root, root) for cell in frame[name]] for name in paths}
    written = Table(frame.assign(**moved), root, path)
    try:
        with atomic_path(path) as temporary:
            if suffix == ".parquet":
                written.frame.to_parquet(temporary, index=False)
            else:
                separator = "\t" if suffix == ".tsv" else ","
                written.frame.to_csv(temporary, index=False, sep=separator, lineterminator="\n")
    except (OSError, pyarrow.ArrowException) as error:
        raise TableError(f"{path}: cannot be written: {error}") from error
    return written


def _relocated(image: str, old: Path, new: Path) -> str:
    if not image or Path(image).is_absolute():
        return image
    start = old.resolve()
    return image if start == new else Path(os.path.relpath(start / image, new)).as_posix()


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
        for name in frame.columns:
            frame[name].tolist()
    except (*_PARQUET_DAMAGE, pyarrow.ArrowException) as error:
        raise TableError(
            f"{path}: cannot be read as Parquet: {error}. Write it again, or use CSV."
        ) from error
    return frame


def _read_text(path: Path, suffix: str) -> pd.DataFrame:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(
            f"{path}: is not UTF-8 text (byte {error.start} is {error.object[error.start]:#04x}). "
            "Save it as 'CSV UTF-8'."
        ) from error
    except OSError as error:
        raise TableError(f"{path}: cannot be opened: {error.strerror or error}.") from error
    header = next((line for line in re.split(r"[\r\n]", text) if line.strip()), "")
    if not header:
        raise TableError(
            f"{path}: the file is empty; expected a header line with {', '.join(REQUIRED)}."
        )
    separator = max(_SEPARATORS[suffix], key=lambda mark: _required_found(header, mark))
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        raise TableError(
            f"{path}: is no well-formed {suffix[1:].upper()}: {error}. "
            "Check its quotes, or save it again."
        ) from error
    numbered = [(n, row) for n, row in enumerate(rows, 1) if any(cell.strip() for cell in row)]
    names = [name.strip() for name in numbered[0][1]]
    _check_rows(path, names, numbered[1:])
    comma = separator == ";"
    columns = {}
    for position, name in enumerate(names):
        cells = [row[position] for _, row in numbered[1:]]
        columns[name] = (
            text_column(cells) if name in TEXT else typed_column(cells, decimal_comma=comma)
        )
    return pd.DataFrame(columns, columns=names)


def _required_found(header: str, separator: str) -> tuple[int, int]:
    names = [name.strip().strip('"') for name in header.split(separator)]
    return sum(name in names for name in REQUIRED), len(names)


def _check_rows(path: Path, names: list[str], rows: list[tuple[int, list[str]]]) -> None:
    odd = [f"row {n} ({row[0]!r}) has {len(row)}" for n, row in rows if len(row) != len(names)]
    if odd:
        more = f" and {len(odd) - 5} more" if len(odd) > 5 else ""
        raise TableError(
            f"{path}: {len(names)} columns in the header, but {', '.join(odd[:5])}{more}. "
            "Put cells that hold the separator in quotes."
        )


def _check_columns(where: str, names: list[str]) -> None:
    unnamed = [str(position) for position, name in enumerate(names, 1) if not name]
    if unnamed:
        raise TableError(
            f"{where}: column {', '.join(unnamed)} has no name. Name it or remove it "
            "(an index column of pandas: write with to_csv(index=False))."
        )
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise TableError(
            f"{where}: columns stand twice: {', '.join(double)}. Keep one of each name."
        )
    missing = [name for name in REQUIRED if name not in names]
    if not missing:
        return
    hints = []
    for name in missing:
        also = [n for n in names if n.lower().replace(" ", "_") in (name, *_ALSO_CALLED[name])]
        also = also or difflib.get_close_matches(name, names, n=1, cutoff=0.75)
        also = [n for n in also if n not in REQUIRED]
        if also:
            hints.append(f"Rename {also[0]!r} to {name!r}.")
        elif name == "patient_id":
            hints.append(
                "If each case is a patient of its own, copy case_id to patient_id: cases of one "
                "patient must share it, or they leak from training into the test."
            )
    raise TableError(
        f"{where}: required columns are missing: {', '.join(missing)}. "
        f"Found: {', '.join(names)}. Expected {', '.join(REQUIRED)} and the target columns. "
        + " ".join(hints)
    )
