"""A tree with a folder per class (and perhaps per split above) becomes a table."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from voxgraft.datasets.importers.class_folders import (
    class_folders,
    compiled_pattern,
    found_id,
    shared_case_ids,
)
from voxgraft.datasets.table import Table, write_table
from voxgraft.errors import TableError, raise_faults
from voxgraft.volumes import SCAN_SUFFIXES, series_uid

_BESIDE_SCANS = (".json", ".txt", ".csv", ".tsv", ".md", ".xml", ".yaml", ".yml", ".pdf")
_DATA_OF_HEADERS = (".raw", ".zraw", ".raw.gz", ".gz")


def import_folder_per_class(
    root: Path | str, table_path: Path | str, *, patient_pattern: str | None = None
) -> Table:
    """Make a table of ``ROOT/CLASS/...`` or ``ROOT/train|val|test/CLASS/...``; scans stay there.

    A case is a scan file, at any depth below its class, or a folder with DICOM slices. Columns:
    ``label`` (the class folder's name) and, with split folders, ``split``. Hidden files and notes
    (.json, .txt, …) are passed over; any other file that is no scan is refused.

    Args:
        root: The tree.
        table_path: Where to write the table (.csv, .tsv or .parquet).
        patient_pattern: Regular expression searched for in a case's path below ``root`` (with
            ``/``); its first group, or the whole match, is the patient id. Without it, the file's
            name without suffix (or the DICOM folder's name) is: equal names then are one patient.

    Returns:
        The table, as written.

    Raises:
        TableError: If there are fewer than two classes, no scans, files that are no scans, cases
            that would share an id, or paths that the pattern does not match.
    """
    root = Path(root)
    if not root.is_dir():
        raise TableError(f"{root}: no such folder. Expected ROOT/CLASS/scans.")
    pattern = compiled_pattern(patient_pattern, "patient", r"'(sub-\d+)'")
    faults: list[str] = []
    rows: list[dict[str, Any]] = []
    base = root.resolve()
    for split, class_folder in class_folders(base):
        rows += [
            _row(base, split, class_folder.name, case, pattern, faults)
            for case in _cases(class_folder, faults)
        ]
    faults += [
        f"{' and '.join(images)} would share the case_id {case_id!r}"
        for case_id, images in shared_case_ids(rows).items()
    ]
    if faults:
        raise_faults(
            TableError,
            f"{root}: cannot become a table",
            faults,
            "Move or rename these files, or correct the pattern.",
        )
    classes = sorted({row["label"] for row in rows})
    if len(classes) < 2:
        raise TableError(
            f"{root}: found {len(rows)} scans in classes {', '.join(classes) or 'none'}; expected "
            "scans in two or more class folders (ROOT/CLASS/scan.nii.gz)."
        )
    return write_table(Table(pd.DataFrame(rows), base), table_path)


def _cases(class_folder: Path, faults: list[str]) -> Iterator[Path]:
    for name, folders, files in os.walk(class_folder):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        here = Path(name)
        visible = sorted(file for file in files if not file.startswith("."))
        scans = [file for file in visible if _scan_suffix(file)]
        headers = any(file.lower().endswith((".nhdr", ".mhd")) for file in scans)
        other = [
            file
            for file in visible
            if file not in scans
            and not file.lower().endswith(_BESIDE_SCANS)
            and not (headers and file.lower().endswith(_DATA_OF_HEADERS))
        ]
        yield from (here / file for file in scans)
        if not other:
            continue
        if not scans and series_uid(here) is not None:
            if here == class_folder:
                faults.append(
                    f"{here}: DICOM slices directly in a class folder; expected a folder a series"
                )
            else:
                yield here
        else:
            faults += [f"{here / file}: is no scan (by its suffix)" for file in other]


def _scan_suffix(file: str) -> str:
    lower = file.lower()
    known = sorted(SCAN_SUFFIXES, key=len, reverse=True)
    return next((suffix for suffix in known if lower.endswith(suffix)), "")


def _row(
    root: Path,
    split: str | None,
    label: str,
    case: Path,
    pattern: re.Pattern[str] | None,
    faults: list[str],
) -> dict[str, Any]:
    inside = case.relative_to(root).as_posix()
    suffix = "" if case.is_dir() else _scan_suffix(case.name)
    bare = inside[: len(inside) - len(suffix)]
    patient = bare.rsplit("/", 1)[-1]
    if pattern is not None:
        found = found_id(pattern, inside)
        if not found:
            faults.append(f"{case}: patient pattern {pattern.pattern!r} does not match {inside!r}")
        patient = found or patient
    row: dict[str, Any] = {
        "case_id": bare.replace("/", "_"),
        "patient_id": patient,
        "image": inside,
        "label": label,
    }
    return row if split is None else {**row, "split": split}
