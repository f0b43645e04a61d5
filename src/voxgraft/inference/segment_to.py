"""Segment many scans into a folder each: what fails loses nothing, what is there is kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path

from voxgraft.errors import InferenceError, VoxgraftError, raise_faults
from voxgraft.inference.dicom_seg import write_dicom_seg
from voxgraft.inference.made_from import RECORD, kept_volumes, record_of, write_record
from voxgraft.inference.probabilities import Probabilities
from voxgraft.inference.scans import names_of_scans
from voxgraft.inference.segment import CleaningRules, segment_scan
from voxgraft.inference.segmentation_files import write_segmented
from voxgraft.inference.segmented import SegmentedScan
from voxgraft.inference.windows_seen import OnWindows
from voxgraft.runs import TrainedSegmentation
from voxgraft.types import Json

DICOM_FILE = "segmentation.dcm"
"""What a DICOM segmentation is called in a scan's folder."""


@dataclass(frozen=True)
class WrittenScan:
    """A scan that was segmented, and where its files are."""

    scan: Path
    folder: Path
    volumes_ml: dict[str, float]
    """Of each structure."""
    kept: bool
    """Whether an earlier call had written it."""


def segment_to(
    folder: Path,
    run: TrainedSegmentation,
    scans: Sequence[Path],
    *,
    cleaning: CleaningRules = None,
    each: bool = False,
    dicom: bool = False,
    probabilities: bool = False,
    force: bool = False,
    on_scan: Callable[[WrittenScan], None] | None = None,
    on_windows: Callable[[Path, int, int], None] | None = None,
) -> list[Path]:
    """Segment scans one at a time, and write each into a folder of its own.

    A folder that an earlier call made from the same scan, run and settings (by their bytes) is
    kept if its files are as they were written, so that an interrupted call can be repeated.

    Args:
        folder: Gets a folder for each scan, named after it.
        run: A trained segmentation.
        scans: Files or DICOM folders.
        cleaning: As for :func:`~voxgraft.inference.segment.segment_scan`.
        each: Also write a file for each structure, see
            :func:`~voxgraft.inference.segmentation_files.write_segmented`.
        dicom: Also write ``segmentation.dcm``; all scans must be DICOM folders.
        probabilities: Also write ``probabilities/<class>.nii.gz``.
        force: Replace folders that have something else in them.
        on_scan: Told of each scan that is written or kept.
        on_windows: Told of a scan in work how many windows were seen, and of how many.

    Returns:
        The folders, in the order of the scans.

    Raises:
        InferenceError: If the folder cannot be made, a scan's folder has something else in it, or
            ``dicom`` is asked of other scans; then nothing was written. And if scans cannot be
            segmented or written: all are named, the others are written.
    """
    folders = [folder / name for name in names_of_scans(scans)]
    describe = partial(
        record_of, run, cleaning=cleaning, each=each, dicom=dicom, probabilities=probabilities
    )
    faults = [f"{path} is no DICOM folder" for path in scans if dicom and not path.is_dir()]
    kept: dict[Path, dict[str, float]] = {}
    for path, own in zip(scans, folders, strict=True):
        if not _filled(own):
            continue
        found: dict[str, float] | str = "is a file"
        if own.is_dir():
            try:
                found = kept_volumes(describe(path), own)
            except OSError as error:
                found = f"is not empty, and {path} cannot be read: {error.strerror}"
        if isinstance(found, dict):
            kept[own] = found
        elif not (force and own.is_dir()):
            faults.append(f"{own} is there already and not empty: it {found}")
    if faults:
        raise_faults(
            InferenceError,
            "the segmentations have no place",
            faults,
            "Give new folders (or --force, which replaces them), and DICOM segmentations of DICOM "
            "folders; nothing was written.",
        )
    _make(folder)
    for path, own in zip(scans, folders, strict=True):
        if own in kept:
            volumes = kept[own]
        else:
            try:
                made = describe(path)
                volumes = _segment_one(
                    run, path, own, made, cleaning=cleaning, each=each, dicom=dicom,
                    probabilities=probabilities, force=force,
                    on_windows=None if on_windows is None else partial(on_windows, path),
                )  # fmt: skip
            except (VoxgraftError, OSError, MemoryError) as error:
                said = str(error) or type(error).__name__
                if isinstance(error, OSError) and error.strerror:
                    said = f"{error.filename or path}: {error.strerror}"
                faults.append(said if said.startswith(str(path)) else f"{path}: {said}")
                continue
        if on_scan is not None:
            on_scan(WrittenScan(path, own, volumes, own in kept))
    if faults:
        raise_faults(
            InferenceError,
            f"{len(faults)} of {len(scans)} scans are not segmented, or not wholly written",
            faults,
            "Mend or leave out those; the others are written.",
        )
    return folders


def _segment_one(
    run: TrainedSegmentation,
    path: Path,
    own: Path,
    made: Json,
    *,
    cleaning: CleaningRules,
    each: bool,
    dicom: bool,
    probabilities: bool,
    force: bool,
    on_windows: OnWindows | None,
) -> dict[str, float]:
    for left in own.parent.glob(f".tmp-????????-{escape(own.name)}"):  # of a call that was killed
        shutil.rmtree(left, ignore_errors=True)
    failed: list[VoxgraftError] = []

    def finish(found: SegmentedScan, volumes: dict[str, float], building: Path) -> list[str]:
        files = [RECORD]
        if dicom:
            try:
                write_dicom_seg(found, path, building / DICOM_FILE)
                files.append(DICOM_FILE)
            except VoxgraftError as error:  # told once the other files have their place
                failed.append(error)
        write_record(made | {"dicom_seg": DICOM_FILE in files}, volumes, building)
        return files

    def write(found: SegmentedScan, kept: Probabilities | None) -> dict[str, float]:
        volumes = found.volumes_ml()
        end = partial(finish, found, volumes)
        write_segmented(found, own, each=each, probabilities=kept, finish=end, replace=force)
        if failed:
            raise failed[0]
        return volumes

    if not probabilities:
        return write(segment_scan(run, path, cleaning=cleaning, on_windows=on_windows), None)
    with Probabilities(own.parent) as kept:
        found = segment_scan(
            run, path, cleaning=cleaning, probabilities=kept, on_windows=on_windows
        )
        return write(found, kept)


def _filled(folder: Path) -> bool:
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))


def _make(folder: Path) -> None:
    """Make the folder and see that files can be made in it, before hours are spent."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = Probabilities(folder)
        with probe:
            pass
    except OSError as error:
        raise InferenceError(
            f"{folder}: cannot be written: {error.strerror or error}. Check the folder, its "
            "permissions and the space left; nothing was segmented."
        ) from error
