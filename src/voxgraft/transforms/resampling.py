"""A volume on another grid: to a spacing in mm, or to a number of voxels, axis by axis."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from scipy import sparse

from voxgraft.errors import PreprocessingError
from voxgraft.transforms.geometry import name_of
from voxgraft.types import PartialSize3, PartialSpacing3
from voxgraft.volumes import Volume

Interpolation = Literal["linear", "nearest"]

MAX_VOXELS = 2**31
"""More voxels than this in one volume are taken for a mistake in the settings."""

_SAME_SPACING = 1e-5
"""Spacings that differ by less than this, relatively, are the same: nothing is resampled."""

_BLOCK_VALUES = 2**18
"""Values that are resampled along depth at a time: a megabyte, so that they stay in the cache."""


def resample(
    volume: Volume,
    spacing_mm: PartialSpacing3 | None = None,
    interpolation: Interpolation = "linear",
    *,
    size_voxels: PartialSize3 | None = None,
) -> Volume:
    """Resample a volume along its own axes, to a spacing or to a number of voxels.

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
        spacing_mm: (depth, height, width) of the result; None for an axis (or for all) leaves
            its spacing. The size is ``round(size * old / new)`` voxels, at least one; an axis
            whose spacing is the wanted one within 1e-5 is left as it is.
        interpolation: ``"linear"`` (float32 result) or ``"nearest"``.
        size_voxels: (depth, height, width) of the result, whatever that is in mm; None for an
            axis (or for all) leaves it. The field of view stays, both ends of it.

    Raises:
        PreprocessingError: If the result would have over 2**31 voxels, or an axis has both a
            spacing and a size to go to.
    """
    ratios, counts = _new_grid(volume, spacing_mm, size_voxels)
    if ratios == [1.0, 1.0, 1.0]:
        return volume
    sizes = volume.shape
    if not float(np.prod(counts)) <= MAX_VOXELS:
        spacings = [mm * r for mm, r in zip(volume.affine.spacing_mm, ratios, strict=True)]
        raise PreprocessingError(
            f"{name_of(volume)} of {_sizes(sizes)} voxels at {_sizes(volume.affine.spacing_mm)} mm "
            f"would have {_sizes(counts)} voxels at {_sizes(spacings)} mm. Expected at most "
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
        voxels = np.empty((len(volume.voxels), *new_sizes), dtype=np.float32)
        for channel, result in zip(volume.voxels, voxels, strict=True):
            _apply_weights(channel, weights, result)
    return replace(volume, voxels=voxels, affine=volume.affine.compose(step))


def _new_grid(
    volume: Volume, spacing_mm: PartialSpacing3 | None, size_voxels: PartialSize3 | None
) -> tuple[list[float], list[float]]:
    """Return for each axis the new spacing over the old one, and the new number of voxels.

    Numbers of voxels are floats: an absurd spacing must not overflow.
    """
    ratios, counts = [], []
    wanted = zip(spacing_mm or (None, None, None), size_voxels or (None, None, None), strict=True)
    own = zip(volume.affine.spacing_mm, volume.shape, strict=True)
    for (new_mm, new_size), (mm, size) in zip(wanted, own, strict=True):
        if new_mm is not None and new_size is not None:
            raise PreprocessingError(
                f"{name_of(volume)} is to be resampled to {new_mm:g} mm and to {new_size} voxels "
                "along the same axis. Expected one of the two."
            )
        if new_size is not None:
            ratios.append(size / new_size)
            counts.append(float(new_size))
        elif new_mm is None or abs(new_mm / mm - 1) < _SAME_SPACING:
            ratios.append(1.0)
            counts.append(float(size))
        else:
            ratios.append(new_mm / mm)
            counts.append(max(1.0, float(np.rint(size / (new_mm / mm)))))
    return ratios, counts


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
    channel: Any,
    weights: list[sparse.csr_array | None],
    result: Float[np.ndarray, "new_depth new_height new_width"],
) -> None:
    """Resample (D, H, W) in float32, slice by slice in the plane and then along depth.

    Sparse products in one thread: the same bits whatever the number of cores. Blocks of rows go
    along depth together, so that neither a float copy of the whole input nor a walk through all
    of the memory for each slice is needed.
    """
    along_depth, along_height, along_width = weights
    planes = channel
    if along_height is not None or along_width is not None:
        size = (len(channel), *result.shape[1:])
        planes = result if along_depth is None else np.empty(size, dtype=np.float32)
        for plane, resampled in zip(channel, planes, strict=True):
            plane = plane.astype(np.float32)
            if along_height is not None:
                plane = along_height @ plane
            if along_width is not None:
                plane = (along_width @ plane.T).T
            resampled[:] = plane
    if along_depth is None:
        return
    rows = max(1, _BLOCK_VALUES // (len(planes) * planes.shape[2]))
    for first in range(0, planes.shape[1], rows):
        part = slice(first, first + rows)
        block = np.ascontiguousarray(planes[:, part], dtype=np.float32)
        moved = along_depth @ block.reshape(len(block), -1)
        result[:, part] = moved.reshape(-1, *block.shape[1:])


def _sizes(values: Any) -> str:
    return " × ".join(f"{value:g}" for value in values)
