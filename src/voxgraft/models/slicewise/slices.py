"""A volume cut into slices, and what came of the slices laid back into the volume's order."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

Plane = Literal["axial", "coronal", "sagittal"]
PLANES: tuple[Plane, ...] = ("axial", "coronal", "sagittal")
"""Planes of the slices: across depth, across height, across width."""


def slice_positions(count: int, step: int) -> range:
    """Return the slices that are taken of ``count``: every ``step``-th, evenly about the middle."""
    return range((count - 1) % step // 2, count, step)


def take_slices(
    x: Float[Tensor, "b c d h w"], plane: Plane, *, step: int = 1, neighbors: int = 0
) -> Float[Tensor, "b n k u v"]:
    """Cut volumes into images.

    Args:
        x: The volumes.
        plane: Plane of the images. Rows and columns of a coronal image run along depth and width,
            of a sagittal one along depth and height.
        step: Every how many slices one is taken.
        neighbors: Slices on either side that are added as channels: first those of the lowest
            slice, last those of the highest. Beyond the border the border slice stands again.

    Returns:
        ``n`` images of each volume, with ``k = c * (2 * neighbors + 1)`` channels.
    """
    axis = 2 + PLANES.index(plane)
    chosen = torch.tensor(slice_positions(x.shape[axis], step), device=x.device)
    last = x.shape[axis] - 1
    offsets = range(-neighbors, neighbors + 1)
    around = [
        x.index_select(axis, (chosen + offset).clamp(0, last)).movedim(axis, 1)
        for offset in offsets
    ]
    return around[0] if len(around) == 1 else torch.cat(around, dim=2)


def lay_back(maps: Float[Tensor, "b n f u v"], plane: Plane) -> Float[Tensor, "b f d h w"]:
    """Lay the feature maps of slices in the order that the slices have in the volume."""
    return maps.movedim(1, 2 + PLANES.index(plane))


def merge_planes(volumes: list[Float[Tensor, "b f d h w"]]) -> Float[Tensor, "b f e i j"]:
    """Return the mean of the axial, coronal and sagittal maps on the coarse grid of all three.

    Each map is fine along the axis across its plane; it is first averaged along that to the grid
    that the other two have there.
    """
    if len(volumes) == 1:
        return volumes[0]
    axial, coronal, _ = volumes
    size = (coronal.shape[2], axial.shape[3], axial.shape[4])
    merged = torch.stack([F.adaptive_avg_pool3d(volume, size) for volume in volumes])
    return merged.mean(0)
