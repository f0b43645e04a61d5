"""What all imports of scans with masks share: names, patients, and the files that are written."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from voxgraft.datasets.columns import TEXT, text_column, typed_column
from voxgraft.datasets.csv_rows import read_rows
from voxgraft.datasets.importers.class_folders import (
    compiled_pattern,
    found_id,
    shared_case_ids,
)
from voxgraft.datasets.importers.segmentation_found import SegmentationFound
from voxgraft.datasets.importers.segmentation_names import annotated_cell, name_structures
from voxgraft.datasets.importers.study_table import LEFT_OUT, Found, Notice, finish_studies
from voxgraft.datasets.mask_classes import (
    ANNOTATED,
    FILE,
    STRUCTURES,
    Structures,
    read_structures,
    write_structures,
)
from voxgraft.datasets.structures import read_name_map
from voxgraft.datasets.table import Table
from voxgraft.errors import TableError
from voxgraft.volumes import SCAN_SUFFIXES


@dataclass(frozen=True)
class SegmentationOptions:
    """What a person can say of any data set with masks.

    Attributes:
        name_map: File with the structure that each class is (see ``read_name_map``).
        patient_pattern: Regular expression searched for in the path of a case's scan below the
            root; its first group, or the whole match, is the patient.
        patients: CSV file with the columns ``case_id`` and ``patient_id``.
        leave_out_faulty: Write the table without the cases that cannot be used.
        on_notice: Called with sentences that should be read.
    """

    name_map: Path | str | None = None
    patient_pattern: str | None = None
    patients: Path | str | None = None
    leave_out_faulty: bool = False
    on_notice: Notice | None = None


def finish_segmentation(
    found: SegmentationFound, out_folder: Path | str, options: SegmentationOptions
) -> Table:
    """Name structures and patients; write ``structures.json`` and, last, ``table.csv``.

    Returns:
        The table, as written.

    Raises:
        TableError: If cases cannot be used (all are named), or none is left, or names or patients
            cannot be given.
    """
    out = Path(out_folder)
    if out.is_file() or out.suffix in (".csv", ".tsv", ".parquet"):
        raise TableError(f"{out}: is a file; expected a folder for table.csv and {FILE}.")
    for case_id, images in shared_case_ids(found.cases).items():
        found.faults.append((case_id, f"would be the case_id of {' and '.join(images)}"))
    shared = set(shared_case_ids(found.cases))
    found.cases = [case for case in found.cases if case["case_id"] not in shared]
    if found.cases and not found.sources:
        raise TableError(f"{found.root}: its masks have no classes. Check the folder.")
    patients = _patients(found, options)
    found.cases = [case for case in found.cases if case["case_id"] in patients]
    chosen = {} if options.name_map is None else read_name_map(options.name_map)
    structures = name_structures(found, chosen) if found.cases else None
    cases = found.cases
    result = Found(faults=found.faults, notices=found.notices)
    extra = [name for name in (cases[0] if cases else ()) if name not in _OWN]
    typed = {
        name: (text_column if name in TEXT else typed_column)([case[name] for case in cases])
        for name in extra
    }
    annotated = [
        "" if structures is None else annotated_cell(case["case_id"], found, structures)
        for case in cases
    ]
    partial = sum(cell != "" for cell in annotated)
    if partial:
        result.notices.append(
            f"{partial} case(s) lack files of some classes: these are unknown there (column "
            f"{ANNOTATED}), not absent"
        )
    base = found.root.resolve()
    for row, case in enumerate(cases):
        line: dict[str, Any] = {
            "case_id": case["case_id"],
            "patient_id": patients[case["case_id"]],
            "image": case["image"],
            "masks": case["masks"],
            STRUCTURES: os.path.relpath(out.resolve() / FILE, base),
        }
        if partial:
            line[ANNOTATED] = annotated[row]
        result.rows.append(line | {name: cells.iloc[row] for name, cells in typed.items()})
    if structures is not None and (options.leave_out_faulty or not result.faults):
        _check_free(out / FILE, structures)
        write_structures(structures, out / FILE)
    return finish_studies(
        result,
        root=found.root,
        table_path=out / "table.csv",
        left_out_path=out / LEFT_OUT,
        sidecar_columns=[],
        leave_out_faulty=options.leave_out_faulty,
        on_notice=options.on_notice,
        noun="cases",
    )


def _check_free(path: Path, structures: Structures) -> None:
    """See that no other data set's names are written over: tables may lean on them."""
    if not path.exists():
        return
    try:
        there = replace(read_structures(path), path=structures.path)
    except TableError:
        there = None
    if there != structures:
        raise TableError(
            f"{path}: is there already and names other structures or values, which tables "
            f"(copies of {path.parent / 'table.csv'} with a split, say) may lean on. Give another "
            "folder, or remove that file."
        )


_OWN = ("case_id", "patient_id", "image", "masks", STRUCTURES, ANNOTATED)


def scan_stem(name: str) -> str | None:
    """Return the name of a scan file without its suffix; None if it is none, or hidden."""
    known = sorted(SCAN_SUFFIXES, key=len, reverse=True)
    suffix = next((suffix for suffix in known if name.lower().endswith(suffix)), "")
    return name[: -len(suffix)] if suffix and not name.startswith(".") else None


def checked_root(root: Path | str, expected: str) -> Path:
    """Return a data set's folder.

    Raises:
        TableError: If it is not there.
    """
    root = Path(root)
    if not root.is_dir():
        raise TableError(f"{root}: no such folder. Expected {expected}.")
    return root


def _patients(found: SegmentationFound, options: SegmentationOptions) -> dict[str, str]:
    """Return the patient of each case that has one; note the others as faults."""
    if options.patients is not None and options.patient_pattern is not None:
        raise TableError("give a patient pattern or a patients file, not both.")
    if options.patients is not None:
        known = _patients_file(Path(options.patients))
        found.faults += [
            (case["case_id"], f"{options.patients} has no patient for it")
            for case in found.cases
            if case["case_id"] not in known
        ]
        return {c["case_id"]: known[c["case_id"]] for c in found.cases if c["case_id"] in known}
    pattern = compiled_pattern(options.patient_pattern, "patient", r"'(sub-\d+)'")
    if pattern is None:
        if found.cases:
            found.notices.append(
                "each case counts as a patient of its own. Where one patient has several scans, "
                "name them (--patients, --patient-pattern): they must not fall on both sides of a "
                "split"
            )
        return {case["case_id"]: case["case_id"] for case in found.cases}
    patients = {case["case_id"]: found_id(pattern, case["image"]) for case in found.cases}
    found.faults += [
        (case_id, f"patient pattern '{pattern.pattern}' does not match its path")
        for case_id, patient in patients.items()
        if not patient
    ]
    return {case_id: patient for case_id, patient in patients.items() if patient}


def _patients_file(path: Path) -> dict[str, str]:
    remedy = "Expected a CSV file with the columns case_id and patient_id."
    rows = read_rows(path, remedy)
    if not {"case_id", "patient_id"} <= set(rows.header):
        raise TableError(f"{path}: has columns {', '.join(rows.header)}. {remedy}")
    case, patient = rows.header.index("case_id"), rows.header.index("patient_id")
    known: dict[str, str] = {}
    for line, row in rows.rows:
        if len(row) != len(rows.header) or not row[case].strip() or not row[patient].strip():
            raise TableError(f"{path}, line {line}: has missing cells. {remedy}")
        if known.setdefault(row[case].strip(), row[patient].strip()) != row[patient].strip():
            raise TableError(f"{path}, line {line}: {row[case]!r} has two patients. {remedy}")
    return known
