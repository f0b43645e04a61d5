"""Kinetics' annotation files: which clip of which video shows what, and in which split it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from voxgraft.datasets.csv_rows import read_rows
from voxgraft.datasets.importers.class_folders import SPLIT_NAMES
from voxgraft.datasets.importers.study_table import Found
from voxgraft.errors import TableError

_NEEDED = ("label", "youtube_id", "time_start", "time_end")
_REMEDY = "Expected an annotation file of Kinetics: " + ",".join(_NEEDED) + "[,split]."


def annotated_clips(
    annotations: Sequence[Path], videos: Sequence[Path], base: Path, found: Found
) -> list[dict[str, Any]]:
    """Return a row for each annotated clip whose file is there; others are faults.

    Args:
        annotations: CSV files; a row's file is named ``<youtube_id>_<start>_<end>``, with six
            digits for each second.
        videos: Files below ``base``; those that no row names are passed over.
        base: Root of the data set.
        found: Where faults go.

    Raises:
        TableError: If a file is missing, no CSV, or has not the columns.
    """
    files: dict[str, list[Path]] = {}
    for video in videos:
        files.setdefault(video.stem, []).append(video)
    rows: list[dict[str, Any]] = []
    with_split: dict[Path, bool] = {}
    for path in annotations:
        read = read_rows(path, _REMEDY)
        missing = [name for name in _NEEDED if name not in read.header]
        if missing:
            raise TableError(
                f"{path}: has no column {', '.join(missing)}; found {', '.join(read.header)}. "
                f"{_REMEDY} Lists of test videos without labels cannot be used."
            )
        with_split[path] = "split" in read.header
        for line, cells in read.rows:
            count = len(read.header)
            row: dict[str, Any] | str = (
                f"has {len(cells)} cells, expected {count}; a label with a comma stands in quotes"
            )
            if not any(cell.strip() for cell in cells[count:]):
                # A short line lacks its last cells: _row names those that it needs.
                whole = [*cells, *[""] * count][:count]
                row = _row(dict(zip(read.header, whole, strict=True)), files, base)
            if isinstance(row, str):
                found.faults.append((f"{path}, line {line}", row))
            else:
                rows.append(row)
    if len(set(with_split.values())) > 1:
        without = ", ".join(str(path) for path, has in with_split.items() if not has)
        raise TableError(f"{without}: has no column split, but other annotations have. Add it.")
    return rows


def _row(cells: dict[str, str], files: dict[str, list[Path]], base: Path) -> dict[str, Any] | str:
    """Return a clip's row, or what is wrong with it."""
    empty = [name for name in _NEEDED if not cells.get(name, "").strip()]
    if empty:
        return f"has no {', '.join(empty)}"
    try:
        start, end = (int(float(cells[name])) for name in ("time_start", "time_end"))
    except (ValueError, OverflowError):
        return (
            f"time_start is {cells['time_start']!r} and time_end {cells['time_end']!r}; expected "
            "seconds"
        )
    case_id = f"{cells['youtube_id'].strip()}_{start:06d}_{end:06d}"
    own = files.get(case_id, [])
    if len(own) != 1:
        there = " and ".join(path.relative_to(base).as_posix() for path in own)
        return (
            f"{case_id}: {f'has several files, {there}' if own else 'has no file below the root'}"
        )
    row: dict[str, Any] = {
        "case_id": case_id,
        "image": own[0].relative_to(base).as_posix(),
        "label": cells["label"].strip(),
    }
    if "split" in cells:
        split = SPLIT_NAMES.get(cells["split"].strip().lower())
        if split is None:
            return f"split is {cells['split']!r}; expected one of {', '.join(SPLIT_NAMES)}"
        row["split"] = split
    return row
