"""Segment new scans with a trained run, on their own grids."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from voxgraft.errors import InferenceError, VolumeError, VoxgraftError, raise_faults
from voxgraft.inference.dicom_seg import write_dicom_seg
from voxgraft.inference.post_processing import Cleaning, clean
from voxgraft.inference.scans import names_of_scans
from voxgraft.inference.segmentation_files import write_segmented
from voxgraft.inference.segmented import SegmentedScan, pack_masks
from voxgraft.runs import TrainedSegmentation
from voxgraft.sliding import PackedMasks, labels_on_scan, masks_on_scan
from voxgraft.training import segment_stored
from voxgraft.transforms import preprocess
from voxgraft.volumes import read_volume

DICOM_FILE = "segmentation.dcm"
"""What a DICOM segmentation is called in a scan's folder."""

_Cleaning = Cleaning | Mapping[str, Cleaning] | None


def segment_scan(
    run: TrainedSegmentation, path: Path, *, cleaning: _Cleaning = None
) -> SegmentedScan:
    """Segment a scan as the run's test cases were, and bring it onto the scan's own grid.

    Args:
        run: A trained segmentation.
        path: File or DICOM folder, of any supported format.
        cleaning: What is done to structures afterwards, see
            :func:`~voxgraft.inference.post_processing.clean`.

    Raises:
        VolumeError: If the scan cannot be read, or has other channels than the run's.
        PreprocessingError: If it cannot be preprocessed.
        InferenceError: If the network's scores are NaN, or the cleaning is of other structures.
    """
    classes = run.recipe.target.classes
    scan = read_volume(path)
    seen = preprocess(scan, run.recipe.preprocessing)
    if seen.channels != run.in_channels:
        raise VolumeError(
            f"{path} has {seen.channels} channel(s); the run in {run.folder} was trained on "
            f"{run.in_channels}. Give scans with that many channels."
        )
    found = segment_stored(
        run.network,
        seen.voxels,
        run.sliding_over(seen.voxels),
        overlapping=run.settings.overlapping,
    )
    if isinstance(found, PackedMasks):
        masks = masks_on_scan(found, seen.affine, scan.shape, scan.affine)
        own = SegmentedScan(classes, scan.affine, pack_masks(masks, found.classes, scan.shape))
    else:
        labels = labels_on_scan(found, seen.affine, scan.shape, scan.affine)
        own = SegmentedScan(classes, scan.affine, labels)
    return own if cleaning is None else clean(own, cleaning)


def segment_to(
    folder: Path,
    run: TrainedSegmentation,
    scans: Sequence[Path],
    *,
    cleaning: _Cleaning = None,
    each: bool = False,
    dicom: bool = False,
    on_scan: Callable[[Path, SegmentedScan], None] | None = None,
) -> list[Path]:
    """Segment scans one at a time, and write each into a folder of its own.

    Args:
        folder: Gets a folder for each scan, named after it.
        run: A trained segmentation.
        scans: Files or DICOM folders.
        cleaning: As for :func:`segment_scan`.
        each: Also write a file for each structure, see
            :func:`~voxgraft.inference.segmentation_files.write_segmented`.
        dicom: Also write ``segmentation.dcm``; all scans must be DICOM folders.
        on_scan: Told of each scan that is written.

    Returns:
        The folders, in the order of the scans.

    Raises:
        InferenceError: If a folder has something in it, or ``dicom`` is asked of other scans;
            then nothing was written.
        VoxgraftError: If scans cannot be segmented; all are named, the others are written.
    """
    folders = [folder / name for name in names_of_scans(scans)]
    faults = [
        f"{own} is there already and not empty"
        for own in folders
        if own.exists() and (not own.is_dir() or any(own.iterdir()))
    ]
    if dicom:
        faults += [f"{path} is no DICOM folder" for path in scans if not path.is_dir()]
    if faults:
        raise_faults(
            InferenceError,
            "the segmentations have no place",
            faults,
            "Give new folders, and DICOM segmentations of DICOM folders; nothing was written.",
        )
    for path, own in zip(scans, folders, strict=True):
        try:
            found = segment_scan(run, path, cleaning=cleaning)
            write_segmented(found, own, each=each)
            if dicom:
                write_dicom_seg(found, path, own / DICOM_FILE)
        except VoxgraftError as error:
            faults.append(f"{path}: {error}")
            continue
        if on_scan is not None:
            on_scan(path, found)
    if faults:
        raise_faults(
            InferenceError,
            f"{len(faults)} of {len(scans)} scans are not segmented, or not wholly written",
            faults,
            "Mend or leave out those; the others are written.",
        )
    return folders
