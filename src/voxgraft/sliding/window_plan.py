"""Which windows see a volume, in which order, and which part of it is done after which."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from voxgraft.errors import InferenceError
from voxgraft.types import Size3

_T = TypeVar("_T")
_ORDERS: tuple[Size3, ...] = ((0, 1, 2), (1, 0, 2), (0, 2, 1), (1, 2, 0), (2, 0, 1), (2, 1, 0))

Part = tuple[int, int]
"""First voxel along an axis, and the one after the last."""


class AxisWindows(NamedTuple):
    """The windows along one axis of a volume."""

    size: int
    """Voxels of the volume."""
    window: int
    """Voxels of a window."""
    starts: tuple[int, ...]
    """First voxel of each window; negative where the window is larger than the volume."""

    def groups(self, within: Part) -> list[dict[int, list[Part]]]:
        """Return the windows that reach into a part of the axis, with what they touch of it.

        Windows are worked off one after another, but the last two together where the last was
        moved back: they share most voxels. The part is cut where a window begins or ends, so that
        each covers a cut wholly or not at all.
        """
        low, high = within
        edges = {low, high, *self.starts, *(start + self.window for start in self.starts)}
        cuts = list(itertools.pairwise(sorted(edge for edge in edges if low <= edge <= high)))
        reaching = [start for start in self.starts if start < high and start + self.window > low]
        return [
            {
                start: [cut for cut in cuts if cut[0] < start + self.window and cut[1] > start]
                for start in group
            }
            for group in self._together(reaching)
        ]

    def _together(self, starts: Sequence[int]) -> list[list[int]]:
        found = [[start] for start in starts]
        if len(found) > 1 and self._moved and starts[-1] == self.starts[-1]:
            last = found.pop()
            found[-1] += last
        return found

    @property
    def _moved(self) -> bool:
        steps = [after - before for before, after in itertools.pairwise(self.starts)]
        return steps[-1] < (steps[0] if len(steps) > 1 else self.window // 2)


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


Cell = tuple[Part, Part, Part]
"""A part of a volume (depth, height, width) that a window covers wholly or not at all."""


class Step(NamedTuple):
    """A window, and what it changes."""

    start: Size3
    """(depth, height, width) of its first voxel; negative where it reaches beyond the volume."""
    cells: tuple[Cell, ...]
    """What the window adds to; cells that it ends in are shared with others of its group."""
    done: tuple[Cell, ...]
    """Those of the cells that no later window adds to."""


class _Lengths(NamedTuple):
    """Voxels along an axis, while a group of windows is worked off."""

    begun: int
    """That an earlier group covers."""
    kept: int
    """Of those, the ones that this or a later group covers too."""
    covered: int
    """That this group covers, or an earlier and a later one."""
    kept_after: int
    """Those of ``covered`` that a later group covers too."""
    alone: bool
    """Whether the group is one window."""


@dataclass(frozen=True)
class WindowPlan:
    """The order of windows over a volume; what is done early needs no memory any more.

    Windows go along three nested loops over the axes. Only cells that are begun and not done are
    kept. Where even those are too many, the axis of the middle loop is cut into strips that are
    worked off one after another; windows across a border between strips are then run once for
    each.
    """

    axes: tuple[AxisWindows, AxisWindows, AxisWindows]
    """Depth, height, width."""
    order: Size3
    """The axes of the outer, the middle and the inner loop."""
    strips: tuple[Part, ...]
    """Along the axis of the middle loop."""

    def steps(self) -> Iterator[Step]:
        """Yield the windows in their order; the first is the one at the volume's beginning."""
        for loops in self._loops():
            last = [
                {part: start for group in loop for start, parts in group.items() for part in parts}
                for loop in loops
            ]
            for groups in itertools.product(*loops):
                for start in itertools.product(*groups):
                    found = list(
                        itertools.product(
                            *(group[at] for group, at in zip(groups, start, strict=True))
                        )
                    )
                    # Within a group, too, the window of the last starts comes last.
                    done = [
                        cell
                        for cell in found
                        if all(last[loop][cell[loop]] == start[loop] for loop in range(3))
                    ]
                    yield Step(
                        self._turned(start),
                        tuple(self._turned(cell) for cell in found),
                        tuple(self._turned(cell) for cell in done),
                    )

    @functools.cached_property
    def buffer_voxels(self) -> int:
        """The most voxels that are begun and not done at a time; a bound, where windows moved."""
        peak = 0
        for loops in self._loops():
            outer, middle, inner = (_lengths(loop) for loop in loops)
            rows = sum(part[1] - part[0] for part in _parts(loops[1]))
            columns = self.axes[self.order[2]].size
            planes = {
                alone: {
                    _plane(row, place, rows, columns, alone and row.alone and place.alone)
                    for row in set(middle)
                    for place in set(inner)
                }
                for alone in {slab.alone for slab in outer}
            }
            for slab in set(outer):
                for untouched, active, finished in planes[slab.alone]:
                    held = slab.kept * untouched + slab.covered * active
                    peak = max(peak, held + slab.kept_after * finished)
        return peak

    @functools.cached_property
    def windows(self) -> int:
        """Windows that are run, those at strips' borders once for each strip."""
        counts = ([sum(map(len, loop)) for loop in loops] for loops in self._loops())
        return sum(math.prod(count) for count in counts)

    @property
    def places(self) -> int:
        """Windows that are run at least once."""
        return math.prod(len(axis.starts) for axis in self.axes)

    def _loops(self) -> Iterator[list[list[dict[int, list[Part]]]]]:
        outer, middle, inner = (self.axes[axis] for axis in self.order)
        for strip in self.strips:
            yield [
                outer.groups((0, outer.size)),
                middle.groups(strip),
                inner.groups((0, inner.size)),
            ]

    def _turned(self, loops: Sequence[_T]) -> tuple[_T, _T, _T]:
        depth, height, width = (loops[self.order.index(axis)] for axis in range(3))
        return (depth, height, width)


def _parts(loop: Iterable[dict[int, list[Part]]]) -> set[Part]:
    return {part for group in loop for parts in group.values() for part in parts}


def _lengths(loop: Sequence[dict[int, list[Part]]]) -> list[_Lengths]:
    found = []
    for i, group in enumerate(loop):
        before, own, after = _parts(loop[:i]), _parts([group]), _parts(loop[i + 1 :])
        kept = before & (own | after)
        covered = own | kept
        sets = (before, kept, covered, covered & after)
        begun, kept_now, covered_now, kept_after = (
            sum(high - low for low, high in parts) for parts in sets
        )
        found.append(_Lengths(begun, kept_now, covered_now, kept_after, len(group) == 1))
    return found


def _plane(
    row: _Lengths, place: _Lengths, rows: int, columns: int, alone: bool
) -> tuple[int, int, int]:
    """Return a slab's area that its windows have not touched, that is in work, and that is done.

    Args:
        row: Of the group of the middle loop.
        place: Of the group of the inner loop.
        rows: Voxels along the middle loop's axis.
        columns: Voxels along the inner loop's axis.
        alone: Whether one window is at work, not several together; then what is done goes before
            anything is begun, and the area is that after the window.
    """
    touched = place.begun - place.kept + place.covered
    waiting = place.kept_after if alone else place.covered
    active = (
        row.kept * (columns - touched)
        + row.covered * waiting
        + row.kept_after * (touched - waiting)
    )
    new = row.covered - row.kept
    untouched = (rows - row.begun) * columns - new * touched
    return untouched, active, rows * columns - untouched - active


def plan_windows(
    size: Sequence[int],
    window: Size3,
    overlap: Sequence[float],
    *,
    max_voxels: int | None = None,
) -> WindowPlan:
    """Plan the windows over a volume.

    Every plan of a volume begins with the same window.

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
    for count in range(1, max(len(axis.starts) for axis in axes) + 1):
        plans = [
            WindowPlan(axes, order, _strips(axes[order[1]], count))
            for order in _ORDERS
            if count <= len(axes[order[1]].starts)
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
