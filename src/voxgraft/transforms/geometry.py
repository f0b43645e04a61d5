"""Where a volume's voxels lie: turned to RAS+, resampled to a spacing, cropped or padded.

Each function returns a new :class:`~voxgraft.volumes.Volume` whose affine still tells the truth:
a point of the body keeps its world coordinates.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import sparse

from voxgraft.errors import PreprocessingError
from voxgraft.types import Size3, Spacing3
from voxgraft.volumes import Affine, Volume

Interpolation = Literal["linear", "nearest"]

MAX_VOXELS = 2**31
"""More voxels than this in one volume are taken for a mistake in the settings."""

_SAME_SPACING = 1e-5
"""Spacings that differ by less than this, relatively, are the same: nothing is resampled."""


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


def resample(
    volume: Volume, spacing_mm: Spacing3, interpolation: Interpolation = "linear"
) -> Volume:
    """Resample a volume to a spacing along its own axes.

    The outer corner of the field of view stays where it is (not the center of the first voxel),
    so nothing shifts by half a voxel. ``"linear"`` interpolates linearly where the grid gets
    finer. Where it gets coarser by a ratio ``r``, the interpolated line is averaged over
    ``sqrt(r² - 1)`` old voxels around each new center: that adds what the blur of an old voxel
    lacks to that of a new one (their variances are 1/12 and r²/12), it does not alias, and it
    passes into plain interpolation as ``r`` goes to 1. Either way a value that changes linearly
    in space comes out exactly. Beyond the outermost centers the border's value goes on.
    ``"nearest"`` takes the nearest voxel and keeps the dtype.

    Args:
        volume: Any spacing.
        spacing_mm: (depth, height, width) of the result.
        interpolation: ``"linear"`` (float32 result) or ``"nearest"``.

    Returns:
        A volume of ``round(size * old / new)`` voxels, at least one, an axis. An axis whose
        spacing is the wanted one within 1e-5 is left as it is.

    Raises:
        PreprocessingError: If the result would have over 2**31 voxels.
    """
    old_spacing = volume.affine.spacing_mm
    ratios = [new / old for new, old in zip(spacing_mm, old_spacing, strict=True)]
    ratios = [1.0 if abs(ratio - 1) < _SAME_SPACING else ratio for ratio in ratios]
    if ratios == [1.0, 1.0, 1.0]:
        return volume
    sizes = volume.shape
    # In floats: an absurd spacing must not overflow.
    counts = [max(1.0, np.rint(size / ratio)) for size, ratio in zip(sizes, ratios, strict=True)]
    if not float(np.prod(counts)) <= MAX_VOXELS:
        raise PreprocessingError(
            f"{name_of(volume)} of {_sizes(sizes)} voxels at {_sizes(old_spacing)} mm would have "
            f"{_sizes(counts)} voxels at {_sizes(spacing_mm)} mm. Expected at most "
            f"{MAX_VOXELS:,} voxels. Check spacing_mm, and the spacing in the file."
        )
    new_sizes = [int(count) for count in counts]
    step = np.diag([*ratios, 1.0])
    step[:3, 3] = 0.5 * np.array(ratios) - 0.5
    if interpolation == "nearest":
        voxels = volume.voxels
        for axis, (size, new_size, ratio) in enumerate(zip(sizes, new_sizes, ratios, strict=True)):
            if ratio != 1.0:
                nearest = np.floor((np.arange(new_size) + 0.5) * ratio).astype(np.int64)
                voxels = voxels.take(np.clip(nearest, 0, size - 1), axis=axis + 1)
    else:
        weights = [
            None if ratio == 1.0 else _linear_weights(size, new_size, ratio)
            for size, new_size, ratio in zip(sizes, new_sizes, ratios, strict=True)
        ]
        voxels = np.stack([_apply_weights(channel, weights) for channel in volume.voxels])
    return replace(volume, voxels=voxels, affine=volume.affine.compose(step))


def _linear_weights(size: int, new_size: int, ratio: float) -> sparse.csr_array:
    """Return the (new_size, size) matrix that resamples one axis."""
    averaged = float(np.sqrt(max(0.0, ratio**2 - 1.0)))  # in old voxels
    centers = ((np.arange(new_size) + 0.5) * ratio - 0.5)[:, None]
    reach = int(np.ceil(1.0 + averaged / 2.0))
    columns = np.floor(centers).astype(np.int64) + np.arange(-reach, reach + 2)
    if averaged:
        upper = _triangle_integral(centers + averaged / 2.0 - columns)
        weights = (upper - _triangle_integral(centers - averaged / 2.0 - columns)) / averaged
    else:
        weights = np.maximum(0.0, 1.0 - np.abs(centers - columns))
    rows, used = np.nonzero(weights)
    entries = weights[rows, used].astype(np.float32)
    inside = np.clip(columns[rows, used], 0, size - 1)  # entries at one place are added up
    return sparse.csr_array((entries, (rows, inside)), shape=(new_size, size))


def _triangle_integral(place: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Integrate ``max(0, 1 - |x|)`` from minus infinity to a place."""
    clipped = np.clip(place, -1.0, 1.0)
    integral: Float[np.ndarray, "*n"] = 0.5 + clipped - 0.5 * clipped * np.abs(clipped)
    return integral


def _apply_weights(
    channel: Any, weights: list[sparse.csr_array | None]
) -> Float[np.ndarray, "depth height width"]:
    """Resample (D, H, W), slice by slice in the plane and then along depth, in float32.

    Sparse products in one thread: the same bits whatever the number of cores, and no float copy
    of the whole input.
    """
    along_depth, along_height, along_width = weights
    slices = []
    for plane in channel:
        plane = plane.astype(np.float32)
        if along_height is not None:
            plane = along_height @ plane
        if along_width is not None:
            plane = (along_width @ plane.T).T
        slices.append(plane)
    stacked = np.stack(slices)
    if along_depth is None:
        return stacked
    size = stacked.shape
    resampled: Float[np.ndarray, "depth height width"] = along_depth @ stacked.reshape(size[0], -1)
    return resampled.reshape(-1, *size[1:])


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


def _sizes(values: Any) -> str:
    return " × ".join(f"{value:g}" for value in values)
