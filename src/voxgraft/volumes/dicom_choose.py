"""Which images of a folder are the one diagnostic series, and what stands beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from voxgraft.errors import VolumeError, listed, raise_faults
from voxgraft.volumes.damage import GeometryError
from voxgraft.volumes.dicom_files import NoImage
from voxgraft.volumes.dicom_kinds import is_secondary, kind_beside
from voxgraft.volumes.dicom_slices import Slice, counted, shown_orientation

SAME_PLACE_MM = 0.01
"""Slices that are no farther apart are at one place."""
_MAX_ODD_SLICES = 3
_MIN_MAIN_SHARE = 0.8
_OTHER_PLANE_DEGREES = 45.0


def choose_series(
    folder: Path, images: Sequence[Slice], others: Sequence[NoImage]
) -> tuple[list[Slice], list[str]]:
    """Return the slices of the one volume series of a folder, and what was left out.

    Left out, whatever series they are of: localizers, screenshots, segmentations, dose grids
    and the like, by ImageType and SOPClassUID. A series is a volume if its images stand at two
    places at least in one orientation: the repeated images of bolus tracking are none. Of several
    volumes, those that are DERIVED and SECONDARY (reformats, projections), or captured from a
    screen, are left out if one other remains.

    Raises:
        VolumeError: If several volumes remain (they are listed), or nothing does.
    """
    notes = _note_others(others)
    aside: dict[str, list[str]] = {}
    rest = []
    for item in images:
        reason = kind_beside(item)
        if reason:
            aside.setdefault(reason, []).append(item.name)
        else:
            rest.append(item)
    left = [f"{counted(len(names), kind)}: {listed(names)}" for kind, names in aside.items()]
    if not rest:
        raise VolumeError(
            f"{folder}: holds images, but no slice of a scan (by ImageType and SOPClassUID): "
            f"{'; '.join(left)}. Give the folder of the diagnostic series."
        )
    groups = list(_grouped(rest))
    chosen = groups[0] if len(groups) == 1 else _one_volume(folder, groups)
    _check_one_patient(folder, chosen)
    notes = [f"left out {text}" for text in left] + notes
    notes += [f"left out {_shown(group)}" for group in groups if group is not chosen]
    return chosen, notes


def choose_orientation(folder: Path, slices: Sequence[Slice]) -> tuple[list[Slice], list[str]]:
    """Return the slices of the one orientation of a series, and what was left out.

    Up to three slices that stand in another plane (at 45 degrees or more) are left out if at
    least 80% of all have one orientation: scouts that do not say so. Any other mixture (reformats
    in one series, slices turned in their plane or tilted one by one) is no volume.

    Raises:
        GeometryError: With the slices of each orientation.
    """
    placed = [item for item in slices if item.orientation is not None]
    groups: list[list[Slice]] = []
    for item in placed:
        for group in groups:
            if group[0].same_orientation(item):
                group.append(item)
                break
        else:
            groups.append([item])
    if len(groups) <= 1:
        return list(slices), []
    main = max(groups, key=len)
    odd = [item for group in groups if group is not main for item in group]
    few = len(odd) <= _MAX_ODD_SLICES and len(main) >= _MIN_MAIN_SHARE * len(placed)
    if not few or not all(_in_other_plane(item, main[0]) for item in odd):
        raise_faults(
            GeometryError,
            f"{folder}: slices have different orientations",
            [
                f"{counted(len(group), 'slice')} {shown_orientation(group[0])}: "
                f"{listed([item.name for item in group])}"
                for group in sorted(groups, key=len, reverse=True)
            ],
            "Expected one orientation. Move the slices of each to a folder of their own.",
        )
    found = ", ".join(f"{item.name} ({shown_orientation(item)})" for item in odd)
    gone = {item.name for item in odd}
    note = f"left out {counted(len(odd), 'slice')} of another plane than the rest: {found}"
    return [item for item in slices if item.name not in gone], [note]


def _grouped(images: Iterable[Slice]) -> Iterable[list[Slice]]:
    groups: dict[str, list[Slice]] = {}
    for item in images:
        groups.setdefault(item.series, []).append(item)
    return groups.values()


def _one_volume(folder: Path, groups: list[list[Slice]]) -> list[Slice]:
    volumes = [group for group in groups if _is_volume(group)]
    if len(volumes) > 1:
        primary = [group for group in volumes if not is_secondary(group)]
        volumes = primary if len(primary) == 1 else volumes
    if len(volumes) != 1:
        raise_faults(
            VolumeError,
            f"{folder}: holds {len(volumes) or len(groups)} DICOM series, expected one",
            [_shown(group) for group in volumes or groups],
            "Move the slices of each series to a folder of their own and name that folder.",
        )
    return volumes[0]


def _is_volume(group: Sequence[Slice]) -> bool:
    """Whether two gray images stand at two places along the normal of one orientation."""
    usable = [item for item in group if item.has_geometry and item.is_gray and item.is_one_slice]
    levels: list[tuple[Slice, float]] = []
    for item in usable:
        for first, low in levels:
            if first.same_orientation(item):
                if abs(float(item.place @ first.normal) - low) > SAME_PLACE_MM:
                    return True
                break
        else:
            levels.append((item, float(item.place @ item.normal)))
    return False


def _in_other_plane(item: Slice, main: Slice) -> bool:
    cosine = abs(float(item.normal @ main.normal))
    return cosine < float(np.cos(np.radians(_OTHER_PLANE_DEGREES)))


def _check_one_patient(folder: Path, slices: Sequence[Slice]) -> None:
    first: dict[str, str] = {}
    for item in slices:
        if item.patient:
            first.setdefault(item.patient, item.name)
    if len(first) > 1:
        shown = ", ".join(f"{patient!r} in {name}" for patient, name in first.items())
        raise VolumeError(
            f"{folder}: slices of one series name {len(first)} patients: {shown}. Expected one "
            "PatientID: folders were mixed, or the files were made anonymous one by one. Separate "
            "them, or write one PatientID to all."
        )


def _note_others(others: Sequence[NoImage]) -> list[str]:
    if not others:
        return []
    names = listed([f"{item.name} ({item.kind})" for item in others])
    return [f"left out {counted(len(others), 'DICOM object')} without pixels: {names}"]


def _shown(group: Sequence[Slice]) -> str:
    first = group[0]
    kind = "" if "DERIVED" not in first.image_type else ", derived"
    named = f", {first.description!r}" if first.description else ""
    return (
        f"series {first.series or '(no UID)'}: {counted(len(group), 'slice')} of "
        f"{first.rows} x {first.columns}, {first.modality or 'no modality'}{kind}{named} "
        f"(first file {first.name})"
    )
