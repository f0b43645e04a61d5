"""Crops of the CT scans around LIDC-IDRI's nodules, for those who have the scans."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int16

from voxgraft.datasets.importers.lidc_shapes import averaging_weights, separable
from voxgraft.errors import TableError, VolumeError
from voxgraft.types import Size3
from voxgraft.volumes import TILT_NOTE, Volume, series_uid

AIR_HU = -1024
"""What stands outside the scan, and the lowest value kept (scanners mark outside with -2000)."""
_MAX_OBLIQUE = 1e-3
_SLICE_TOLERANCE = 0.6
"""A nodule's slices may lie this many slice spacings outside the scan, by rounding."""


def find_series(ct_root: Path) -> dict[str, Path]:
    """Return SeriesInstanceUID to folder, for all DICOM folders below ``ct_root``.

    Raises:
        TableError: If the folder is not there, or a series stands in two folders.
    """
    if not ct_root.is_dir():
        raise TableError(f"{ct_root}: no such folder of CT scans. Check ct_root.")
    found: dict[str, Path] = {}
    for name, folders, files in os.walk(ct_root):
        folders.sort()
        uid = series_uid(Path(name)) if files else None
        if not uid:
            continue
        if uid in found:
            raise TableError(
                f"{ct_root}: series {uid} stands in two folders: {found[uid]} and {name}. "
                "Remove one copy."
            )
        found[uid] = Path(name)
    return found


def ct_cube(
    volume: Volume, center: tuple[float, float, float], spacing_mm: float, size_voxels: Size3
) -> tuple[Int16[np.ndarray, "d h w"], tuple[float, float, float]]:
    """Resample a CT scan to isotropic voxels around a nodule, in RAS+.

    A voxel is the mean, over its own extent, of the scan interpolated linearly.

    Args:
        volume: The scan as its DICOM series is read: slices, rows, columns.
        center: (z in mm, row in pixels, column in pixels) of the nodule.
        spacing_mm: Edge of a voxel.
        size_voxels: (depth, height, width).

    Returns:
        HU, and (x, y, z) of the nodule's center in mm, RAS+.

    Raises:
        VolumeError: If the scan is oblique or tilted, or does not reach the nodule's slices.
    """
    matrix = volume.affine.matrix
    unit = volume.affine.direction
    if np.abs(np.abs(unit) - np.eye(3)[::-1]).max() > _MAX_OBLIQUE:
        raise VolumeError(
            f"{volume.path}: is oriented {volume.affine.orientation} with oblique or other axes; "
            "expected axial slices, as LIDC-IDRI has them. Is it the scan of the annotations?"
        )
    if any(note.startswith(TILT_NOTE) for note in volume.notes):
        raise VolumeError(
            f"{volume.path}: its gantry was tilted, so that its pixels are not where the outlines "
            "count them. Leave the scan out."
        )
    z_mm, row, column = center
    level = (z_mm - matrix[2, 3]) / matrix[2, 0]
    depth, rows, columns = volume.shape
    if not -_SLICE_TOLERANCE <= level <= depth - 1 + _SLICE_TOLERANCE:
        low, high = sorted((matrix[2, 3], matrix[2, 3] + (depth - 1) * matrix[2, 0]))
        raise VolumeError(
            f"{volume.path}: the nodule is at z = {z_mm:.1f} mm, but the scan reaches from "
            f"{low:.1f} to {high:.1f} mm. Slices are missing: download the series again."
        )
    if not (0 <= row <= rows - 1 and 0 <= column <= columns - 1):
        raise VolumeError(
            f"{volume.path}: the nodule is at row {row:.0f}, column {column:.0f}, but slices have "
            f"{rows} x {columns} pixels. Is it the scan of the annotations?"
        )
    middle = np.array([level, row, column])
    axes = [
        _axis_weights(count, float(place), float(step), size, spacing_mm)
        for count, place, step, size in zip(
            volume.shape,
            middle,
            (matrix[2, 0], matrix[1, 1], matrix[0, 2]),
            size_voxels,
            strict=True,
        )
    ]
    region = tuple(part for part, _ in axes)
    values = np.maximum(volume.voxels[0][region].astype(np.float64), AIR_HU) - AIR_HU
    cube = separable(values, *(weights for _, weights in axes)) + AIR_HU
    x, y, z = volume.affine.to_world(middle)
    hu: Int16[np.ndarray, "d h w"] = np.rint(np.clip(cube, -32768, 32767)).astype(np.int16)
    return hu, (float(x), float(y), float(z))


def _axis_weights(
    count: int, middle: float, step_mm: float, size: int, spacing_mm: float
) -> tuple[slice, Float[np.ndarray, "m n"]]:
    """Return the part of an axis that a cube touches, and the weights of its voxels in RAS+."""
    reach = (size / 2 * spacing_mm) / abs(step_mm) + 2
    low, high = max(0, int(middle - reach)), min(count, int(np.ceil(middle + reach)) + 1)
    nodes = (np.arange(low, high) - middle) * abs(step_mm)
    weights = averaging_weights(nodes, size, spacing_mm)
    return slice(low, high), weights if step_mm > 0 else weights[::-1]
