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
        voxels: int,
        *,
        scale: float = 1.0,
    ) -> None:
        """Make an empty buffer.

        Args:
            channels: Values of a voxel.
            weights: Of a window's voxels; their device and precision are the buffer's.
            voxels: The most that the plan begins before they are done.
            scale: By which values are multiplied besides.
        """
        self._channels = channels
        self._weights = weights
        self._factors = weights * scale
        self._live: dict[Cell, tuple[Tensor, Tensor]] = {}
        self._scratch = weights.new_empty(0)
        most = channels * (voxels + self._block_voxels) * weights.dtype.itemsize
        self._pool = TensorPool(weights.device, weights.dtype, most)
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
        own = _within(cell, start)
        seen, factors = values[(slice(None), *own)], self._factors[own]
        if cell in self._live:
            sums, weights = self._live[cell]
            sums.addcmul_(seen, factors)
            weights += self._weights[own]
            return
        sums = self._pool.take(seen.shape)
        torch.mul(seen, factors, out=sums)
        self._live[cell] = sums, self._weights[own].clone(memory_format=torch.contiguous_format)
        self._held += factors.numel()
        self.peak_voxels = max(self.peak_voxels, self._held)

    def _finish(self, cell: Cell, start: Size3, values: Tensor | None) -> Iterator[Block]:
        (low, high), rows, columns = cell
        own = _within(cell, start)
        sums: Tensor | None = None
        if cell in self._live:
            sums, weights = self._live.pop(cell)
            self._held -= weights.numel()
        else:
            weights = torch.zeros_like(self._weights[own])
        if values is not None:
            weights += self._weights[own]
        slices = max(1, self._block_voxels // (weights.shape[1] * weights.shape[2]))
        for first in range(0, high - low, slices):
            last = min(first + slices, high - low)
            begun = None if sums is None else sums[:, first:last]
            part = ((low + first, low + last), rows, columns)
            block = self._block(weights[first:last].shape)
            self._sum(begun, values, _within(part, start), block)
            place = (slice(*part[0]), slice(*rows), slice(*columns))
            yield Block(block, weights[first:last], place)
        if sums is not None:
            self._pool.give_up(sums)

    def _sum(self, begun: Tensor | None, values: Tensor | None, own: Place, found: Tensor) -> None:
        """Write what is begun of a part of a cell, and a window's share of it, into ``found``."""
        if values is not None:
            seen, factors = values[(slice(None), *own)], self._factors[own]
            if begun is None:
                torch.mul(seen, factors, out=found)
            else:
                torch.addcmul(begun, seen, factors, out=found)
        elif begun is None:
            found.zero_()
        else:
            found.copy_(begun)

    @property
    def _block_voxels(self) -> int:
        return _BLOCK_VOXELS.get(self._weights.device.type, _DEVICE_BLOCK_VOXELS)

    def _block(self, shape: torch.Size) -> Tensor:
        voxels = shape[0] * shape[1] * shape[2]
        if self._scratch.numel() < self._channels * voxels:
            self._pool.give_up(self._scratch)
            self._scratch = self._pool.take((self._channels * voxels,))
        return self._scratch[: self._channels * voxels].view(self._channels, *shape)


def _within(cell: Cell, start: Size3) -> Place:
    """Return where in a window a cell stands."""
    depth, height, width = (
        slice(low - first, high - first) for (low, high), first in zip(cell, start, strict=True)
    )
    return depth, height, width
