"""Weighted sums over windows, for the part of a scan that is in work."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from voxgraft.sliding.window_memory import TensorPool
from voxgraft.sliding.window_plan import Cell, Step
from voxgraft.types import Size3

Place = tuple[slice, slice, slice]
"""Where in a volume a block stands, along (depth, height, width)."""

_BLOCK_VOXELS = {"cpu": 2**16}
"""Of a block: on a CPU, a class's values of it stay in the cache."""
_DEVICE_BLOCK_VOXELS = 2**20


class Block(NamedTuple):
    """A part of a scan that is done: no later window sees it."""

    values: Float[Tensor, "k d h w"]
    """Sums over windows of the values times their weights."""
    weights: Float[Tensor, "d h w"]
    """Sums of the weights; 0 where every window was skipped."""
    place: Place


class WindowBuffer:
    """Holds the cells of a plan that are begun and not done."""

    def __init__(
        self,
        channels: int,
        weights: Float[Tensor, "d h w"],
        *,
        scale: float = 1.0,
    ) -> None:
        """Make an empty buffer.

        Args:
            channels: Values of a voxel.
            weights: Of a window's voxels; their device and precision are the buffer's.
            scale: By which values are multiplied besides.
        """
        self._channels = channels
        self._weights = weights
        self._factors = weights * scale
        self._live: dict[Cell, tuple[Tensor, Tensor]] = {}
        self._pool = TensorPool(weights.device, weights.dtype)
        self._scratch = weights.new_empty(0)
        self._held = 0
        self.peak_voxels = 0
        """The most voxels that were held at a time."""

    def take(self, step: Step, values: Float[Tensor, "k d h w"] | None) -> Iterator[Block]:
        """Yield what is done with a window, in small blocks, and add the rest of it.

        What is done goes first, and never waits if no other window sees it. The memory of a block
        is used again for the next one.

        Args:
            step: Where the window stands, and its cells.
            values: Of its voxels, on the buffer's device; None if the window is skipped.
        """
        done = set(step.done)
        for cell in step.done:
            yield from self._finish(cell, step.start, values)
        if values is None:
            return
        for cell in step.cells:
            if cell not in done:
                self._add(cell, step.start, values)

    def _add(self, cell: Cell, start: Size3, values: Tensor) -> None:
        own, inside = _shared(cell, start, self._weights.shape)
        seen = values[(slice(None), *own)]
        if cell in self._live:
            sums, weights = self._live[cell]
        else:
            shape = [high - low for low, high in cell]
            sums = self._pool.take((self._channels, *shape))
            weights = self._weights.new_zeros(shape)
            self._live[cell] = sums, weights
            self._held += weights.numel()
            self.peak_voxels = max(self.peak_voxels, self._held)
            if seen.shape[1:] == weights.shape:
                torch.mul(seen, self._factors[own], out=sums)
                weights += self._weights[own]
                return
            sums.zero_()
        sums[(slice(None), *inside)].addcmul_(seen, self._factors[own])
        weights[inside] += self._weights[own]

    def _finish(self, cell: Cell, start: Size3, values: Tensor | None) -> Iterator[Block]:
        (low, high), rows, columns = cell
        shape = (high - low, rows[1] - rows[0], columns[1] - columns[0])
        own, inside = _shared(cell, start, self._weights.shape)
        sums: Tensor | None = None
        if cell in self._live:
            sums, weights = self._live.pop(cell)
            self._held -= weights.numel()
        else:
            weights = self._weights.new_zeros(shape)
        if values is not None:
            weights[inside] += self._weights[own]
        limit = _BLOCK_VOXELS.get(weights.device.type, _DEVICE_BLOCK_VOXELS)
        slices = max(1, limit // (shape[1] * shape[2]))
        for first in range(0, shape[0], slices):
            last = min(first + slices, shape[0])
            begun = None if sums is None else sums[:, first:last]
            block = self._block((last - first, *shape[1:]))
            self._sum(begun, ((low + first, low + last), rows, columns), start, values, block)
            place = (slice(low + first, low + last), slice(*rows), slice(*columns))
            yield Block(block, weights[first:last], place)
        if sums is not None:
            self._pool.give_up(sums)

    def _sum(
        self, begun: Tensor | None, part: Cell, start: Size3, values: Tensor | None, found: Tensor
    ) -> None:
        """Write what is begun of a part of a cell, and a window's share of it, into ``found``."""
        own, inside = _shared(part, start, self._weights.shape)
        seen, factors = None, self._factors[own]
        if values is not None:
            seen = values[(slice(None), *own)]
            if seen.shape == found.shape:
                if begun is None:
                    torch.mul(seen, factors, out=found)
                else:
                    torch.addcmul(begun, seen, factors, out=found)
                return
        if begun is None:
            found.zero_()
        else:
            found.copy_(begun)
        if seen is not None:
            found[(slice(None), *inside)].addcmul_(seen, factors)

    def _block(self, shape: Size3) -> Tensor:
        voxels = shape[0] * shape[1] * shape[2]
        if self._scratch.numel() < self._channels * voxels:
            self._scratch = self._pool.take((self._channels * voxels,))
        return self._scratch[: self._channels * voxels].view(self._channels, *shape)


def _shared(cell: Cell, start: Size3, window: torch.Size) -> tuple[Place, Place]:
    """Return what a window and a cell share, in the window and in the cell."""
    own, inside = [], []
    for (low, high), first, edge in zip(cell, start, window, strict=True):
        begin, end = max(low, first), min(high, first + edge)
        own.append(slice(begin - first, max(begin, end) - first))
        inside.append(slice(begin - low, max(begin, end) - low))
    return (own[0], own[1], own[2]), (inside[0], inside[1], inside[2])
