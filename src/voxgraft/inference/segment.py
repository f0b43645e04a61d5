"""Segment a new scan with a trained run, on the scan's own grid."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from voxgraft.errors import VolumeError
from voxgraft.inference.post_processing import Cleaning, clean
from voxgraft.inference.probabilities import Probabilities, segment_with_probabilities
from voxgraft.inference.segmented import SegmentedScan, pack_masks
from voxgraft.inference.windows_seen import OnWindows, windows_told
from voxgraft.runs import TrainedSegmentation
from voxgraft.sliding import PackedMasks, labels_on_scan, masks_on_scan
from voxgraft.training import segment_stored
from voxgraft.transforms import preprocess
from voxgraft.volumes import read_volume

CleaningRules = Cleaning | Mapping[str, Cleaning] | None
"""For all structures, for some by name, or none."""


def segment_scan(
    run: TrainedSegmentation,
    path: Path,
    *,
    cleaning: CleaningRules = None,
    probabilities: Probabilities | None = None,
    on_windows: OnWindows | None = None,
) -> SegmentedScan:
    """Segment a scan as the run's test cases were, and bring it onto the scan's own grid.

    Args:
        run: A trained segmentation.
        path: File or DICOM folder, of any supported format.
        cleaning: What is done to structures afterwards, see
            :func:`~voxgraft.inference.post_processing.clean`.
        probabilities: Keeps those of every class, for
            :func:`~voxgraft.inference.segmentation_files.write_segmented`; they are of what the
            network found, uncleaned.
        on_windows: Told how many windows the network has seen, and of how many.

    Raises:
        VolumeError: If the scan cannot be read, or has other channels than the run's.
        PreprocessingError: If it cannot be preprocessed.
        InferenceError: If the network's scores are NaN, or the cleaning is of other structures.
    """
    classes = run.recipe.target.classes
    scan = read_volume(path)
    shape, affine = scan.shape, scan.affine
    seen = preprocess(scan, run.recipe.preprocessing)
    if seen.channels != run.in_channels:
        raise VolumeError(
            f"{path} has {seen.channels} channel(s); the run in {run.folder} was trained on "
            f"{run.in_channels}. Give scans with that many channels."
        )
    del scan
    overlapping = run.settings.overlapping
    with windows_told(run.network, run.sliding_over(seen.voxels), on_windows) as sliding:
        if probabilities is None:
            found = segment_stored(run.network, seen.voxels, sliding, overlapping=overlapping)
        else:
            probabilities.begin(seen.shape, seen.affine)
            found = segment_with_probabilities(
                run.network, seen.voxels, sliding, overlapping=overlapping, into=probabilities
            )
    if isinstance(found, PackedMasks):
        masks = masks_on_scan(found, seen.affine, shape, affine)
        own = SegmentedScan(classes, affine, pack_masks(masks, found.classes, shape), path)
    else:
        own = SegmentedScan(
            classes, affine, labels_on_scan(found, seen.affine, shape, affine), path
        )
    return own if cleaning is None else clean(own, cleaning)
