"""A segmented scan: labels or overlapping masks on the scan's own grid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Integer

from voxgraft.errors import InferenceError
from voxgraft.sliding import PackedMasks
from voxgraft.types import Size3
from voxgraft.volumes import Affine


@dataclass(frozen=True, eq=False)
class SegmentedScan:
    """Structures found in a scan.

    Attributes:
        classes: Names, without a background.
        affine: Of the scan's own grid.
        found: A label map (0 none, k + 1 ``classes[k]``) where structures exclude each other; or
            masks, which may overlap.
        path: The scan, if it came from a file: what is written lies on it in every viewer.

    Raises:
        InferenceError: If labels or masks are not of these classes.
    """

    classes: tuple[str, ...]
    affine: Affine
    found: Integer[np.ndarray, "d h w"] | PackedMasks = field(repr=False)
    path: Path | None = None

    def __post_init__(self) -> None:
        if isinstance(self.found, PackedMasks):
            if self.found.classes != len(self.classes):
                raise InferenceError(
                    f"there are masks of {self.found.classes} classes and {len(self.classes)} "
                    "names. Give one name for each."
                )
            return
        labels = self.found
        if labels.ndim != 3 or labels.dtype.kind not in "iu" or not labels.size:
            raise InferenceError(
                f"labels have shape {labels.shape} and dtype {labels.dtype}; expected integers "
                "of shape (depth, height, width)."
            )
        if labels.min() < 0 or labels.max() > len(self.classes):
            raise InferenceError(
                f"labels go from {labels.min()} to {labels.max()}; expected 0 for none, and 1 to "
                f"{len(self.classes)} for the classes {', '.join(self.classes)}."
            )

    @property
    def shape(self) -> Size3:
        """(depth, height, width), in voxels."""
        packed = isinstance(self.found, PackedMasks)
        depth, height, width = self.found.bits.shape[1:] if packed else self.found.shape  # type: ignore[union-attr]
        return int(depth), int(height), int(width)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, in ml."""
        return abs(float(np.linalg.det(self.affine.matrix[:3, :3]))) / 1000.0

    def mask(self, index: int) -> Bool[np.ndarray, "d h w"]:
        """Return the mask of a class.

        Raises:
            InferenceError: If there is no such class.
        """
        if isinstance(self.found, PackedMasks):
            return np.asarray(self.found.mask(index).numpy())
        if not 0 <= index < len(self.classes):
            raise InferenceError(
                f"there is no class {index}: there are {len(self.classes)}, counted from 0."
            )
        return np.asarray(self.found == index + 1)

    def volumes_ml(self) -> dict[str, float]:
        """Return the volume of each structure, in ml."""
        return {
            name: np.count_nonzero(self.mask(index)) * self.voxel_ml
            for index, name in enumerate(self.classes)
        }


def pack_masks(
    masks: Iterable[tuple[int, Bool[np.ndarray, "d h w"]]], classes: int, shape: Sequence[int]
) -> PackedMasks:
    """Pack masks that come one at a time; classes that do not come are empty.

    Args:
        masks: Class indices with masks.
        classes: Number of classes.
        shape: (depth, height, width) of the masks.
    """
    bits = np.zeros((-(-classes // 8), *shape), np.uint8)
    for index, mask in masks:
        bits[index // 8] |= mask.astype(np.uint8) << np.uint8(index % 8)
    return PackedMasks(torch.from_numpy(bits), classes)
