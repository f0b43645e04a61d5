"""RSNA-STR Pulmonary Embolism Detection: CT pulmonary angiograms, labelled a study and a slice."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from voxgraft.datasets.importers.folder import Progress
from voxgraft.datasets.importers.rsna_pe_labels import (
    StudyLabels,
    labels_by_study,
    read_rsna_labels,
)
from voxgraft.datasets.importers.scan_headers import ScanHeaders, read_many_headers
from voxgraft.datasets.importers.study_table import LEFT_OUT, Found, Notice, finish_studies
from voxgraft.datasets.table import Table
from voxgraft.errors import TableError, listed

Indeterminate = Literal["leave_out", "positive", "negative"]
_PLACEHOLDER = 10
"""One PatientID on all of so many studies names no patient."""
_CHOICES = ("leave_out", "positive", "negative")


def import_rsna_pe(
    root: Path | str,
    out_folder: Path | str,
    *,
    indeterminate: Indeterminate = "leave_out",
    leave_out_faulty: bool = False,
    limit_studies: int | None = None,
    jobs: int = 1,
    on_progress: Progress | None = None,
    on_notice: Notice | None = None,
) -> Table:
    """Make a table of the competition's folder as it was published; scans stay where they are.

    Writes ``table.csv``, ``slice_labels.csv`` (from ``pe_present_on_image``, matched to the slices
    of the volume by SOPInstanceUID) and, if studies are left out, ``left_out.csv``.

    Columns: ``pe`` (1 unless the exam is negative for PE; indeterminate exams by
    ``indeterminate``), the other labels of the study as published, ``slices``,
    ``positive_slices`` and ``series_instance_uid``. ``case_id`` is the StudyInstanceUID.
    ``patient_id`` is the PatientID of the DICOM headers, or the StudyInstanceUID where they have
    none, or where all studies have the same one.

    Args:
        root: Folder with ``train.csv`` and ``train/STUDY/SERIES/SLICE.dcm``.
        out_folder: Where the files are written.
        indeterminate: What becomes of studies that the readers called indeterminate. They are not
            ``negative_exam_for_pe`` either: who takes a study as positive unless it is negative
            counts them as positive.
        leave_out_faulty: Write the table without studies that cannot be used.
        limit_studies: Only so many studies, those first whose folder is there, by UID.
        jobs: Processes that read DICOM headers.
        on_progress: Called with (studies read, studies in all).
        on_notice: Called with sentences that should be read: what was left out, what is odd.

    Returns:
        The table; one case a study.

    Raises:
        TableError: If a setting is impossible, ``train.csv`` cannot be used, or studies are
            faulty: all are named.

    Source:
        Colak et al., Radiology: Artificial Intelligence 2021, doi 10.1148/ryai.2021200254.
    """
    root, out = Path(root), Path(out_folder)
    if indeterminate not in _CHOICES:
        raise TableError(
            f"indeterminate is {indeterminate!r}; expected one of {', '.join(_CHOICES)}."
        )
    if limit_studies is not None and limit_studies < 1:
        raise TableError(f"limit_studies is {limit_studies}; expected 1 or more.")
    found = Found()
    studies = list(labels_by_study(read_rsna_labels(root / "train.csv")))
    known = {labels.study for labels in studies}
    if indeterminate == "leave_out":
        unclear = [labels.study for labels in studies if labels.values["indeterminate"]]
        found.passed_over += [(study, "indeterminate") for study in unclear]
        if unclear:
            found.notices.append(
                f"left out as indeterminate: {len(unclear)} of {len(studies)} studies"
            )
        studies = [labels for labels in studies if not labels.values["indeterminate"]]
    present = _subfolders(root / "train")
    if limit_studies is not None:
        studies = sorted(studies, key=lambda labels: labels.study not in present)[:limit_studies]
    else:
        found.faults += [
            (f"train/{name}", "has no row in train.csv") for name in sorted(present - known)
        ]
    usable = [labels for labels in studies if _has_one_folder(root, labels, present, found)]
    folders = [root / "train" / labels.study / labels.series[0] for labels in usable]
    read = read_many_headers(folders, jobs, on_progress)
    unused = 0
    for labels, scan in zip(usable, read, strict=True):
        if scan.study_uid != labels.study and scan.study_uid in known:
            fault = f"its files are of study {scan.study_uid}"
            found.faults.append((labels.study, fault))
            continue
        unused += _add(root, labels, scan, indeterminate, found)
    if unused:
        found.notices.append(
            f"{unused} labelled file(s) are no slices of their volume (copies, localizers)"
        )
    _choose_patients(found)
    return finish_studies(
        found,
        root=root,
        table_path=out / "table.csv",
        left_out_path=out / LEFT_OUT,
        sidecar_columns=["pe"],
        leave_out_faulty=leave_out_faulty,
        on_notice=on_notice,
    )


def _subfolders(folder: Path) -> set[str]:
    if not folder.is_dir():
        raise TableError(
            f"{folder}: no such folder. Expected the competition's folder, with "
            "train/<StudyInstanceUID>/<SeriesInstanceUID>/<SOPInstanceUID>.dcm."
        )
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def _has_one_folder(root: Path, labels: StudyLabels, present: set[str], found: Found) -> bool:
    """Say whether a study can be read; note why not."""
    faults = list(labels.faults)
    if len(labels.series) > 1:
        faults.append(f"its rows are of {len(labels.series)} series; expected one")
    if labels.study not in present:
        faults.append(f"has {len(labels.uids)} rows in train.csv, but no folder below train/")
    elif len(labels.series) == 1:
        there = _subfolders(root / "train" / labels.study)
        if labels.series[0] not in there:
            faults.append(f"has no folder of its series {labels.series[0]}")
        extra = sorted(there - set(labels.series))
        if extra:
            faults.append(f"has folders without rows in train.csv: {listed(extra, 3)}")
    found.faults += [(labels.study, fault) for fault in faults]
    return not faults


def _add(
    root: Path, labels: StudyLabels, scan: ScanHeaders, rule: Indeterminate, found: Found
) -> int:
    """Add a study or its faults; return how many labelled files are not among its slices."""
    rows = labels.slices
    files = {path.stem for path in scan.path.glob("*.dcm")}
    gone = [name for name in rows if name not in files]
    faults = [f"{len(gone)} rows of train.csv have no file: {listed(gone, 3)}"] if gone else []
    if scan.fault:
        found.faults += [(labels.study, fault) for fault in [*faults, scan.fault]]
        return 0
    names = [
        uid if uid in rows else stem
        for uid, stem in zip(scan.slice_uids, scan.file_stems, strict=True)
    ]
    unknown = [name for name in names if name not in rows]
    if unknown:
        faults.append(f"{len(unknown)} slices have no row in train.csv: {listed(unknown, 3)}")
    taken = set(names)
    aside = [name for name in rows if name in files and name not in taken]
    lost = [name for name in aside if rows[name]]
    if lost:
        faults.append(
            f"positive slices are not part of the volume as it is read: {listed(lost, 3)}"
        )
    positive = np.array([rows.get(name, False) for name in names], dtype=bool)
    values = labels.values
    is_pe = not values["negative_exam_for_pe"]
    if values["indeterminate"]:
        is_pe = rule == "positive"
    if positive.any() and not is_pe:
        kind = "indeterminate" if values["indeterminate"] else "a negative exam"
        faults.append(f"is {kind}, but {int(positive.sum())} of its slices show an embolism")
    if faults:
        found.faults += [(labels.study, fault) for fault in faults]
        return 0
    if is_pe and not positive.any():
        found.notices.append(f"study {labels.study} is positive, but none of its slices is")
    found.labels[labels.study] = positive[:, None]
    found.rows.append(
        {
            "case_id": labels.study,
            "patient_id": scan.patient_id,
            "image": scan.path.relative_to(root).as_posix(),
            "pe": int(is_pe),
            **values,
            "slices": len(names),
            "positive_slices": int(positive.sum()),
            "series_instance_uid": scan.series_uid,
        }
    )
    return len(aside)


def _choose_patients(found: Found) -> None:
    """Take each study as a patient of its own where the headers do not tell patients apart."""
    said = {row["patient_id"] for row in found.rows}
    one_for_all = len(said) == 1 and len(found.rows) >= _PLACEHOLDER and said != {""}
    nameless = [row for row in found.rows if one_for_all or not row["patient_id"]]
    for row in nameless:
        row["patient_id"] = row["case_id"]
    if one_for_all:
        found.notices.append(
            f"all studies have the PatientID {said.pop()!r}, which is no patient: each study "
            "counts as one"
        )
    elif nameless:
        found.notices.append(
            f"{len(nameless)} of {len(found.rows)} studies without PatientID: each counts as a "
            "patient"
        )
