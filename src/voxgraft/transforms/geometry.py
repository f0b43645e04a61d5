"""Where a volume's voxels lie: turned to RAS+, cropped or padded.

Each function returns a new :class:`~voxgraft.volumes.Volume` whose affine still tells the truth:
a point of the body keeps its world coordinates.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from voxgraft.types import Size3
from voxgraft.volumes import Affine, Volume


def name_of(volume: Volume) -> str:
    """Return the volume's file for a message, or "the volume" if it has none."""
    return str(volume.path) if volume.path is not None else "the volume"


def orient(volume: Volume) -> Volume:
    """Turn a volume to RAS+: depth runs to superior, height to anterior, width to right.

    Only flips and transposes, so no value changes. An oblique volume goes to the nearest
    orientation and stays oblique: :func:`obliquity_degrees` says by how much.

    Args:
        volume: Any orientation.

    Returns:
        The same voxels (a view of them) with an affine that follows.

    """
    axes, signs = _nearest_axes(volume.affine)
    voxels = volume.voxels.transpose(0, *(axis + 1 for axis in axes))
    turn = np.zeros((4, 4))  # from an index of the result to an index of the input
    turn[3, 3] = 1.0
    for new, (old, sign) in enumerate(zip(axes, signs, strict=True)):
        turn[old, new] = sign
        if sign < 0:
            turn[old, 3] = volume.shape[old] - 1
            voxels = np.flip(voxels, axis=new + 1)
    return replace(volume, voxels=voxels, affine=volume.affine.compose(turn))


def obliquity_degrees(affine: Affine) -> float:
    """Return the largest angle between a voxel axis and the nearest world axis, in degrees."""
    cosines = np.abs(affine.direction).max(axis=0)
    return float(np.degrees(np.arccos(np.clip(cosines.min(), 0.0, 1.0))))


def _nearest_axes(affine: Affine) -> tuple[list[int], list[int]]:
    """Return, for the axes (S, A, R) in turn, the array axis that is nearest, and its sign.

    The voxel axis that is clearest takes its world axis first, then the next; a tie (an angle
    of 45 degrees) leaves the axes in the order that they have.
    """
    left, _, right = np.linalg.svd(affine.direction)  # the nearest rotation, if there is shear
    cosines = np.round(left @ right, 6)[::-1]  # rows S, A, R; columns as the array's axes
    clearest = np.argsort(-np.abs(cosines).max(axis=0), kind="stable")
    axes, signs = [0, 0, 0], [1, 1, 1]
    free = [True, True, True]
    for old in clearest:
        # On a tie, prefer the world axis whose place in the array the axis already has.
        candidates = [new for new in range(3) if free[new]]
        new = max(candidates, key=lambda row: (abs(cosines[row, old]), row == old))
        free[new] = False
        axes[new] = int(old)
        signs[new] = -1 if cosines[new, old] < 0 else 1
    return axes, signs


def crop_or_pad(
    volume: Volume,
    size_voxels: Size3,
    center_voxel: Size3 | None = None,
    value: float = 0.0,
) -> Volume:
    """Cut a box of a size out of a volume; where the box sticks out, fill with a value.

    Args:
        volume: Any size.
        size_voxels: (depth, height, width) of the result.
        center_voxel: Index (depth, height, width) of the voxel that becomes voxel
            ``size_voxels // 2`` of the result; ``size // 2`` of the volume if None. It may lie
            outside.
        value: What fills the outside.

    Returns:
        A volume of that size; its affine follows, also where padding goes before the first voxel.
    """
    sizes = volume.shape
    center = center_voxel if center_voxel is not None else [size // 2 for size in sizes]
    start = [int(c) - size // 2 for c, size in zip(center, size_voxels, strict=True)]
    if tuple(start) == (0, 0, 0) and tuple(sizes) == tuple(size_voxels):
        return volume
    voxels = cut_box(volume.voxels, (start[0], start[1], start[2]), size_voxels, value)
    return replace(volume, voxels=voxels, affine=volume.affine.shifted(start))


def cut_box(voxels: Any, start: Size3, size: Size3, value: float) -> Any:
    """Return the box (C, *size) at ``start`` of (C, D, H, W); ``value`` where it sticks out."""
    inside = []
    target = []
    for first, length, available in zip(start, size, voxels.shape[1:], strict=True):
        low, high = max(0, first), min(available, first + length)
        high = max(low, high)
        inside.append(slice(low, high))
        target.append(slice(low - first, high - first) if high > low else slice(0, 0))
    cut = voxels[:, inside[0], inside[1], inside[2]]
    if cut.shape[1:] == tuple(size):
        return cut
    box = np.full((voxels.shape[0], *size), value, dtype=voxels.dtype)
    if cut.size:
        box[:, target[0], target[1], target[2]] = cut
    return box
