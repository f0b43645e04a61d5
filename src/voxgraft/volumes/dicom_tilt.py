"""Gantry tilt: slices that move sideways along the stack, shifted onto an upright grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from voxgraft.volumes.damage import GeometryError
from voxgraft.volumes.dicom_slices import Slice

TILT_NOTE = "gantry tilt of "
"""How the note on a volume begins whose slices were shifted in their plane."""
_MIN_DEGREES = 0.5
_MAX_DEGREES = 30.0
_NO_PIXEL = 1e-3
"""Slices that reach no more than this over a whole pixel are cut there: positions are rounded."""


@dataclass(frozen=True)
class Tilt:
    """How the slices of a tilted stack lie on an upright grid.

    Attributes:
        degrees: Angle between the stack and the normal of its slices.
        shifts: (slices, 2); place of each slice's first pixel against that of the first slice,
            (rows, columns), in pixels with fractions.
        start: (row, column) of the grid's first pixel, against the first slice's.
        size: (rows, columns) of the grid; it holds all slices whole.
    """

    degrees: float
    shifts: Float[np.ndarray, "d 2"]
    start: tuple[int, int]
    size: tuple[int, int]


def tilt_of(folder: Path, slices: Sequence[Slice], normal: Float[np.ndarray, " 3"]) -> Tilt | None:
    """Measure the tilt of sorted slices; None below 0.5 degrees.

    Raises:
        GeometryError: If it is above 30 degrees.
    """
    if len(slices) < 2:
        return None
    places = np.array([item.place for item in slices])
    moved = places - places[0]
    along = moved @ normal
    aside = moved - np.outer(along, normal)
    degrees = float(np.degrees(np.arctan2(np.linalg.norm(aside[-1]), along[-1])))
    if degrees > _MAX_DEGREES:
        raise GeometryError(
            f"{folder}: the stack is tilted by {degrees:.1f} degrees against its slices: from "
            f"{slices[0].name} to {slices[-1].name} slices move {np.linalg.norm(aside[-1]):.1f} mm "
            f"sideways. Gantry tilt of up to {_MAX_DEGREES:g} degrees is corrected; more is no "
            "scanner's. Correct ImagePositionPatient, or export the series again."
        )
    if not degrees > _MIN_DEGREES:
        return None
    row_mm, column_mm = slices[0].pixel_spacing
    axes = np.stack([slices[0].cosines[3:] * row_mm, slices[0].cosines[:3] * column_mm], axis=1)
    shifts = np.linalg.lstsq(axes, aside.T, rcond=None)[0].T
    low = np.floor(shifts.min(axis=0) + _NO_PIXEL)
    high = np.ceil(shifts.max(axis=0) - _NO_PIXEL)
    rows, columns = (high - low).astype(int)
    return Tilt(
        degrees,
        shifts.clip(low, high),
        (int(low[0]), int(low[1])),
        (slices[0].rows + int(rows), slices[0].columns + int(columns)),
    )


def upright(voxels: Shaped[np.ndarray, "d h w"], tilt: Tilt) -> Shaped[np.ndarray, "d y x"]:
    """Shift each slice in its plane, by linear interpolation; integers are rounded.

    Args:
        voxels: Slices as they were stored.
        tilt: Where they belong.

    Returns:
        (slices, rows, columns) of the same dtype on the grid of ``tilt``; outside the
        slices stands the smallest value.
    """
    fill = voxels.min()
    whole = np.full((len(voxels), *tilt.size), fill, dtype=voxels.dtype)
    for level, (pixels, shift) in enumerate(zip(voxels, tilt.shifts, strict=True)):
        moved = pixels.astype(np.float64) - float(fill)
        for axis in (0, 1):
            moved = _shifted(moved, float(shift[axis]) - tilt.start[axis], tilt.size[axis], axis)
        moved += float(fill)
        whole[level] = np.rint(moved) if voxels.dtype.kind in "iu" else moved
    return whole


def _shifted(
    values: Float[np.ndarray, "h w"], shift: float, size: int, axis: int
) -> Float[np.ndarray, "rows columns"]:
    """Move values by ``shift`` >= 0 pixels along an axis of ``size`` pixels; 0 outside."""
    start = int(np.floor(shift))
    share = shift - start
    values = np.moveaxis(values, axis, 0)
    moved = np.zeros((size + 1, values.shape[1]))
    moved[start : start + len(values)] = (1.0 - share) * values
    moved[start + 1 : start + 1 + len(values)] += share * values
    return np.moveaxis(moved[:size], 0, axis)
