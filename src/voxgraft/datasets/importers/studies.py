"""Any scans with a label a study: a folder of DICOM series or files, and a labels file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from voxgraft.datasets.columns import REQUIRED, TEXT, text_column, typed_column
from voxgraft.datasets.csv_rows import Rows, read_rows
from voxgraft.datasets.importers.folder import Progress
from voxgraft.datasets.importers.scan_headers import ScanHeaders, read_many_headers
from voxgraft.datasets.importers.study_matching import Match, ScanName, find_scans, match_rows
from voxgraft.datasets.importers.study_table import LEFT_OUT, Found, Notice, finish_studies
from voxgraft.datasets.table import Table
from voxgraft.errors import TableError, raise_faults

_TAKEN = (*REQUIRED, "slice_labels")


def import_studies(
    root: Path | str,
    labels_path: Path | str,
    table_path: Path | str,
    *,
    key: str | None = None,
    series: Literal["only", "largest"] = "only",
    leave_out_faulty: bool = False,
    jobs: int = 1,
    on_progress: Progress | None = None,
    on_notice: Notice | None = None,
) -> Table:
    """Make a table of scans below a folder and the labels of a CSV file; scans stay there.

    A scan is a file that ``read_volume`` knows, or a folder with one DICOM series. The column
    ``key`` names a row's scan by its SeriesInstanceUID, StudyInstanceUID, path below ``root``
    (with or without suffix), file or folder name, or PatientID, whichever fits most rows. All
    other columns are kept. ``case_id`` is the file's own column of that name, else the key;
    ``patient_id`` likewise, else the PatientID of the headers, else the key.

    Args:
        root: Folder with scans at any depth.
        labels_path: CSV file with one row a study.
        table_path: Where the table goes (.csv, .tsv or .parquet). What is left out stands in
            ``<its name>_left_out.csv`` beside it.
        key: Column that names scans; None takes the one that does so for most rows.
        series: What to do about several series of one study: ``"only"`` names them as a fault,
            ``"largest"`` takes the one with most slices.
        leave_out_faulty: Write the table without rows and scans that cannot be used.
        jobs: Processes that read headers.
        on_progress: Called with (scans read, scans in all).
        on_notice: Called with sentences that should be read.

    Returns:
        The table; one case a row of the labels file.

    Raises:
        TableError: If no column, or no single one, names scans, or there are rows without a scan
            or with several, scans without a row, or scans that cannot be read: all are named.
    """
    root, labels_path, table_path = Path(root), Path(labels_path), Path(table_path)
    if series not in ("only", "largest"):
        raise TableError(f"series is {series!r}; expected 'only' or 'largest'.")
    rows = read_rows(labels_path, "Expected a CSV file with a row for each study.")
    columns = _columns(labels_path, rows)
    scans = find_scans(root)
    match = match_rows(columns, scans, key, str(labels_path))
    found = Found()
    found.notices.append(f"column {match.key!r} names scans by {match.kind}")
    names = [
        f"line {line} ({match.key} {cell!r})"
        for (line, _), cell in zip(rows.rows, columns[match.key], strict=True)
    ]
    wanted = _wanted(match, names, found)
    used = sorted({position for positions in wanted.values() for position in positions})
    headers = dict(
        zip(used, read_many_headers([scans[k].path for k in used], jobs, on_progress), strict=True)
    )
    chosen: dict[int, int] = {}
    for row, positions in wanted.items():
        position = _one(positions, scans, headers, series, names[row], found)
        if position is not None:
            chosen[row] = position
    named = {position for positions in match.scans for position in positions}
    found.faults += [
        (scan.inside, "no row names this scan")
        for position, scan in enumerate(scans)
        if position not in named
    ]
    _add_rows(rows, columns, match, scans, chosen, found)
    return finish_studies(
        found,
        root=root,
        table_path=table_path,
        left_out_path=table_path.with_name(f"{table_path.stem}_{LEFT_OUT}"),
        sidecar_columns=[],
        leave_out_faulty=leave_out_faulty,
        on_notice=on_notice,
    )


def _columns(path: Path, rows: Rows) -> dict[str, list[str]]:
    odd = [
        f"line {line}: has {len(cells)} cells, the header has {len(rows.header)}"
        for line, cells in rows.rows
        if len(cells) != len(rows.header)
    ]
    if odd or not rows.rows or "" in rows.header:
        odd = odd or ["a column has no name" if "" in rows.header else "there are no rows"]
        raise_faults(TableError, f"{path}: cannot be used", odd, "Correct the file.")
    columns = {
        name: [cells[place] for _, cells in rows.rows] for place, name in enumerate(rows.header)
    }
    double = [name for name, n in Counter(columns.get("case_id", ())).items() if n > 1]
    if double:
        raise_faults(
            TableError,
            f"{path}: cannot be used",
            [f"case_id {name!r} stands in several rows" for name in double],
            "Give each row a case_id of its own, or rename the column.",
        )
    return columns


def _wanted(match: Match, names: Sequence[str], found: Found) -> dict[int, tuple[int, ...]]:
    """Return the scans that each row names; note rows without any, and scans of two rows."""
    owners = Counter(position for positions in match.scans for position in positions)
    wanted: dict[int, tuple[int, ...]] = {}
    for row, positions in enumerate(match.scans):
        if not positions:
            found.faults.append((names[row], "no scan is called so"))
        elif any(owners[position] > 1 for position in positions):
            found.faults.append((names[row], "another row names the same scan"))
        else:
            wanted[row] = positions
    return wanted


def _one(
    positions: tuple[int, ...],
    scans: Sequence[ScanName],
    headers: dict[int, ScanHeaders],
    series: str,
    name: str,
    found: Found,
) -> int | None:
    """Return the scan of a row, or note why there is none."""
    if len(positions) == 1:
        fault = headers[positions[0]].fault
        if fault:
            found.faults.append((name, fault))
        return None if fault else positions[0]
    shown = "; ".join(
        f"{scans[k].inside} ({headers[k].depth} slices)"
        if not headers[k].fault
        else f"{scans[k].inside} (no volume)"
        for k in positions
    )
    studies = {scans[k].study for k in positions}
    if series == "only" or len(studies) > 1 or studies == {""}:
        more = "" if len(studies) == 1 else f" of {len(studies)} studies"
        advice = "--series largest takes the largest" if len(studies) == 1 else "use a finer key"
        found.faults.append((name, f"names {len(positions)} scans{more}: {shown}; {advice}"))
        return None
    usable = sorted((k for k in positions if not headers[k].fault), key=lambda k: -headers[k].depth)
    if not usable:
        found.faults.append((name, f"none of its scans is a volume: {headers[positions[0]].fault}"))
        return None
    if len(usable) > 1 and headers[usable[0]].depth == headers[usable[1]].depth:
        found.faults.append((name, f"two series have the most slices: {shown}"))
        return None
    found.passed_over += [
        (scans[k].inside, f"{scans[usable[0]].inside} of the same study has more slices")
        for k in positions
        if k != usable[0]
    ]
    return usable[0]


def _add_rows(
    rows: Rows,
    columns: dict[str, list[str]],
    match: Match,
    scans: Sequence[ScanName],
    chosen: dict[int, int],
    found: Found,
) -> None:
    keys = columns[match.key]
    case_ids = columns.get("case_id", keys)
    patients = columns.get("patient_id")
    typed: dict[str, pd.Series[Any]] = {
        name: text_column(cells)
        if name in TEXT or name == match.key
        else typed_column(cells, decimal_comma=rows.separator == ";")
        for name, cells in columns.items()
    }
    nameless = 0
    for row, position in chosen.items():
        said = "" if patients is None else patients[row].strip()
        patient = said or scans[position].patient
        nameless += not patient
        found.rows.append(
            {
                "case_id": case_ids[row].strip(),
                "patient_id": patient or keys[row].strip(),
                "image": scans[position].inside,
                **{name: cells.iloc[row] for name, cells in typed.items() if name not in _TAKEN},
            }
        )
    if nameless:
        found.notices.append(
            f"{nameless} scan(s) without PatientID: each counts as a patient of its own. Where one "
            "patient has several scans, add a column patient_id"
        )
