"""A scan segmented together with the probabilities of a few of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy import ndimage
from torch import Tensor

from voxgraft.errors import InferenceError, VolumeError
from voxgraft.inference.segmented import SegmentedScan, pack_masks
from voxgraft.runs import TrainedSegmentation
from voxgraft.sliding import PackedMasks, labels_on_scan, masks_on_scan, sliding_window
from voxgraft.transforms import preprocess
from voxgraft.volumes import Affine, read_volume


@dataclass(frozen=True, eq=False)
class SeenProbabilities:
    """Probabilities on the grid that the network saw.

    Attributes:
        affine: Where that lies.
        maps: Class to (depth, height, width) float16 in [0, 1].
    """

    affine: Affine
    maps: Mapping[str, Float[np.ndarray, "d h w"]] = field(repr=False)

    def named(self, names: Sequence[str]) -> SeenProbabilities:
        """Return the same under other names, in their order."""
        return SeenProbabilities(self.affine, dict(zip(names, self.maps.values(), strict=True)))

    def highest(self, name: str) -> float:
        """Return the highest probability of a class in the scan."""
        return float(self.maps[name].max())

    def in_box(
        self, name: str, box: tuple[slice, slice, slice], scan_affine: Affine
    ) -> Float[np.ndarray, "D H W"]:
        """Return a class's probabilities in a box of the scan, interpolated linearly.

        Args:
            name: The class.
            box: Of the scan's own grid.
            scan_affine: Where the scan lies.

        Returns:
            float32; 0 beyond half a voxel around what the network saw.
        """
        onto = self.affine.inverse @ scan_affine.matrix
        start = np.array([side.start for side in box], np.float64)
        wide = np.pad(self.maps[name].astype(np.float32), 1, mode="edge")
        found = ndimage.affine_transform(
            wide,
            onto[:3, :3],
            offset=onto[:3, :3] @ start + onto[:3, 3] + 1,
            output_shape=tuple(side.stop - side.start for side in box),
            output=np.float32,
            order=1,
            mode="constant",
            cval=0.0,
        )
        return np.clip(found, 0.0, 1.0, out=found)


def segment_with_probabilities(
    run: TrainedSegmentation, path: Path, kept: Sequence[int]
) -> tuple[SegmentedScan, SeenProbabilities]:
    """Segment a scan as ``segment_scan`` does, and keep the probabilities of some classes.

    The windows are run once; all other classes' scores are let go part by part.

    Args:
        run: A trained segmentation.
        path: File or DICOM folder.
        kept: Classes by their place in the run's target.

    Returns:
        What was found on the scan's own grid; and the probabilities (softmax, or a sigmoid where
        classes may overlap) on the network's, named by the run's classes.

    Raises:
        VolumeError: If the scan cannot be read, or has other channels than the run's.
        PreprocessingError: If it cannot be preprocessed.
        InferenceError: If the network's scores are NaN.
    """
    classes, overlapping = run.recipe.target.classes, run.settings.overlapping
    scan = read_volume(path)
    seen = preprocess(scan, run.recipe.preprocessing)
    if seen.channels != run.in_channels:
        raise VolumeError(
            f"{path} has {seen.channels} channel(s); the run in {run.folder} was trained on "
            f"{run.in_channels}. Give scans with that many channels."
        )
    size = seen.shape
    shape = ((len(classes) + 7) // 8, *size) if overlapping else size
    labels = np.zeros(shape, np.uint8 if overlapping or len(classes) < 256 else np.int16)
    maps = {classes[index]: np.zeros(size, np.float16) for index in kept}

    def keep(block: Tensor, place: tuple[slice, slice, slice]) -> None:
        if bool(torch.isnan(block).any()):
            raise InferenceError(
                f"{path}: the network's scores are NaN, so no class can be told. See whether the "
                "scan has NaN or values beyond what the network was made for."
            )
        shares = block.sigmoid() if overlapping else block.softmax(0)
        for index in kept:
            share = shares[index if overlapping else index + 1]
            maps[classes[index]][place] = share.half().cpu().numpy()
        if overlapping:
            inside = (block > 0).to(torch.uint8)
            for index, mask in enumerate(inside):
                labels[index // 8][place] |= (mask << (index % 8)).cpu().numpy()
        else:
            labels[place] = block.argmax(0).cpu().numpy()

    given = torch.from_numpy(np.ascontiguousarray(seen.voxels, dtype=np.float32))
    sliding_window(run.network, given, run.sliding_over(seen.voxels), on_block=keep)
    probabilities = SeenProbabilities(seen.affine, maps)
    if overlapping:
        packed = PackedMasks(torch.from_numpy(labels), len(classes))
        masks = masks_on_scan(packed, seen.affine, scan.shape, scan.affine)
        own = pack_masks(masks, len(classes), scan.shape)
        return SegmentedScan(classes, scan.affine, own), probabilities
    found = labels_on_scan(labels, seen.affine, scan.shape, scan.affine)
    return SegmentedScan(classes, scan.affine, found), probabilities
