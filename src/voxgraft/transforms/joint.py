"""A crop out of an image and its labels by one affine map: trilinear and nearest, in one step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

from voxgraft.transforms.draws import Drawn
from voxgraft.types import Size3

_MARGIN_VOXELS = 1e-3
"""For what rounding may move a place over the border of a block."""

_SLAB_VOXELS = 2**16
"""Labels that are looked up at a time: what that needs lies in the cache."""


@dataclass(frozen=True, eq=False)
class CropMap:
    """Where each voxel of a crop comes from: ``matrix @ (voxel - middle) + center``.

    Attributes:
        size: (depth, height, width) of the crop; ``middle`` is ``(size - 1) / 2``.
        matrix: From voxels of the crop to voxels of the volume.
        center: Place in the volume of the middle of the crop, in voxels.
    """

    size: Size3
    matrix: Float[np.ndarray, "3 3"]
    center: Float[np.ndarray, " 3"]

    @property
    def flips(self) -> tuple[int, ...] | None:
        """Axes that are mirrored, if nothing else happens; None if voxels must be resampled."""
        plain = np.array_equal(np.abs(self.matrix), np.eye(3))
        first = self.center - (np.asarray(self.size) - 1) / 2
        if not plain or not np.array_equal(first, np.rint(first)):
            return None
        return tuple(axis for axis in range(3) if self.matrix[axis, axis] < 0)

    def places(self, voxels: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Return where voxels of the crop lie in the volume."""
        middle = (np.asarray(self.size, dtype=np.float64) - 1) / 2
        found: Float[np.ndarray, "n 3"] = (voxels - middle) @ self.matrix.T + self.center
        return found

    def voxels(self, places: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Return where places of the volume lie in the crop."""
        middle = (np.asarray(self.size, dtype=np.float64) - 1) / 2
        inverse = np.linalg.inv(self.matrix)
        found: Float[np.ndarray, "n 3"] = (places - self.center) @ inverse.T + middle
        return found

    def block(self) -> tuple[Size3, Size3]:
        """Return start and size of the smallest box of the volume that the crop needs."""
        corners = np.stack(np.meshgrid(*([0.0, n - 1.0] for n in self.size)), axis=-1)
        places = self.places(corners.reshape(-1, 3))
        margin = 0.0 if self.flips is not None else _MARGIN_VOXELS
        low = np.floor(places.min(axis=0) - margin).astype(int)
        high = np.ceil(places.max(axis=0) + margin).astype(int)
        start, size = low.tolist(), (high - low + 1).tolist()
        return (start[0], start[1], start[2]), (size[0], size[1], size[2])


def crop_matrix(
    drawn: Drawn, row: int, spacing_mm: Float[np.ndarray, " 3"]
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, " 3"]]:
    """Return what augmentation does to the places of one sample, in voxels.

    As :func:`voxgraft.transforms.augment` does it: flips first, then rotation, scale, shear and
    translation about the middle.

    Returns:
        The matrix from voxels of the result (about its middle) to voxels of the source, and the
        place that the result's middle comes from, relative to the source's.
    """
    matrix = np.linalg.inv(drawn.matrices_mm[row])
    matrix = matrix * spacing_mm[None, :] / spacing_mm[:, None]
    if np.array_equal(drawn.matrices_mm[row], np.eye(3)):
        matrix = np.eye(3)
    matrix = np.where(drawn.flipped[row], -1.0, 1.0)[:, None] * matrix
    return matrix, -matrix @ (drawn.translation_mm[row] / spacing_mm)


def sample_image(
    block: Float[np.ndarray, "c i j k"], start: Size3, crop: CropMap, background: float
) -> Float[Tensor, "c d h w"]:
    """Return the crop of an image, trilinearly; what lies outside of the block is background.

    Args:
        block: Part of the volume, as much as :meth:`CropMap.block` says and the volume has.
        start: Where it begins in the volume.
        crop: The map.
        background: Value outside of the volume.
    """
    # grid_sample counts from -1 to 1 over the extent, last axis first.
    sizes = np.array(block.shape[1:], dtype=np.float64)
    first = crop.places(np.zeros((1, 3)))[0] - np.asarray(start)
    begin, weights = (2 * first + 1) / sizes - 1, 2 * crop.matrix / sizes[:, None]
    steps = [torch.arange(n, dtype=torch.float64) for n in crop.size]
    grid = torch.empty((1, *crop.size, 3))
    for axis in range(3):
        rows = (steps[0] * weights[axis, 0] + begin[axis])[:, None] + steps[1] * weights[axis, 1]
        columns = (steps[2] * weights[axis, 2]).float()
        torch.add(rows.float()[:, :, None], columns, out=grid[0, ..., 2 - axis])
    source = torch.from_numpy(np.ascontiguousarray(block, dtype=np.float32))[None]
    if background:
        source = source - background
    moved = functional.grid_sample(
        source, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )[0]
    return moved.add_(background) if background else moved


def sample_labels(
    block: Integer[np.ndarray, "l i j k"], start: Size3, crop: CropMap, outside: int = 0
) -> Integer[np.ndarray, "l d h w"]:
    """Return the crop of labels, each voxel that of the nearest one.

    Args:
        block: Part of the volume, as much as :meth:`CropMap.block` says and the volume has.
        start: Where it begins in the volume.
        crop: The map.
        outside: Label of what lies outside of the block.
    """
    # A border around the block takes what lies outside, so that no place needs to be asked.
    sizes = [n + 2 for n in block.shape[1:]]
    border = ((0, 0), (1, 1), (1, 1), (1, 1))
    flat = np.pad(block, border, constant_values=outside).reshape(len(block), -1)
    first = crop.places(np.zeros((1, 3)))[0] - np.asarray(start) + 1.5
    weights = crop.matrix
    steps = [np.arange(n) for n in crop.size]
    result = np.empty((len(block), *crop.size), dtype=block.dtype)
    together = max(1, _SLAB_VOXELS // (crop.size[1] * crop.size[2]))
    for level in range(0, crop.size[0], together):
        places: np.ndarray | int = 0
        for axis in range(3):
            along = (steps[0][level : level + together] * weights[axis, 0] + first[axis])[:, None]
            rows = (along + steps[1] * weights[axis, 1]).astype(np.float32)
            near = rows[:, :, None] + (steps[2] * weights[axis, 2]).astype(np.float32)
            np.clip(near, 0, sizes[axis] - 1, out=near)
            places = places * sizes[axis] + near.astype(np.int32)
        for own, layer in zip(flat, result, strict=True):
            np.take(own, places, out=layer[level : level + together], mode="clip")
    return result
