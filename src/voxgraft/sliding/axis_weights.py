"""How much each voxel of one grid counts in a voxel of another, along one axis."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

SAME = 1e-3
"""Voxels by which places may differ and still count as the same."""
EDGE = 1e-5
"""Likewise, at the border of what was seen."""
LEANS = {"R": 16 / 8192, "A": 11 / 8192, "S": 7 / 8192}
"""What the nearest voxel has beforehand, by the side of the body that its axis runs to. The three
differ so that axes cannot cancel each other out."""
_OPPOSITE = {"L": "R", "P": "A", "I": "S"}


def leans_of(orientation: str) -> tuple[float, float, float]:
    """Return the lean along (depth, height, width): positive where the index grows to R, A, S.

    Args:
        orientation: Three letters, that of the width first.
    """
    depth, height, width = (
        LEANS[letter] if letter in LEANS else -LEANS[_OPPOSITE[letter]]
        for letter in reversed(orientation)
    )
    return depth, height, width


def read_range(at: Float[np.ndarray, " to"], size: int, width: float) -> tuple[int, int]:
    """Return the first voxel that counts anywhere, and the one after the last.

    Args:
        at: Where the target's centers lie along the source's axis, in its voxels.
        size: Voxels of the source.
        width: Voxels of the source in one of the target.
    """
    reach = max(1.0, width) / 2
    ends = np.floor(np.array([at.min() - reach, at.max() + reach]) + 0.5).clip(0, size - 1)
    return int(ends[0]), int(ends[1]) + 1


def axis_weights(
    at: Float[np.ndarray, " to"],
    size: int,
    width: float,
    read: tuple[int, int],
    *,
    lean: float = 0.0,
) -> Float[np.ndarray, "to from"]:
    """Return how much each voxel of a source counts in each of a target.

    Where the target is finer, values are interpolated linearly. Where it is coarser, a voxel
    counts by the share of the target's extent that it covers; at equal spacing both are the same.
    What lies at the source's border goes on beyond it; a target whose center is beyond the border
    has nothing.

    Args:
        at: Where the target's centers lie along the source's axis, in its voxels.
        size: Voxels of the source.
        width: Voxels of the source in one of the target.
        read: The voxels that are wanted; others are left out.
        lean: Share that the nearest voxel has beforehand; of two equally near, the one after the
            center where this is positive, the one before where it is negative.
    """
    width = max(1.0, width)
    first, last = read
    seen = (at >= -0.5 - EDGE) & (at <= size - 0.5 + EDGE)
    found = np.zeros((len(at), last - first), np.float32)

    def add(columns: Int[np.ndarray, " to"], parts: Float[np.ndarray, " to"]) -> None:
        columns = columns.clip(0, size - 1)
        held = seen & (parts > 0) & (columns >= first) & (columns < last)
        found[np.flatnonzero(held), columns[held] - first] += parts[held].astype(np.float32)

    low, high = at - width / 2, at + width / 2
    lowest = np.floor(low + 0.5).astype(np.int64)
    for step in range(int(np.ceil(width)) + 1):
        column = lowest + step
        covered = np.minimum(high, column + 0.5) - np.maximum(low, column - 0.5)
        add(column, covered * ((1 - abs(lean)) / width))
    if lean:
        nearest = np.rint(at + np.copysign(SAME, lean)).astype(np.int64)
        add(nearest, np.full(len(at), abs(lean)))
    return found


def weigh_along(
    values: Float[np.ndarray, "d h w"], weights: Float[np.ndarray, "to from"], axis: int
) -> Float[np.ndarray, "D H W"]:
    """Return what the voxels along one axis of a volume make in a target."""
    if len(weights) == values.shape[axis] and np.array_equal(weights, np.eye(len(weights))):
        return values
    if axis == 0:
        whole = weights @ values.reshape(len(values), -1)
        return np.asarray(whole.reshape(len(weights), *values.shape[1:]))
    return np.asarray(weights @ values if axis == 1 else values @ weights.T)
