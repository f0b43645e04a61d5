"""Weighted sums over windows, for the part of a scan that is in work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from voxgraft.sliding.window_plan import Cell, Step

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
        self._held = 0
        self.peak_voxels = 0
        """The most voxels that were held at a time."""

    def add(self, step: Step, values: Float[Tensor, "k d h w"]) -> None:
        """Add a window.

        Args:
            step: Where the window stands, and its cells.
            values: Of its voxels, on the buffer's device and in its precision.
        """
        for cell in step.cells:
            inside = tuple(
                slice(low - start, high - start)
                for (low, high), start in zip(cell, step.start, strict=True)
            )
            own, factors = values[(slice(None), *inside)], self._factors[inside]
            if cell in self._live:
                sums, weights = self._live[cell]
                sums.addcmul_(own, factors)
                weights += self._weights[inside]
            else:  # contiguous, whatever the network's memory layout
                shape = (self._channels, *factors.shape)
                sums = torch.mul(own, factors, out=factors.new_empty(shape))
                self._live[cell] = sums, self._weights[inside].clone()
                self._held += factors.numel()
                self.peak_voxels = max(self.peak_voxels, self._held)

    def done(
        self,
        step: Step,
        *,
        head: Callable[[Tensor], Tensor] | None = None,
        means: bool = True,
    ) -> Iterator[Block]:
        """Yield what is done after a window, in blocks of some 100,000 voxels, and forget it.

        Args:
            step: The window; it is added, if it is to be.
            head: Applied to the means.
            means: False leaves sums as they are where there is no head.
        """
        for cell in step.done:
            if cell in self._live:
                sums, weights = self._live.pop(cell)
                self._held -= weights.numel()
            else:  # every window was skipped
                shape = [high - low for low, high in cell]
                sums = self._weights.new_zeros(self._channels, *shape)
                weights = self._weights.new_zeros(shape)
            slices = max(1, _BLOCK_VOXELS // weights[0].numel())
            for first in range(0, sums.shape[1], slices):
                values, weight = sums[:, first : first + slices], weights[first : first + slices]
                if head is not None or means:
                    values /= weight.clamp_min(torch.finfo(weight.dtype).tiny)
                if head is not None:
                    values = head(values[None])[0]
                depth = cell[0][0] + first
                place = (slice(depth, depth + len(weight)), slice(*cell[1]), slice(*cell[2]))
                yield Block(values, weight, place)
