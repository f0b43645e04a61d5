"""Which windows see a volume, in which order, and which part of it is done after which."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from voxgraft.errors import InferenceError
from voxgraft.types import Size3


class AxisWindows(NamedTuple):
    """The windows along one axis of a volume."""

    size: int
    """Voxels of the volume."""
    window: int
    """Voxels of a window."""
    starts: tuple[int, ...]
    """First voxel of each window; negative where the window is larger than the volume."""

    @property
    def edges(self) -> tuple[int, ...]:
        """Voxels at which a window begins or ends, and the ends of the volume."""
        found = {0, self.size}
        for start in self.starts:
            found |= {max(0, start), min(self.size, start + self.window)}
        return tuple(sorted(found))


def axis_windows(size: int, window: int, overlap: float) -> AxisWindows:
    """Place windows along an axis as MONAI does.

    They are ``int(window * (1 - overlap))`` voxels apart; the last one is moved back to end with
    the volume. A window that is larger than the volume stands around its middle.
    """
    if window >= size:
        return AxisWindows(size, window, (-((window - size) // 2),))
    step = max(1, int(window * (1 - overlap)))
    count = -(-(size - window) // step) + 1
    return AxisWindows(size, window, tuple(min(i * step, size - window) for i in range(count)))


class Cell(NamedTuple):
    """A part of a volume as wide as the volume, that a window covers wholly or not at all."""

    depth: tuple[int, int]
    """First voxel, and the one after the last."""
    height: tuple[int, int]

    @property
    def area(self) -> int:
        """Voxels of the cell, for each voxel of width."""
        return (self.depth[1] - self.depth[0]) * (self.height[1] - self.height[0])


class Row(NamedTuple):
    """All windows at one place in depth and height."""

    depth: int
    """First voxel of the windows."""
    height: int
    cells: tuple[Cell, ...]
    """What the windows add to."""
    done: tuple[Cell, ...]
    """Those of the cells that no later row adds to."""


@dataclass(frozen=True)
class WindowPlan:
    """The order of windows over a volume; what is done early needs no memory any more.

    Rows of windows go along one axis (depth or height) in the outer loop and along the other in
    the inner one. Only the cells that are begun and not done are kept. Where even those are too
    many, the inner axis is cut into strips that are worked off one after another; windows across
    a border between strips are then run once for each.
    """

    axes: tuple[AxisWindows, AxisWindows, AxisWindows]
    """Depth, height, width."""
    outer: int
    """Axis of the outer loop: 0 (depth) or 1 (height)."""
    strips: tuple[tuple[int, int], ...]
    """First voxel and the one after the last, along the other of the two axes."""

    def rows(self) -> Iterator[Row]:
        """Yield the rows in their order."""
        for strip in self.strips:
            outer = _covered(self.axes[self.outer], (0, self.axes[self.outer].size))
            inner = _covered(self.axes[1 - self.outer], strip)
            outer_last, inner_last = _last(outer), _last(inner)
            for a, b in itertools.product(outer, inner):
                pairs = [(i, j) for i in outer[a] for j in inner[b]]
                done = [(i, j) for i, j in pairs if outer_last[i] == a and inner_last[j] == b]
                yield self._row((a, b), pairs, done)

    def _row(
        self,
        start: tuple[int, int],
        cells: Sequence[tuple[tuple[int, int], tuple[int, int]]],
        done: Sequence[tuple[tuple[int, int], tuple[int, int]]],
    ) -> Row:
        turn = -1 if self.outer else 1
        depth, height = start[::turn]
        return Row(
            depth,
            height,
            tuple(Cell(*pair[::turn]) for pair in cells),
            tuple(Cell(*pair[::turn]) for pair in done),
        )

    @functools.cached_property
    def buffer_voxels(self) -> int:
        """The most voxels that are begun and not done at a time."""
        live: set[Cell] = set()
        area = peak = 0
        for row in self.rows():
            area += sum(cell.area for cell in row.cells if cell not in live)
            live.update(row.cells)
            peak = max(peak, area)
            area -= sum(cell.area for cell in row.done)
            live.difference_update(row.done)
        return peak * self.axes[2].size

    @functools.cached_property
    def windows(self) -> int:
        """Windows that are run, those at strips' borders once for each strip."""
        return sum(1 for _ in self.rows()) * len(self.axes[2].starts)

    @property
    def places(self) -> int:
        """Windows that are run at least once."""
        depth, height, width = (len(axis.starts) for axis in self.axes)
        return depth * height * width


def plan_windows(
    size: Sequence[int],
    window: Size3,
    overlap: Sequence[float],
    *,
    max_voxels: int | None = None,
) -> WindowPlan:
    """Plan the windows over a volume.

    Every plan of a volume begins with the same row.

    Args:
        size: (depth, height, width) of the volume, in voxels.
        window: Likewise, of a window.
        overlap: Of neighboring windows, along each axis; from 0 to below 1.
        max_voxels: Of the parts begun and not done; None sets no bound.

    Returns:
        The plan that runs the fewest windows within the bound; the smallest of equals.

    Raises:
        InferenceError: If no plan keeps to the bound.
    """
    depth, height, width = (axis_windows(*axis) for axis in zip(size, window, overlap, strict=True))
    axes = (depth, height, width)
    smallest: int | None = None
    for count in range(1, max(len(depth.starts), len(height.starts)) + 1):
        plans = [
            WindowPlan(axes, outer, _strips(axes[1 - outer], count))
            for outer in (0, 1)
            if count <= len(axes[1 - outer].starts)
        ]
        fitting = [p for p in plans if max_voxels is None or p.buffer_voxels <= max_voxels]
        if fitting:
            return min(fitting, key=lambda plan: (plan.windows, plan.buffer_voxels))
        found = min(plan.buffer_voxels for plan in plans)
        smallest = found if smallest is None else min(smallest, found)
    raise InferenceError(
        f"windows of {tuple(window)} over a volume of {tuple(size)} keep at least {smallest} "
        f"voxels begun and not done, and {max_voxels} are allowed. Allow more bytes for the "
        "buffer, or take smaller windows or a smaller overlap."
    )


def _strips(axis: AxisWindows, count: int) -> tuple[tuple[int, int], ...]:
    """Cut an axis where windows begin, into strips with about as many windows each."""
    firsts = [axis.starts[len(axis.starts) * part // count] for part in range(1, count)]
    return tuple(itertools.pairwise([0, *firsts, axis.size]))


def _covered(axis: AxisWindows, strip: tuple[int, int]) -> dict[int, list[tuple[int, int]]]:
    """Return each window's start that reaches into a strip, with the parts of it that it covers."""
    parts = [
        part
        for part in itertools.pairwise(axis.edges)
        if strip[0] <= part[0] and part[1] <= strip[1]
    ]
    reach = {
        start: [part for part in parts if start <= part[0] and part[1] <= start + axis.window]
        for start in axis.starts
    }
    return {start: covered for start, covered in reach.items() if covered}


def _last(covered: dict[int, list[tuple[int, int]]]) -> dict[tuple[int, int], int]:
    """Return the start of the last window on each part."""
    return {part: start for start, parts in covered.items() for part in parts}
