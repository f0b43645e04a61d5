"""Weighted sums over windows, for the part of a scan that is in work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from voxgraft.inference.window_plan import Cell, Row, WindowPlan

Place = tuple[slice, slice, slice]
"""Where in a volume a block stands, along (depth, height, width)."""

_BLOCK_VOXELS = 2**17


class Block(NamedTuple):
    """A part of a scan that is done: no later window sees it."""

    values: Float[Tensor, "k d h w"]
    """Weighted means over windows; sums over windows where they were asked for so."""
    weights: Float[Tensor, "d h w"]
    """Sums of the weights; 0 where every window was skipped."""
    place: Place


class WindowBuffer:
    """Holds the cells of a plan that are begun and not done."""

    def __init__(
        self,
        plan: WindowPlan,
        channels: int,
        weights: Float[Tensor, "d h w"],
        *,
        scale: float = 1.0,
    ) -> None:
        """Make an empty buffer.

        Args:
            plan: Its rows are added and asked for in their order.
            channels: Values of a voxel.
            weights: Of a window's voxels; their device and precision are the buffer's.
            scale: By which values are multiplied besides.
        """
        self._plan = plan
        self._channels = channels
        self._weights = weights
        self._factors = weights * scale
        self._live: dict[Cell, tuple[Tensor, Tensor]] = {}
        self.peak_voxels = 0
        """The most voxels that were held at a time."""

    def add(self, row: Row, start: int, values: Float[Tensor, "k d h w"]) -> None:
        """Add a window.

        Args:
            row: The window's row.
            start: Its first voxel along the width.
            values: Of its voxels, on the buffer's device and in its precision.
        """
        width = self._plan.axes[2]
        first, last = max(0, start), min(width.size, start + width.window)
        for cell in row.cells:
            sums, weights = self._cell(cell)
            inside = (
                slice(cell.depth[0] - row.depth, cell.depth[1] - row.depth),
                slice(cell.height[0] - row.height, cell.height[1] - row.height),
                slice(first - start, last - start),
            )
            factors = self._factors[inside]
            sums[..., first:last].addcmul_(values[(slice(None), *inside)], factors)
            weights[..., first:last] += self._weights[inside]

    def done(
        self,
        row: Row,
        *,
        head: Callable[[Tensor], Tensor] | None = None,
        means: bool = True,
    ) -> Iterator[Block]:
        """Yield what is done after a row, in blocks of some 100,000 voxels, and forget it.

        Args:
            row: All of its windows are added.
            head: Applied to the means.
            means: False leaves sums as they are where there is no head.
        """
        width = self._plan.axes[2].size
        for cell in row.done:
            sums, weights = self._cell(cell)
            del self._live[cell]
            rows = cell.height[1] - cell.height[0]
            step = max(1, _BLOCK_VOXELS // (rows * width))
            for first in range(0, sums.shape[1], step):
                values, weight = sums[:, first : first + step], weights[first : first + step]
                if head is not None or means:
                    values /= weight.clamp_min(torch.finfo(weight.dtype).tiny)
                if head is not None:
                    values = head(values[None])[0]
                depth = cell.depth[0] + first
                place = (
                    slice(depth, depth + weight.shape[0]),
                    slice(*cell.height),
                    slice(0, width),
                )
                yield Block(values, weight, place)

    def _cell(self, cell: Cell) -> tuple[Tensor, Tensor]:
        if cell not in self._live:
            depth, height = cell.depth[1] - cell.depth[0], cell.height[1] - cell.height[0]
            shape = (depth, height, self._plan.axes[2].size)
            self._live[cell] = (
                self._weights.new_zeros(self._channels, *shape),
                self._weights.new_zeros(shape),
            )
            held = sum(weights.numel() for _, weights in self._live.values())
            self.peak_voxels = max(self.peak_voxels, held)
        return self._live[cell]
