"""From one grid of voxels to another by world position: where masks go, and their shares there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Real, Shaped, UInt16

from voxgraft.sliding.axis_weights import (
    EDGE,
    SAME,
    axis_weights,
    leans_of,
    read_range,
    weigh_along,
)
from voxgraft.types import Size3
from voxgraft.volumes import Affine

Box = tuple[slice, slice, slice]
"""Voxels along (depth, height, width), with a start and a stop."""
FULL_SHARE = 32768
"""What stands for a share of 1. As a power of two it keeps halves and quarters exact."""

_SLAB_VOXELS = 1 << 22
"""Of the target, interpolated at a time."""
_Read = Callable[[Box], Any]
"""From voxels of the source to their numbers, of which those beyond the source are 0."""


@dataclass(frozen=True, eq=False)
class GridMap:
    """A source grid seen from a target grid.

    Where voxels of the target are larger than those of the source along an axis, what the source
    has is averaged over their extent: by the share that is covered where the axes of both grids
    run alike, else over evenly spread points, one for each voxel of the source that they are
    long (rounded).
    """

    source: Size3
    """(depth, height, width), in voxels."""
    target: Size3
    matrix: Float[np.ndarray, "4 4"]
    """From target to source indices."""
    axes: tuple[int, int, int] | None
    """The source's axis along each axis of the target; None where grids stand oblique."""
    whole_steps: bool
    """Whether voxels of the target lie on voxels of the source, each on its own."""
    leans: tuple[float, float, float]
    """Share that the nearest voxel has beforehand along each axis of the source, where a mask has
    to win; of two equally near it is the one to the body's right, front or head."""

    @cached_property
    def points(self) -> Size3:
        """Points along each axis of a target's voxel that are averaged over, if oblique."""
        depth, height, width = np.linalg.norm(self.matrix[:3, :3], axis=0)
        return max(1, round(depth)), max(1, round(height)), max(1, round(width))

    @cached_property
    def reaches(self) -> Float[np.ndarray, " 3"]:
        """Voxels along each axis of the source by which one at most reaches, from its center."""
        steps = np.abs(self.matrix[:3, :3])
        if self.axes is not None:
            return np.asarray((1 + np.maximum(1.0, steps.sum(1))) / 2)
        points = np.asarray(self.points)
        return np.asarray(1.0 + SAME + steps @ ((points - 1) / (2 * points)) + max(self.leans))

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
                part.start - reach if part.start > 0 else -0.5 - EDGE,
                part.stop - 1 + reach if part.stop < size else size - 0.5 + EDGE,
            )
            for part, size, reach in zip(box, self.source, self.reaches, strict=True)
        ]
        corners = np.array([(*corner, 1.0) for corner in itertools.product(*ends)])
        there = (corners @ np.linalg.inv(self.matrix).T)[:, :3]
        lows, highs = there.min(0), there.max(0)
        parts = []
        for low, high, size in zip(lows, highs, self.target, strict=True):
            first = int(np.clip(np.ceil(low - EDGE), 0, size))
            parts.append(slice(first, int(np.clip(np.floor(high + EDGE) + 1, first, size))))
        return parts[0], parts[1], parts[2]

    def shares(
        self,
        source: Shaped[np.ndarray, "d h w"],
        box: Box,
        value: int = 1,
        *,
        within: Box | None = None,
    ) -> Iterator[tuple[Box, UInt16[np.ndarray, "D H W"]]]:
        """Yield parts of the target with the share that a value has there.

        Args:
            source: Whatever has the value in some voxels.
            box: Voxels that are looked at; elsewhere the value counts as absent.
            value: The value.
            within: Part of the target that is wanted; all of it by default.

        Yields:
            Parts that together hold every voxel with a share, and shares from 0 to
            ``FULL_SHARE``, with the lean; 0 beyond half a voxel from the outermost centers of
            the source.
        """
        reached = self.reach(box)
        if within is not None:
            depth, height, width = (
                slice(max(part.start, limit.start), min(part.stop, limit.stop))
                for part, limit in zip(reached, within, strict=True)
            )
            reached = depth, height, width

        def read(part: Box) -> Any:
            return source[part] == value

        for place in self.slabs(reached):
            shares = self._interpolated(read, box, place, self.leans)
            shares *= FULL_SHARE
            yield place, np.rint(shares, out=shares).astype(np.uint16)

    def values(
        self, source: Real[np.ndarray, "d h w"], *, outside: float = 0.0
    ) -> Iterator[tuple[Box, Float[np.ndarray, "D H W"]]]:
        """Yield all of the target, slab after slab along its depth, with interpolated values.

        Args:
            source: Numbers that float32 holds exactly.
            outside: The value beyond half a voxel from the outermost centers of the source.

        Yields:
            Parts, whole along height and width, and their values, without any lean.
        """
        other = source != outside
        box = box_of(other)
        del other
        reached = None if box is None else self.reach(box)

        def read(part: Box) -> Any:
            return source[part] - np.float32(outside)

        deep, high, wide = self.target
        for place in self.slabs((slice(0, deep), slice(0, high), slice(0, wide))):
            found = np.full([part.stop - part.start for part in place], outside, np.float32)
            if box is not None and reached is not None:
                first = max(place[0].start, reached[0].start)
                part = (slice(first, min(place[0].stop, reached[0].stop)), *reached[1:])
                if all(one.stop > one.start for one in part):
                    here = slice(part[0].start - place[0].start, part[0].stop - place[0].start)
                    found[here, *part[1:]] += self._interpolated(read, box, part, (0.0, 0.0, 0.0))
            yield place, found

    def slabs(self, place: Box) -> Iterator[Box]:
        """Cut a part of the target along its depth, into what is interpolated at a time."""
        sizes = [part.stop - part.start for part in place]
        if min(sizes) <= 0:
            return
        many = 1 if self.axes is not None else int(np.prod(self.points))
        thick = max(1, _SLAB_VOXELS // (sizes[1] * sizes[2] * many))
        for first in range(place[0].start, place[0].stop, thick):
            yield (slice(first, min(first + thick, place[0].stop)), *place[1:])

    def _interpolated(
        self, read: _Read, box: Box, place: Box, leans: Sequence[float]
    ) -> Float[np.ndarray, "D H W"]:
        if self.axes is None:
            return self._oblique(read, box, place, leans)
        return self._aligned(read, box, place, leans, self.axes)

    def _aligned(
        self, read: _Read, box: Box, place: Box, leans: Sequence[float], axes: Sequence[int]
    ) -> Float[np.ndarray, "D H W"]:
        """Interpolate along one axis after another."""
        weights = []
        parts = list(box)
        for axis, along in enumerate(axes):
            size = self.source[along]
            step, offset = float(self.matrix[along, axis]), float(self.matrix[along, 3])
            at = step * np.arange(place[axis].start, place[axis].stop) + offset
            # Only what is read is made into numbers.
            first, last = read_range(at, size, abs(step))
            first, last = max(box[along].start, first), min(box[along].stop, last)
            if first >= last:
                return np.zeros([part.stop - part.start for part in place], np.float32)
            parts[along] = slice(first, last)
            weights.append(axis_weights(at, size, abs(step), (first, last), lean=leans[along]))
        found = read((parts[0], parts[1], parts[2])).transpose(tuple(axes))
        values = np.ascontiguousarray(found, dtype=np.float32)
        for axis in sorted(range(3), key=lambda axis: weights[axis].shape[0] / found.shape[axis]):
            values = weigh_along(values, weights[axis], axis)
        return values

    def _oblique(
        self, read: _Read, box: Box, place: Box, leans: Sequence[float]
    ) -> Float[np.ndarray, "D H W"]:
        """Interpolate between eight voxels, at one point or several of each voxel."""
        from scipy import ndimage  # takes long to import

        points = np.asarray(self.points)
        linear = self.matrix[:3, :3]
        start = np.array([part.start for part in place], dtype=np.float64)
        sizes = np.array([part.stop - part.start for part in place])
        corner = linear @ start + self.matrix[:3, 3]
        ends = np.stack([np.minimum(0, linear), np.maximum(0, linear)]) @ (sizes - 1) + corner
        parts, edges = [], []
        margins = np.ceil(self.reaches).astype(int)
        for part, size, low, high, more in zip(box, self.source, *ends, margins, strict=True):
            first = max(part.start, int(np.clip(np.floor(low) - more, 0, size - 1)))
            last = min(part.stop, int(np.clip(np.ceil(high) + more + 1, 1, size)))
            if first >= last:
                return np.zeros(sizes, np.float32)
            parts.append(slice(first, last))
            edges.append((first == 0, last == size))
        values = _grown(read((parts[0], parts[1], parts[2])), edges, margins)
        first_point = corner + linear @ ((1 / points - 1) / 2) + leans
        found = ndimage.affine_transform(
            values,
            linear / points,
            offset=first_point - [part.start for part in parts] + margins,
            output_shape=tuple(int(size) for size in sizes * points),
            output=np.float32,
            order=1,
            mode="constant",
            prefilter=False,
        )
        if (points > 1).any():
            d, h, w = (int(size) for size in sizes)
            split = found.reshape(d, points[0], h, points[1], w, points[2])
            found = split.mean(axis=(1, 3, 5), dtype=np.float32)
        self._hide_unseen(found, corner)
        return found

    def _hide_unseen(self, values: Float[np.ndarray, "D H W"], corner: Any) -> None:
        depth, height, width = np.ogrid[tuple(slice(size) for size in values.shape)]
        for along, size in enumerate(self.source):
            d, h, w = self.matrix[along, :3]
            low, high = -0.5 - EDGE, size - 0.5 + EDGE
            reach = [step * (n - 1) for step, n in zip((d, h, w), values.shape, strict=True)]
            least = corner[along] + sum(min(0.0, end) for end in reach)
            most = corner[along] + sum(max(0.0, end) for end in reach)
            if least >= low and most <= high:
                continue
            plane = (h * height + w * width + corner[along]).astype(np.float32)
            at = plane + (d * depth).astype(np.float32)
            values[(at < low) | (at > high)] = 0


def _grown(
    values: Shaped[np.ndarray, "d h w"],
    edges: Sequence[tuple[bool, bool]],
    margins: Sequence[int],
) -> Shaped[np.ndarray, "D H W"]:
    """Return values with a margin: what lies at an edge goes on, elsewhere there is none."""
    if values.dtype == np.bool_:
        values = values.view(np.uint8)
    places = [
        np.arange(-margin, size + margin).clip(0, size - 1)
        for size, margin in zip(values.shape, margins, strict=True)
    ]
    found: Shaped[np.ndarray, "D H W"] = values[np.ix_(*places)]
    for axis, ((low, high), margin) in enumerate(zip(edges, margins, strict=True)):
        lines = np.moveaxis(found, axis, 0)
        if not low:
            lines[:margin] = 0
        if not high:
            lines[-margin:] = 0
    return found


def box_of(mask: Bool[np.ndarray, "d h w"]) -> Box | None:
    """Return the smallest box around what is inside a mask; None if nothing is."""
    ends = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(mask.any(axis=others))
        if not inside.size:
            return None
        ends.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return ends[0], ends[1], ends[2]


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
    steps[np.abs(steps) * extent <= SAME] = 0.0
    used = steps != 0
    axes: tuple[int, int, int] | None = None
    whole = False
    if (used.sum(0) == 1).all() and (used.sum(1) == 1).all():
        first, second, third = (int(along) for along in used.argmax(0))
        axes = (first, second, third)
        off = np.abs(matrix - np.rint(matrix))
        units = np.abs(np.rint(steps)[used]) == 1
        drift = off[:3, :3].T * extent[:, None]
        whole = bool(units.all() and (drift.sum(0) + off[:3, 3] <= SAME).all())
    sizes = [tuple(int(size) for size in shape) for shape in (source, target)]
    leans = leans_of(source_affine.orientation)
    return GridMap(sizes[0], sizes[1], matrix, axes, whole, leans)  # type: ignore[arg-type]
