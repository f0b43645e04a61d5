"""What makes DICOM slices one volume: one series, one grid, evenly spaced along the normal."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from voxgraft.errors import VolumeError, raise_faults
from voxgraft.volumes.damage import GeometryError

_SAME_PLACE_MM = 0.01
_MISSING_FACTOR = 1.5
"""A gap of this many typical gaps means that a slice is missing."""
_UNEVEN_FRACTION = 0.1
_UNEVEN_MM = 0.1
_MAX_TILT_DEGREES = 0.5


@dataclass(frozen=True, kw_only=True)
class Slice:
    """What the header of one DICOM image says; lengths in mm, LPS+."""

    path: Path
    series: str
    uid: str
    study: str
    patient: str
    manufacturer: str
    number: int | None
    description: str
    modality: str
    localizer: bool
    rows: int
    columns: int
    frames: int
    samples: int
    bits: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    slope: float
    intercept: float
    inverted: bool

    @property
    def place(self) -> Float[np.ndarray, " 3"]:
        """Center of the first pixel, (x, y, z), LPS+, in mm."""
        return np.asarray(self.position, dtype=np.float64)

    @property
    def cosines(self) -> Float[np.ndarray, " 6"]:
        """Direction of increasing column index (3) and of increasing row index (3), LPS+."""
        return np.asarray(self.orientation, dtype=np.float64)

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """Distance of neighboring rows and of neighboring columns, in mm."""
        row, column = self.spacing or (0.0, 0.0)
        return row, column


def check_one_series(folder: Path, slices: Sequence[Slice]) -> None:
    """Refuse several series, localizers, multi-frame and color images.

    Raises:
        VolumeError: With the UIDs and sizes of the series, or the names of the files.
    """
    groups: dict[str, list[Slice]] = {}
    for item in slices:
        groups.setdefault(item.series, []).append(item)
    if len(groups) > 1:
        shown = [
            f"series {uid or '(no UID)'}: {len(group)} slices of {group[0].rows} x "
            f"{group[0].columns}, {group[0].modality or 'no modality'}"
            f"{', localizer' if any(item.localizer for item in group) else ''}"
            f"{f', {group[0].description!r}' if group[0].description else ''} "
            f"(first file {group[0].path.name})"
            for uid, group in groups.items()
        ]
        raise_faults(
            VolumeError,
            f"{folder}: holds {len(groups)} DICOM series, expected one",
            shown,
            "Move the slices of each series to a folder of their own and name that folder.",
        )
    localizers = [item.path.name for item in slices if item.localizer]
    if localizers:
        raise VolumeError(
            f"{folder}: {_listed(localizers)} are localizers (ImageType says LOCALIZER), no volume."
            " Move them away, or give the folder of the diagnostic series."
        )
    frames = [f"{item.path.name} ({item.frames} frames)" for item in slices if item.frames > 1]
    if frames:
        raise VolumeError(
            f"{folder}: multi-frame DICOM is not read: {_listed(frames)}. "
            "Expected one slice per file. Convert the series to .nii.gz (dcm2niix does it)."
        )
    colors = [item.path.name for item in slices if item.samples != 1]
    if colors:
        raise VolumeError(
            f"{folder}: {_listed(colors)} are color images (a screenshot or an overlay); expected "
            "gray slices. Give the folder of the original series."
        )


def check_one_grid(folder: Path, slices: Sequence[Slice]) -> None:
    """Refuse slices without geometry, and mixed sizes, spacings or orientations.

    Raises:
        GeometryError: With the names of the odd files.
    """
    faults = []
    for item in slices:
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
            faults.append(f"{item.path.name}: no usable {', '.join(missing)}")
        elif min(item.pixel_spacing) <= 0:
            faults.append(f"{item.path.name}: PixelSpacing is {item.pixel_spacing} mm")
    if faults:
        raise_faults(
            GeometryError,
            f"{folder}: slices without geometry",
            faults,
            "Expected all three with positive spacing in each slice. Export the series again.",
        )
    _check_same(folder, slices, "size (rows x columns)", lambda s: f"{s.rows} x {s.columns}")
    _check_same(
        folder, slices, "PixelSpacing in mm", lambda s: tuple(round(v, 4) for v in s.pixel_spacing)
    )
    reference = slices[0].cosines
    odd = [s for s in slices if not np.allclose(s.cosines, reference, atol=2e-3)]
    if odd:
        raise GeometryError(
            f"{folder}: slices have different orientations: {slices[0].path.name} has "
            f"{_short(reference)}, but {_listed([s.path.name for s in odd])} (the first: "
            f"{_short(odd[0].cosines)}). Expected one orientation; split them into folders."
        )


def sort_slices(
    folder: Path, slices: Sequence[Slice]
) -> tuple[list[Slice], Float[np.ndarray, " 3"]]:
    """Sort slices along their normal and check that they are one even stack.

    Returns:
        The slices in order, and the unit normal (LPS+).

    Raises:
        GeometryError: If positions are doubled, missing or uneven, or the stack is tilted.
    """
    across, down = slices[0].cosines[:3], slices[0].cosines[3:]
    normal = np.cross(across, down)
    length = float(np.linalg.norm(normal))
    if not 0.98 < length < 1.02:
        raise GeometryError(
            f"{folder}: ImageOrientationPatient of {slices[0].path.name} is "
            f"{_short(slices[0].cosines)}; expected two unit vectors at a right angle. "
            "Export the series again."
        )
    normal = normal / length
    order = sorted(slices, key=lambda item: (float(item.place @ normal), item.path.name))
    if len(order) > 1:
        _check_spread(folder, order, normal)
        _check_straight(folder, order, normal)
    return order, normal


def _check_spread(folder: Path, order: list[Slice], normal: Float[np.ndarray, " 3"]) -> None:
    along = np.array([item.place @ normal for item in order])
    gaps = np.diff(along)
    doubled = np.flatnonzero(gaps < _SAME_PLACE_MM)
    if doubled.size:
        raise_faults(
            GeometryError,
            f"{folder}: slices at the same position",
            [
                f"{order[i].path.name} and {order[i + 1].path.name} both at {along[i]:.2f} mm"
                for i in doubled
            ],
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
                f"{gaps[i]:.3g} mm between {order[i].path.name} (at {along[i]:.2f} mm) and "
                f"{order[i + 1].path.name} (at {along[i + 1]:.2f} mm)"
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
            f"{gaps.max():.3g} mm; {order[worst].path.name} is {off[worst]:.3g} mm off an even "
            f"grid (at most {limit:.3g} mm are accepted). Resample the series to an even grid, or "
            "keep the slices of one spacing."
        )


def _check_straight(folder: Path, order: list[Slice], normal: Float[np.ndarray, " 3"]) -> None:
    shift = order[-1].place - order[0].place
    along = float(shift @ normal)
    aside = float(np.linalg.norm(shift - along * normal))
    tilt = float(np.degrees(np.arctan2(aside, along)))
    if tilt > _MAX_TILT_DEGREES:
        raise GeometryError(
            f"{folder}: the stack is tilted by {tilt:.1f} degrees against its slices (gantry tilt; "
            f"from {order[0].path.name} to {order[-1].path.name} slices move {aside:.1f} mm "
            "sideways). Expected an upright stack. Correct the tilt first (dcm2niix does it)."
        )
    line = np.linspace(order[0].place, order[-1].place, len(order))
    apart = np.array([item.place for item in order]) - line
    apart -= np.outer(apart @ normal, normal)
    off = np.linalg.norm(apart, axis=1)
    limit = max(0.5 * min(order[0].pixel_spacing), _UNEVEN_MM)
    if off.max() > limit:
        worst = int(off.argmax())
        raise GeometryError(
            f"{folder}: {order[worst].path.name} is {off[worst]:.3g} mm sideways of the line "
            f"through the other slices (at most {limit:.3g} mm are accepted). "
            "Is it of another stack? Move it away."
        )


def _check_same(
    folder: Path, slices: Sequence[Slice], what: str, value: Callable[[Slice], Hashable]
) -> None:
    groups: dict[Hashable, list[str]] = {}
    for item in slices:
        groups.setdefault(value(item), []).append(item.path.name)
    if len(groups) > 1:
        shown = "; ".join(f"{found}: {_listed(names)}" for found, names in groups.items())
        raise GeometryError(
            f"{folder}: slices differ in {what}: {shown}. Expected the same in all slices of a "
            "series; split them into folders."
        )


def _short(cosines: Float[np.ndarray, " 6"]) -> str:
    return "(" + ", ".join(f"{value:.3g}" for value in cosines) + ")"


def _listed(names: Sequence[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
