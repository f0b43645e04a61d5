"""From one grid of voxels to another by world position: where masks go, and their shares there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped, UInt16
from scipy import ndimage

from voxgraft.types import Size3
from voxgraft.volumes import Affine

Box = tuple[slice, slice, slice]
"""Voxels along (depth, height, width), with a start and a stop."""
FULL_SHARE = 32768
"""What stands for a share of 1. As a power of two it keeps halves and quarters exact."""

_SAME = 1e-3
"""Voxels by which places may differ and still count as the same."""
_EDGE = 1e-5
"""Likewise, at the border of what was seen."""
_SLAB_VOXELS = 1 << 22
"""Of the target, interpolated at a time."""


@dataclass(frozen=True, eq=False)
class GridMap:
    """A source grid seen from a target grid."""

    source: Size3
    """(depth, height, width), in voxels."""
    target: Size3
    matrix: Float[np.ndarray, "4 4"]
    """From target to source indices."""
    axes: tuple[int, int, int] | None
    """The source's axis along each axis of the target; None where grids stand oblique."""
    whole_steps: bool
    """Whether voxels of the target lie on voxels of the source, each on its own."""

    def copy(
        self, source: Shaped[np.ndarray, "d h w"], target: Shaped[np.ndarray, "D H W"]
    ) -> None:
        """Copy what lies on voxels of the target; only where ``whole_steps``."""
        assert self.axes is not None
        turned = source.transpose(self.axes)
        taken, put = [], []
        for axis, along in enumerate(self.axes):
            size = source.shape[along]
            step, offset = (round(float(self.matrix[along, column])) for column in (axis, 3))
            if step < 0:
                turned = np.flip(turned, axis)
                offset = size - 1 - offset
            first, last = max(0, -offset), min(target.shape[axis], size - offset)
            if first >= last:
                return
            put.append(slice(first, last))
            taken.append(slice(first + offset, last + offset))
        target[tuple(put)] = turned[tuple(taken)]

    def reach(self, box: Box) -> Box:
        """Return the voxels of the target that a mask within a box may reach."""
        ends = [
            (
                part.start - 1.0 if part.start > 0 else -0.5 - _EDGE,
                float(part.stop) if part.stop < size else size - 0.5 + _EDGE,
            )
            for part, size in zip(box, self.source, strict=True)
        ]
        corners = np.array([(*corner, 1.0) for corner in itertools.product(*ends)])
        there = (corners @ np.linalg.inv(self.matrix).T)[:, :3]
        lows, highs = there.min(0), there.max(0)
        parts = []
        for low, high, size in zip(lows, highs, self.target, strict=True):
            first = int(np.clip(np.ceil(low - _EDGE), 0, size))
            parts.append(slice(first, int(np.clip(np.floor(high + _EDGE) + 1, first, size))))
        return parts[0], parts[1], parts[2]

    def shares(
        self,
        source: Shaped[np.ndarray, "d h w"],
        box: Box,
        value: int = 1,
        *,
        within: Box | None = None,
    ) -> Iterator[tuple[Box, UInt16[np.ndarray, "D H W"]]]:
        """Yield parts of the target with the share that a value has there, interpolated linearly.

        Args:
            source: Whatever has the value in some voxels.
            box: Voxels that are looked at; elsewhere the value counts as absent.
            value: The value.
            within: Part of the target that is wanted; all of it by default.

        Yields:
            Parts that together hold every voxel with a share, and shares from 0 to
            ``FULL_SHARE``; 0 beyond half a voxel from the outermost centers of the source.
        """
        depth, height, width = self.reach(box)
        if within is not None:
            depth, height, width = (
                slice(max(part.start, limit.start), min(part.stop, limit.stop))
                for part, limit in zip((depth, height, width), within, strict=True)
            )
        sizes = [part.stop - part.start for part in (depth, height, width)]
        if min(sizes) <= 0:
            return
        thick = max(1, _SLAB_VOXELS // (sizes[1] * sizes[2]))
        for first in range(depth.start, depth.stop, thick):
            place = (slice(first, min(first + thick, depth.stop)), height, width)
            if self.axes is None:
                yield place, self._oblique(source, box, value, place)
            else:
                yield place, self._aligned(source, box, value, place, self.axes)

    def _aligned(
        self, source: Any, box: Box, value: int, place: Box, axes: Sequence[int]
    ) -> UInt16[np.ndarray, "D H W"]:
        """Interpolate along one axis after another."""
        weights = []
        parts = list(box)
        for axis, along in enumerate(axes):
            size = self.source[along]
            step, offset = float(self.matrix[along, axis]), float(self.matrix[along, 3])
            at = step * np.arange(place[axis].start, place[axis].stop) + offset
            seen = (at >= -0.5 - _EDGE) & (at <= size - 0.5 + _EDGE)
            at = at.clip(0, size - 1)
            below = np.floor(at).astype(np.int64)
            above = np.minimum(below + 1, size - 1)
            # Only what is read is made into numbers.
            first = max(box[along].start, int(below.min()))
            last = min(box[along].stop, int(above.max()) + 1)
            if first >= last:
                return np.zeros([part.stop - part.start for part in place], np.uint16)
            parts[along] = slice(first, last)
            weights.append(_weights(at, below, above, seen, (first, last)))
        mask = (source[tuple(parts)] == value).transpose(tuple(axes))
        values = np.ascontiguousarray(mask, dtype=np.float32)
        for axis in sorted(range(3), key=lambda axis: weights[axis].shape[0] / mask.shape[axis]):
            values = _along(values, weights[axis], axis)
        return _rounded(values)

    def _oblique(
        self, source: Any, box: Box, value: int, place: Box
    ) -> UInt16[np.ndarray, "D H W"]:
        """Interpolate between eight voxels."""
        mask = (source[box] == value).astype(np.uint8)
        # A voxel around it: what lies at the edge of the source goes on, elsewhere there is none.
        edges = [
            (part.start == 0, part.stop == size)
            for part, size in zip(box, self.source, strict=True)
        ]
        for axis, (low, high) in enumerate(edges):
            none = [(0, 0)] * 3
            for side, goes_on in enumerate((low, high)):
                width = list(none)
                width[axis] = (1, 0) if side == 0 else (0, 1)
                mask = np.pad(mask, width, mode="edge" if goes_on else "constant")
        linear = self.matrix[:3, :3]
        start = np.array([part.start for part in place], dtype=np.float64)
        corner = linear @ start + self.matrix[:3, 3]
        shape = tuple(part.stop - part.start for part in place)
        values = ndimage.affine_transform(
            mask,
            linear,
            offset=corner - [part.start - 1 for part in box],
            output_shape=shape,
            output=np.float32,
            order=1,
            mode="constant",
            prefilter=False,
        )
        self._hide_unseen(values, corner)
        return _rounded(values)

    def _hide_unseen(self, values: Float[np.ndarray, "D H W"], corner: Any) -> None:
        depth, height, width = np.ogrid[tuple(slice(size) for size in values.shape)]
        for along, size in enumerate(self.source):
            d, h, w = self.matrix[along, :3]
            low, high = -0.5 - _EDGE, size - 0.5 + _EDGE
            reach = [step * (n - 1) for step, n in zip((d, h, w), values.shape, strict=True)]
            least = corner[along] + sum(min(0.0, end) for end in reach)
            most = corner[along] + sum(max(0.0, end) for end in reach)
            if least >= low and most <= high:
                continue
            plane = (h * height + w * width + corner[along]).astype(np.float32)
            at = plane + (d * depth).astype(np.float32)
            values[(at < low) | (at > high)] = 0


def _weights(
    at: Any, below: Any, above: Any, seen: Any, read: tuple[int, int]
) -> Float[np.ndarray, "to from"]:
    """Return how much each voxel along an axis of the target takes of those that are read."""
    first, last = read
    share = at - below
    found = np.zeros((len(at), last - first), np.float32)
    for index, part in ((below, 1 - share), (above, share)):
        held = seen & (index >= first) & (index < last)
        found[np.flatnonzero(held), index[held] - first] += part[held].astype(np.float32)
    return found


def _along(
    values: Float[np.ndarray, "d h w"], weights: Float[np.ndarray, "to from"], axis: int
) -> Float[np.ndarray, "D H W"]:
    """Weigh voxels along one axis."""
    if len(weights) == values.shape[axis] and np.array_equal(weights, np.eye(len(weights))):
        return values
    if axis == 0:
        whole = weights @ values.reshape(len(values), -1)
        return np.asarray(whole.reshape(len(weights), *values.shape[1:]))
    return np.asarray(weights @ values if axis == 1 else values @ weights.T)


def _rounded(shares: Float[np.ndarray, "D H W"]) -> UInt16[np.ndarray, "D H W"]:
    shares *= FULL_SHARE
    result: UInt16[np.ndarray, "D H W"] = np.rint(shares, out=shares).astype(np.uint16)
    return result


def grid_map(
    source: Sequence[int], source_affine: Affine, target: Sequence[int], target_affine: Affine
) -> GridMap:
    """Return how a source grid is seen from a target grid.

    Steps that move nothing by more than a thousandth of a voxel over the whole grid are taken for
    none, so that rounding in a file's header does not make grids oblique.

    Args:
        source: (depth, height, width) of the grid that has values.
        source_affine: Where it lies.
        target: Likewise, of the grid that wants them.
        target_affine: Where it lies.
    """
    matrix = source_affine.inverse @ target_affine.matrix
    extent = np.maximum(np.asarray(target) - 1, 1)
    steps = matrix[:3, :3]
    steps[np.abs(steps) * extent <= _SAME] = 0.0
    used = steps != 0
    axes: tuple[int, int, int] | None = None
    whole = False
    if (used.sum(0) == 1).all() and (used.sum(1) == 1).all():
        first, second, third = (int(along) for along in used.argmax(0))
        axes = (first, second, third)
        off = np.abs(matrix - np.rint(matrix))
        units = np.abs(np.rint(steps)[used]) == 1
        drift = off[:3, :3].T * extent[:, None]
        whole = bool(units.all() and (drift.sum(0) + off[:3, 3] <= _SAME).all())
    sizes = [tuple(int(size) for size in shape) for shape in (source, target)]
    return GridMap(sizes[0], sizes[1], matrix, axes, whole)  # type: ignore[arg-type]
