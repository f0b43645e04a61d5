"""Scans below a root, DICOM series folders above all: found, and headers read side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from jaxtyping import Float

from voxgraft.datasets.importers.folder import Progress
from voxgraft.errors import TableError, VolumeError
from voxgraft.volumes import read_header, read_series
from voxgraft.volumes.dicom_files import look
from voxgraft.volumes.dicom_kinds import kind_beside
from voxgraft.volumes.dicom_slices import Slice


@dataclass(frozen=True)
class ScanHeaders:
    """What the headers of a scan say, as far as an import needs it.

    Attributes:
        path: The series folder, or a scan file (then depth alone is known).
        fault: Why it is no volume; empty if it is one. Then nothing else is known.
        depth: Slices along the volume's first axis.
        series_uid: SeriesInstanceUID.
        study_uid: StudyInstanceUID.
        patient_id: PatientID.
        modality: Such as ``"CT"``.
        slice_uids: SOPInstanceUID of each slice, in the order of the volume's first axis.
        file_stems: Name of each slice's file without suffix, in the same order.
        z_mm: Position of each slice along the patient's axis, in the same order.
    """

    path: Path
    fault: str = ""
    depth: int = 0
    series_uid: str = ""
    study_uid: str = ""
    patient_id: str = ""
    modality: str = ""
    slice_uids: tuple[str, ...] = ()
    file_stems: tuple[str, ...] = ()
    z_mm: Float[np.ndarray, " depth"] | None = None


def read_scan_headers(path: Path) -> ScanHeaders:
    """Read the headers of one scan, each file once; what is wrong with it becomes ``fault``."""
    try:
        if path.is_file():
            return ScanHeaders(path, depth=read_header(path).shape[0])
        series = read_series(path)
    except VolumeError as error:
        return ScanHeaders(path, fault=str(error))
    return ScanHeaders(
        path,
        depth=len(series.slices),
        series_uid=series.series_uid,
        study_uid=series.study_uid,
        patient_id=series.patient_id,
        modality=series.modality,
        slice_uids=tuple(item.uid for item in series.slices),
        file_stems=tuple(item.path.stem for item in series.slices),
        z_mm=np.array([item.position_mm[2] for item in series.slices]),
    )


def read_many_headers(
    paths: Sequence[Path], jobs: int, on_progress: Progress | None
) -> Iterator[ScanHeaders]:
    """Read the headers of many scans and yield each as it is needed.

    Args:
        paths: Series paths and scan files.
        jobs: Processes; 1 reads in this one.
        on_progress: Called with (scans read, scans in all).

    Yields:
        What each says, in the order of ``paths``.

    Raises:
        TableError: If ``jobs`` is below 1, or a process is killed.
    """
    if jobs < 1:
        raise TableError(f"jobs is {jobs}; expected 1 or more.")
    if jobs == 1 or len(paths) < 2:
        yield from _counted(map(read_scan_headers, paths), len(paths), on_progress)
        return
    workers = ProcessPoolExecutor(min(jobs, len(paths)), mp_context=get_context("spawn"))
    try:
        found = workers.map(read_scan_headers, paths, chunksize=4)
        yield from _counted(found, len(paths), on_progress)
    except BrokenProcessPool as error:
        raise TableError(
            f"one of {jobs} processes that read DICOM headers was killed. Import again with fewer "
            'jobs (1 reads in this process). In a script, call it under `if __name__ == "__main__"'
            ":`."
        ) from error
    finally:
        workers.shutdown(wait=True, cancel_futures=True)


def folders_with_files(root: Path) -> Iterator[Path]:
    """Yield each folder at or below ``root`` that has visible files, in the order of names."""
    for name, folders, files in os.walk(root):
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        if any(not file.startswith(".") for file in files):
            yield Path(name)


def first_image(folder: Path) -> Slice | None:
    """Return what the first slice of a folder says; None if it holds no slice of a scan.

    Localizers, screenshots, segmentations and the like are passed over.

    Raises:
        TableError: If a file may not be opened.
    """
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        if path.name.startswith("."):
            continue
        try:
            images = look(path)
        except VolumeError:
            continue
        except OSError as error:
            raise TableError(f"{path}: cannot be opened: {error.strerror or error}.") from error
        if isinstance(images, list) and not kind_beside(images[0]):
            return images[0]
    return None


def _counted(
    found: Iterator[ScanHeaders], total: int, on_progress: Progress | None
) -> Iterator[ScanHeaders]:
    for done, item in enumerate(found, 1):
        if on_progress is not None:
            on_progress(done, total)
        yield item
