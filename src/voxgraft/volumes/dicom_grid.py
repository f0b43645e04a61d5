"""Whether DICOM slices are one volume: one grid, evenly spaced along their normal."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from voxgraft.errors import VolumeError, listed, raise_faults
from voxgraft.volumes.damage import GeometryError
from voxgraft.volumes.dicom_choose import SAME_PLACE_MM
from voxgraft.volumes.dicom_slices import Slice

_MISSING_FACTOR = 1.5
"""A gap of this many typical gaps means that a slice is missing."""
_UNEVEN_FRACTION = 0.1
_UNEVEN_MM = 0.1
_UNIT = 0.02
"""Direction cosines may be this far from unit vectors at a right angle (they are often rounded)."""


def check_slices(folder: Path, slices: Sequence[Slice]) -> None:
    """Refuse images that are no gray slice with a place of its own.

    Raises:
        VolumeError: With the names of the odd files.
    """
    frames = [f"{item.name} ({item.frames} frames)" for item in slices if not item.is_one_slice]
    if frames:
        raise VolumeError(
            f"{folder}: multi-frame DICOM without a position for each frame is not read: "
            f"{listed(frames)}. Expected Enhanced CT or MR, or one slice per file. Convert the "
            "series to .nii.gz (dcm2niix does it)."
        )
    colors = [item.name for item in slices if not item.is_gray]
    if colors:
        raise VolumeError(
            f"{folder}: {listed(colors)} are color images (a screenshot or an overlay); expected "
            "gray slices. Give the folder of the original series."
        )
    faults = [f"{item.name}: {fault}" for item in slices if (fault := _geometry_fault(item))]
    if faults:
        raise_faults(
            GeometryError,
            f"{folder}: slices without geometry",
            faults,
            "Expected a position, two unit vectors at a right angle and a positive spacing in "
            "each slice. Export the series again.",
        )


def check_one_grid(folder: Path, slices: Sequence[Slice]) -> None:
    """Refuse mixed sizes and spacings, and slices of which only some have a rescale.

    Raises:
        VolumeError: With the names of the odd files.
    """
    _check_same(folder, slices, "size (rows x columns)", lambda s: f"{s.rows} x {s.columns}")
    _check_same(
        folder, slices, "PixelSpacing in mm", lambda s: tuple(round(v, 4) for v in s.pixel_spacing)
    )
    _check_same(
        folder,
        slices,
        "their rescale",
        lambda s: "with RescaleSlope" if s.rescaled else "without RescaleSlope and -Intercept",
    )


def sort_slices(
    folder: Path, slices: Sequence[Slice]
) -> tuple[list[Slice], Float[np.ndarray, " 3"]]:
    """Sort slices along their normal and check that they are one even stack.

    Returns:
        The slices in order, and the unit normal (LPS+).

    Raises:
        GeometryError: If positions are doubled, missing or uneven, or a slice stands aside.
    """
    normal = slices[0].normal / np.linalg.norm(slices[0].normal)
    order = sorted(slices, key=lambda item: (float(item.place @ normal), item.name))
    if len(order) > 1:
        _check_spread(folder, order, normal)
        _check_line(folder, order, normal)
    return order, normal


def _geometry_fault(item: Slice) -> str:
    missing = [
        name
        for name, value in (
            ("ImagePositionPatient", item.position),
            ("ImageOrientationPatient", item.orientation),
            ("PixelSpacing", item.spacing),
        )
        if value is None
    ]
    if missing:
        return f"no usable {', '.join(missing)}"
    if min(item.pixel_spacing) <= 0:
        return f"PixelSpacing is {item.pixel_spacing} mm"
    across, down = item.cosines[:3], item.cosines[3:]
    gram = np.array([across @ across, down @ down, across @ down])
    if not np.allclose(gram, (1.0, 1.0, 0.0), rtol=0.0, atol=_UNIT):
        shown = ", ".join(f"{value:.3g}" for value in item.cosines)
        return f"ImageOrientationPatient is ({shown})"
    return ""


def _check_spread(folder: Path, order: list[Slice], normal: Float[np.ndarray, " 3"]) -> None:
    along = np.array([item.place @ normal for item in order])
    gaps = np.diff(along)
    doubled = np.flatnonzero(gaps < SAME_PLACE_MM)
    if doubled.size:
        raise_faults(
            GeometryError,
            f"{folder}: slices at the same position",
            [f"{order[i].name} and {order[i + 1].name} both at {along[i]:.2f} mm" for i in doubled],
            "Expected each position once. Remove the copies, or split the time points or echoes "
            "into folders.",
        )
    typical = float(np.median(gaps))
    missing = np.flatnonzero(gaps > _MISSING_FACTOR * typical)
    if missing.size:
        raise_faults(
            GeometryError,
            f"{folder}: slices are missing (slices stand every {typical:.3g} mm)",
            [
                f"{gaps[i]:.3g} mm between {order[i].name} (at {along[i]:.2f} mm) and "
                f"{order[i + 1].name} (at {along[i + 1]:.2f} mm)"
                for i in missing
            ],
            "Copy the missing slices, or export the series again.",
        )
    even = np.linspace(along[0], along[-1], len(along))
    off = np.abs(along - even)
    limit = max(_UNEVEN_FRACTION * typical, _UNEVEN_MM)
    if off.max() > limit:
        worst = int(off.argmax())
        raise GeometryError(
            f"{folder}: slices are unevenly spaced: gaps from {gaps.min():.3g} to "
            f"{gaps.max():.3g} mm; {order[worst].name} is {off[worst]:.3g} mm off an even "
            f"grid (at most {limit:.3g} mm are accepted). Resample the series to an even grid, or "
            "keep the slices of one spacing."
        )


def _check_line(folder: Path, order: list[Slice], normal: Float[np.ndarray, " 3"]) -> None:
    line = np.linspace(order[0].place, order[-1].place, len(order))
    apart = np.array([item.place for item in order]) - line
    apart -= np.outer(apart @ normal, normal)
    off = np.linalg.norm(apart, axis=1)
    limit = max(0.5 * min(order[0].pixel_spacing), _UNEVEN_MM)
    if off.max() > limit:
        worst = int(off.argmax())
        raise GeometryError(
            f"{folder}: {order[worst].name} is {off[worst]:.3g} mm sideways of the line "
            f"through the other slices (at most {limit:.3g} mm are accepted). "
            "Is it of another stack? Move it away."
        )


def _check_same(
    folder: Path, slices: Sequence[Slice], what: str, value: Callable[[Slice], Hashable]
) -> None:
    groups: dict[Hashable, list[str]] = {}
    for item in slices:
        groups.setdefault(value(item), []).append(item.name)
    if len(groups) > 1:
        shown = "; ".join(f"{found}: {listed(names)}" for found, names in groups.items())
        raise GeometryError(
            f"{folder}: slices differ in {what}: {shown}. Expected the same in all slices of a "
            "series; split them into folders."
        )
