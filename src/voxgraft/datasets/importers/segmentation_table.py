"""What all imports of scans with masks share: names, patients, and the files that are written."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from voxgraft.datasets.columns import TEXT, text_column, typed_column
from voxgraft.datasets.csv_rows import read_rows
from voxgraft.datasets.importers.class_folders import (
    compiled_pattern,
    found_id,
    shared_case_ids,
)
from voxgraft.datasets.importers.study_table import LEFT_OUT, Found, Notice, finish_studies
from voxgraft.datasets.mask_classes import ANNOTATED, FILE, STRUCTURES, Structures, write_structures
from voxgraft.datasets.structures import NamedClasses, name_classes, read_name_map
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


@dataclass
class SegmentationFound:
    """A data set as an import collects it.

    Attributes:
        root: Where it lies.
        kind: Label maps, or folders of binary masks.
        sources: Class, as the data set calls it, to its values or files.
        ignored_values: Values of label maps where nothing is known.
        cases: ``case_id``, ``image``, ``masks`` (paths below ``root``, with ``/``) and columns of
            text.
        present: For folders, the classes whose file is there, a case.
        faults: (what, why): cases that cannot be used.
        notices: Sentences for the person who imports.
    """

    root: Path
    kind: Literal["label_map", "binary_masks"]
    sources: dict[str, tuple[int, ...] | tuple[str, ...]] = field(default_factory=dict)
    ignored_values: tuple[int, ...] = ()
    cases: list[dict[str, str]] = field(default_factory=list)
    present: dict[str, frozenset[str]] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


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
    cases = [case for case in found.cases if case["case_id"] not in shared]
    result = Found(faults=found.faults, notices=list(found.notices))
    if cases and not found.sources:
        raise TableError(f"{found.root}: its masks have no classes. Check the folder.")
    patients = _patients(cases, result, options)
    cases = [case for case in cases if case["case_id"] in patients]
    chosen = None if options.name_map is None else read_name_map(options.name_map)
    named = name_classes(found.sources, chosen)
    structures = _structures(found, named)
    _tell_names(named, result)
    extra = [name for name in (cases[0] if cases else ()) if name not in _OWN]
    typed = {
        name: (text_column if name in TEXT else typed_column)([case[name] for case in cases])
        for name in extra
    }
    annotated = [_annotated(case["case_id"], found, structures) for case in cases]
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
    if result.rows and (options.leave_out_faulty or not result.faults):
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


def _structures(found: SegmentationFound, named: NamedClasses) -> Structures:
    sources: dict[str, tuple[Any, ...]] = {}
    for name, values in found.sources.items():
        for structure in named.names[name]:
            sources[structure] = (*sources.get(structure, ()), *values)
    ordered = {name: tuple(dict.fromkeys(values)) for name, values in sources.items()}
    return Structures(found.kind, ordered, found.ignored_values)


def _annotated(case_id: str, found: SegmentationFound, structures: Structures) -> str:
    """Return the cell of a case; empty if it has all structures."""
    if found.kind == "label_map":
        return ""
    files = {file for name in found.present[case_id] for file in found.sources[name]}
    names = [name for name in structures.names if set(structures.files(name)) <= files]
    return "" if len(names) == len(structures.names) else " ".join(names)


def _tell_names(named: NamedClasses, result: Found) -> None:
    if named.ambiguous:
        shown = ", ".join(f"{name!r} ({reason})" for name, reason in named.ambiguous.items())
        result.notices.append(
            f"ambiguous names are kept as they are: {shown}. A name map (--name-map) can say more"
        )
    if named.unknown:
        shown = ", ".join(map(repr, named.unknown))
        result.notices.append(f"names that no list has are kept as they are: {shown}")


def _patients(
    cases: Sequence[Mapping[str, str]], result: Found, options: SegmentationOptions
) -> dict[str, str]:
    """Return the patient of each case that has one; note the others as faults."""
    if options.patients is not None and options.patient_pattern is not None:
        raise TableError("give a patient pattern or a patients file, not both.")
    if options.patients is not None:
        known = _patients_file(Path(options.patients))
        result.faults += [
            (case["case_id"], f"{options.patients} has no patient for it")
            for case in cases
            if case["case_id"] not in known
        ]
        return {c["case_id"]: known[c["case_id"]] for c in cases if c["case_id"] in known}
    pattern = compiled_pattern(options.patient_pattern, "patient", r"'(sub-\d+)'")
    if pattern is None:
        if cases:
            result.notices.append(
                "each case counts as a patient of its own. Where one patient has several scans, "
                "name them (--patients, --patient-pattern): they must not fall on both sides of a "
                "split"
            )
        return {case["case_id"]: case["case_id"] for case in cases}
    found = {case["case_id"]: found_id(pattern, case["image"]) for case in cases}
    result.faults += [
        (case_id, f"patient pattern {pattern.pattern!r} does not match its path")
        for case_id, patient in found.items()
        if not patient
    ]
    return {case_id: patient for case_id, patient in found.items() if patient}


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
