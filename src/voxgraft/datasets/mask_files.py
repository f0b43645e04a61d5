"""One file of masks: its values, and whether it lies on the grid of its scan."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer

from voxgraft.errors import TableError
from voxgraft.types import Size3
from voxgraft.volumes import Affine, read_label_map

TOLERANCE_VOXELS = 0.1
"""Most that a corner of a mask may lie from the scan's, along any axis of the scan."""
INSIDE = (1, 255)
"""Values that mean "inside" in a binary mask."""
_COUNTABLE = 1 << 16


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a file lie.

    Attributes:
        shape: (depth, height, width), in voxels.
        affine: From (depth, height, width) indices to mm, RAS+.
    """

    shape: Size3
    affine: Affine


def grid_fault(scan: Grid, mask: Grid) -> str:
    """Return how a mask's grid differs from its scan's, with both values; empty if it does not."""
    if mask.shape != scan.shape:
        return (
            f"has shape {mask.shape} (depth, height, width), but the scan has {scan.shape}"
            f"{_both(scan, mask) if not scan.affine.isclose(mask.affine) else ''}"
        )
    corners = np.array(list(product(*((0.0, n - 1.0) for n in scan.shape))))
    moved = scan.affine.to_index(mask.affine.to_world(corners)) - corners
    furthest = float(np.abs(moved).max())
    if furthest <= TOLERANCE_VOXELS:
        return ""
    return f"lies up to {furthest:.3g} voxels away from the scan{_both(scan, mask)}"


def count_beyond(inside: Bool[np.ndarray, "d h w"], mask: Grid, scan: Grid) -> int:
    """Return how many voxels of a mask have their center outside of the scan."""
    beyond = 0
    limit = np.asarray(scan.shape) - 0.5
    for depth, plane in enumerate(inside):
        rows, columns = np.nonzero(plane)
        if not rows.size:
            continue
        index = np.column_stack([np.full(rows.size, depth), rows, columns])
        there = scan.affine.to_index(mask.affine.to_world(index))
        beyond += int(((there < -0.5) | (there > limit)).any(axis=1).sum())
    return beyond


def read_values(path: Path) -> tuple[Integer[np.ndarray, "d h w"], Grid]:
    """Read a file of whole numbers.

    Raises:
        VolumeError: If it cannot be read, or holds fractions or several channels.
    """
    labels = read_label_map(path)
    return labels.voxels, Grid(labels.shape, labels.affine)


def read_inside(path: Path) -> tuple[Bool[np.ndarray, "d h w"], Grid]:
    """Read a binary mask.

    Raises:
        TableError: If it holds other values than 0, 1 and 255.
        VolumeError: As :func:`read_values`.
    """
    values, grid = read_values(path)
    inside = values != 0
    odd = {n: count for n, count in count_values(values).items() if n not in (0, *INSIDE)}
    if odd:
        raise TableError(
            f"{path}: holds {shown_counts(odd)}; a binary mask holds 0 outside and 1 (or 255) "
            'inside. If it is a label map, say so in structures.json ("kind": "label_map").'
        )
    return inside, grid


def count_values(values: Integer[np.ndarray, "d h w"]) -> dict[int, int]:
    """Return how many voxels have each value, ascending; a plane at a time."""
    if values.min() < 0 or values.max() >= _COUNTABLE:
        found, counts = np.unique(values, return_counts=True)
        return dict(zip(found.tolist(), counts.tolist(), strict=True))
    total = np.zeros(int(values.max()) + 1, dtype=np.int64)
    for plane in values:
        total += np.bincount(plane.ravel(), minlength=total.size)
    return {int(value): int(total[value]) for value in np.flatnonzero(total)}


def shown_counts(counts: dict[int, int], shown: int = 5) -> str:
    """Return values with their numbers of voxels, as ``value 7 in 12 voxels``."""
    parts = [f"value {value} in {count:,} voxels" for value, count in list(counts.items())[:shown]]
    more = f" and {len(counts) - shown} more values" if len(counts) > shown else ""
    return ", ".join(parts) + more


def _both(scan: Grid, mask: Grid) -> str:
    return f": {mask.affine!r} against the scan's {scan.affine!r}"
