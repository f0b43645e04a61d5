"""Slices of a LIDC-IDRI scan on which enough different radiologists outlined the same nodule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from voxgraft.datasets.importers.lidc_nodules import Contour, Nodule

_SAME_SLICE_MM = 0.05
"""An outline is of a slice whose position differs by this much at the most."""


def agreed_slices(
    nodule: Nodule,
    uids: Sequence[str],
    z_mm: Float[np.ndarray, " depth"],
    min_readers: int,
) -> tuple[Bool[np.ndarray, " depth"], list[str]]:
    """Return the slices on which enough different readers outlined a nodule.

    A reader counts once a slice, however many outlines he drew there; an outline of a hole alone
    does not count. An outline is of the slice whose SOPInstanceUID it names, else of the one at
    its position.

    Args:
        nodule: Annotations of one nodule.
        uids: SOPInstanceUID of each slice of the scan.
        z_mm: Position of each slice.
        min_readers: Fewest different readers.

    Returns:
        Which slices, and a sentence for each outline that lies on none.
    """
    index = {uid: place for place, uid in enumerate(uids) if uid}
    drawn: list[set[int]] = [set() for _ in uids]
    faults: dict[float, str] = {}
    for annotation in nodule.annotations:
        for contour in annotation.contours:
            if not contour.inclusion:
                continue
            place = _slice_of(contour, index, z_mm)
            if place is None:
                faults[contour.z_mm] = f"no slice at z = {contour.z_mm:g} mm, where one is outlined"
            else:
                drawn[place].add(annotation.reader)
    agreed = np.array([len(readers) >= min_readers for readers in drawn], dtype=bool)
    return agreed, [faults[z] for z in sorted(faults)]


def _slice_of(
    contour: Contour, index: dict[str, int], z_mm: Float[np.ndarray, " depth"]
) -> int | None:
    if contour.sop_uid in index:
        return index[contour.sop_uid]
    away = np.abs(z_mm - contour.z_mm)
    place = int(away.argmin())
    return place if away[place] <= _SAME_SLICE_MM else None
