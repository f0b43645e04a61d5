"""Slices that fell out of their series: a damaged UID must not shorten a volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from voxgraft.errors import raise_faults
from voxgraft.volumes.damage import GeometryError
from voxgraft.volumes.dicom_kinds import kind_beside
from voxgraft.volumes.dicom_slices import Slice

_STEP_TOLERANCE = 0.1
_PIXEL_TOLERANCE = 0.5


def check_none_lost(
    folder: Path, order: Sequence[Slice], images: Sequence[Slice], normal: Float[np.ndarray, " 3"]
) -> None:
    """Refuse a stack if an image of another series continues it.

    An image does if it is the only one of its series, has the stack's grid, and stands one step
    from the nearest slice. Images of bolus tracking are nearer to one, or on another grid.

    Args:
        folder: For messages.
        order: The sorted slices of the stack.
        images: All images of the folder.
        normal: Unit normal of the stack (LPS+).

    Raises:
        GeometryError: With the names of the images.
    """
    if len(order) < 2:
        return
    sizes = Counter(item.series for item in images)
    alone = [
        item
        for item in images
        if item.series != order[0].series and sizes[item.series] == 1 and not kind_beside(item)
    ]
    places = np.array([item.place for item in order])
    step = float(np.median(np.diff(places @ normal)))
    lost = [item for item in alone if _continues(item, order[0], places, normal, step)]
    if lost:
        raise_faults(
            GeometryError,
            f"{folder}: slices of series {order[0].series or '(no UID)'} seem to name another",
            [f"{item.name}: series {item.series or '(no UID)'}" for item in lost],
            "Expected one SeriesInstanceUID in all slices of the stack. Export the series again, "
            "or move the files away if they are of another series.",
        )


def _continues(
    item: Slice,
    first: Slice,
    places: Float[np.ndarray, "n 3"],
    normal: Float[np.ndarray, " 3"],
    step: float,
) -> bool:
    same_grid = (
        item.has_geometry
        and item.is_gray
        and (item.rows, item.columns) == (first.rows, first.columns)
        and item.same_orientation(first)
        and np.allclose(item.pixel_spacing, first.pixel_spacing, rtol=1e-3)
    )
    if not same_grid:
        return False
    apart = item.place - places
    along = apart @ normal
    nearest = int(np.abs(along).argmin())
    aside = float(np.linalg.norm(apart[nearest] - along[nearest] * normal))
    drift = places[-1] - places[0]
    drift = float(np.linalg.norm(drift - (drift @ normal) * normal)) / (len(places) - 1)
    return abs(
        abs(float(along[nearest])) - step
    ) <= _STEP_TOLERANCE * step and aside <= drift + _PIXEL_TOLERANCE * min(first.pixel_spacing)
