"""Batches resampled by a matrix each: whole volumes, or slice by slice where depth stays."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


def resample_volumes(
    batch: Float[Tensor, "b c d h w"],
    matrices: Float[np.ndarray, "b 3 3"],
    shifts: Float[np.ndarray, "b 3"],
    background: float,
) -> Float[Tensor, "b c d h w"]:
    """Sample each volume at ``matrix @ (voxel - center - shift) + center``, trilinearly.

    Args:
        batch: float32, on any device.
        matrices: One for each volume, from voxels (depth, height, width) to voxels.
        shifts: In voxels.
        background: Value outside.
    """
    return _sampled(batch, _grid(batch.shape[2:], matrices, shifts, batch.device), background)


def resample_slices(
    batch: Float[Tensor, "b c d h w"],
    matrices: Float[np.ndarray, "b 3 3"],
    shifts: Float[np.ndarray, "b 3"],
    background: float,
) -> Float[Tensor, "b c d h w"]:
    """Do as :func:`resample_volumes` with matrices and shifts that leave depth as it is.

    One grid serves all slices of a volume, and a value comes of four voxels instead of eight. A
    few slices go at a time, so that what is read lies in the cache.

    Args:
        batch: float32, on any device.
        matrices: Only their part for (height, width) is read.
        shifts: As well.
        background: Value outside.
    """
    slices = batch.shape[1] * batch.shape[2]
    together = max((n for n in range(4, 9) if slices % n == 0), default=slices)
    pictures = batch.reshape(-1, together, *batch.shape[3:])
    grid = _grid(batch.shape[3:], matrices[:, 1:, 1:], shifts[:, 1:], batch.device)
    grid = grid.repeat_interleave(slices // together, dim=0)
    return _sampled(pictures, grid, background).reshape(batch.shape)


def _grid(
    size: torch.Size,
    matrices: Float[np.ndarray, "b n n"],
    shifts: Float[np.ndarray, "b n"],
    device: torch.device,
) -> Float[Tensor, "b *size n"]:
    """Return where to sample, as grid_sample counts: -1 to 1 over the extent, last axis first."""
    axes = len(size)
    sizes = np.array(size, dtype=np.float64)
    matrices = matrices * (2.0 / sizes)[None, :, None]  # for align_corners=False
    offsets = -np.einsum("bij,bj->bi", matrices, shifts + (sizes - 1) / 2)
    weights = torch.from_numpy(matrices.astype(np.float32)).to(device)
    start = torch.from_numpy(offsets.astype(np.float32)).to(device)
    grid = torch.empty((len(matrices), *size, axes), device=device)
    for source in range(axes):
        place = start[:, source].reshape(-1, *[1] * axes)
        for axis in range(axes):
            steps = torch.arange(size[axis], device=device, dtype=torch.float32)
            shape = [-1, *[1] * axes]
            shape[1 + axis] = size[axis]
            term = (weights[:, source, axis, None] * steps).reshape(shape)
            if axis < axes - 1:
                place = place + term
            else:
                torch.add(place, term, out=grid[..., axes - 1 - source])
    return grid


def _sampled(
    batch: Float[Tensor, "b c *size"], grid: Float[Tensor, "b *size n"], background: float
) -> Float[Tensor, "b c *size"]:
    if background:
        batch = batch - background
    moved = functional.grid_sample(
        batch, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return moved.add_(background) if background else moved
