"""Slices that stand in a folder twice: copies are left out, time points and echoes refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from voxgraft.errors import listed, raise_faults
from voxgraft.volumes.damage import GeometryError
from voxgraft.volumes.dicom_choose import SAME_PLACE_MM
from voxgraft.volumes.dicom_slices import Slice, counted


def drop_copies(
    folder: Path, slices: Sequence[Slice], same_values: Callable[[Slice, Slice], bool]
) -> tuple[list[Slice], list[str]]:
    """Return each slice once, and what was left out.

    A copy has the place and the rescaled values of another slice, whatever its UID. Two files
    of one SOPInstanceUID at different places are no copies: both are kept, with a note.

    Args:
        folder: For messages.
        slices: With geometry, of one orientation.
        same_values: Whether the rescaled values of two slices are equal; asked only of slices at
            one place.

    Returns:
        The slices in order along their normal, copies left out (the first file name is kept).

    Raises:
        GeometryError: If slices at one place differ in their values; with what tells them apart.
    """
    normal = slices[0].normal

    def place(item: Slice) -> tuple[float, Path, int]:
        return float(item.place @ normal), item.path, item.frame or 0

    kept: list[Slice] = []
    copies, faults = [], []
    for item in sorted(slices, key=place):
        twin = _at_same_place(kept, item, normal)
        if twin is None:
            kept.append(item)
        elif same_values(twin, item):
            copies.append(f"{item.name} (of {twin.name})")
        else:
            faults.append(
                f"{twin.name} and {item.name} both at {float(item.place @ normal):.2f} mm, with "
                f"different pixels{_told_apart(twin, item)}"
            )
    if faults:
        raise_faults(
            GeometryError,
            f"{folder}: slices at the same position",
            faults,
            "Expected each position once. Split the time points, echoes or reconstructions into "
            "folders of their own.",
        )
    notes = [f"left out {_counted(len(copies))}: {listed(copies)}"] if copies else []
    return kept, notes + _shared_uids(kept)


def _at_same_place(
    kept: Sequence[Slice], item: Slice, normal: np.ndarray[tuple[int], np.dtype[np.float64]]
) -> Slice | None:
    """Look back along the sorted slices, as far as they lie at the same level."""
    for other in reversed(kept):
        apart = item.place - other.place
        if abs(float(apart @ normal)) > SAME_PLACE_MM:
            return None
        if float(np.linalg.norm(apart)) <= SAME_PLACE_MM:
            return other
    return None


def _told_apart(one: Slice, other: Slice) -> str:
    values, others = dict(one.moment), dict(other.moment)
    found = [
        f"{name} {values.get(name, 'none')} and {others.get(name, 'none')}"
        for name in dict.fromkeys([*values, *others])
        if values.get(name) != others.get(name)
    ]
    return f" ({'; '.join(found)})" if found else ""


def _counted(count: int) -> str:
    return f"{count} {'copy' if count == 1 else 'copies'}"


def _shared_uids(slices: Sequence[Slice]) -> list[str]:
    files = Counter(item.uid for item in {item.path: item for item in slices}.values() if item.uid)
    shared = [uid for uid, count in files.items() if count > 1]
    if not shared:
        return []
    found = counted(len(shared), "SOPInstanceUID")
    return [f"{found} of several different files: {listed(shared)}"]
