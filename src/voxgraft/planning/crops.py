"""Size and number of the crops that fit into the memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from voxgraft.errors import RecipeError
from voxgraft.planning.budget import Budget
from voxgraft.planning.decision import gib, times
from voxgraft.types import Size3

UPDATE = 2
"""Crops in an update, at least."""
MOST_IN_BATCH = 8
"""Crops in a batch, at most: more of them make steps slower and few things better."""
SHARE_OF_DATA = 0.05
"""Share of all voxels that a batch may have, at most (nnU-Net's rule)."""
MOST_VOXELS = {"cuda": 192**3, "cpu": 96**3}
"""Voxels of a crop from scratch, at most, by device: the time of a step grows with them."""
_WORTHWHILE = 64
"""Edge in voxels below which a crop shrinks only when nothing else saves memory any more."""


class Memory(Protocol):
    """What is asked of a network's memory; :class:`TrainingMemory` answers."""

    min_size: Size3
    steps: Size3
    checkpoints: bool
    batchnorm: bool

    def padded(self, size: Size3) -> Size3:
        """Return a size as the network extends it."""
        ...

    def training_bytes(
        self, crop: Size3, batch: int, *, bf16: bool = False, checkpointing: bool = False
    ) -> int:
        """Return the peak of a training step."""
        ...

    def inference_bytes(self, crop: Size3, windows: int) -> int:
        """Return the peak of showing windows to the network."""
        ...


@dataclass(frozen=True, kw_only=True)
class Crops:
    """Training crops, which are the windows of whole scans too.

    Attributes:
        size_voxels: (depth, height, width); a multiple of the network's strides.
        wanted_voxels: What it would be if memory were no limit.
        batch_size: Crops in one forward pass.
        accumulate: Forward passes in one update.
        gradient_checkpointing: Whether activations are computed again.
        window_batch: Windows at once when whole scans are segmented.
        training_bytes: Peak of a training step.
    """

    size_voxels: Size3
    wanted_voxels: Size3
    batch_size: int
    accumulate: int
    gradient_checkpointing: bool
    window_batch: int
    training_bytes: int


def choose_crops(
    memory: Memory,
    budget: Budget,
    shape_voxels: Size3,
    *,
    cases: int,
    start_size: Size3 | None = None,
    on_measure: Callable[[str], None] | None = None,
) -> Crops:
    """Choose size and number of the crops.

    The size begins at the start's, or from scratch at the median shape of the scans (of 192³ voxels
    at most, on a CPU of 96³), and is never larger than that shape, extended to the network's
    strides. While two crops do not fit, the axis
    that takes the largest share of the scan loses one stride, down to 64 voxels. What does not fit
    then is trained one crop at a time, two in an update, and with gradient checkpointing (which
    comes first where the network normalizes over batches); then the crops shrink further. The size
    of a start gives way only after these. Where memory is left, more crops make a batch.

    Args:
        memory: Of the network.
        budget: What a step may take.
        shape_voxels: Median shape of the scans at the spacing that was decided on.
        cases: Training cases.
        start_size: Size that the start was trained at, (depth, height, width), if it has one.
        on_measure: Told in words of each step before it is counted.

    Raises:
        RecipeError: If not even the smallest crop fits.

    Source: Isensee et al., nnU-Net, 2021: the patch from the median shape, by its aspect ratio, as
        large as memory allows; at least two in a batch; at most 5% of all voxels.
    """
    limit = memory.padded(shape_voxels)
    wanted = limit if start_size is None else _smaller(memory.padded(start_size), limit)
    wanted = memory.padded(wanted)
    if start_size is None:
        wanted = _at_most(MOST_VOXELS[budget.device], memory, wanted, shape_voxels)
    floor = (
        wanted if start_size is not None else memory.padded(_smaller((_WORTHWHILE,) * 3, wanted))
    )
    smallest = memory.padded(memory.min_size)
    modes = list(_modes(memory, cases))
    search = _Search(memory, budget, smallest, on_measure)
    for batch, checkpointing in modes:
        crop = search.largest(wanted, floor, shape_voxels, batch, checkpointing)
        if crop is not None:
            break
    else:
        batch, checkpointing = modes[-1]
        crop = search.largest(floor, _smaller(smallest, floor), shape_voxels, batch, checkpointing)
    if crop is None:
        least = _smaller(smallest, floor)
        needed = memory.training_bytes(least, batch, bf16=budget.bf16, checkpointing=checkpointing)
        how = " with gradient checkpointing" if checkpointing else ""
        raise RecipeError(
            f"not even one crop of {times(least)} voxels (depth, height, width) fits{how}: a "
            f"training step would take {gib(needed)}, the budget is {gib(budget.bytes)} "
            f"({budget.why}). Choose a smaller network, fewer classes, or a device with more "
            "memory (memory_gib)."
        )
    if crop == wanted and batch == min(UPDATE, cases) and not checkpointing:
        batch = search.more(crop, batch, _most(crop, shape_voxels, cases))
    return Crops(
        size_voxels=crop,
        wanted_voxels=wanted,
        batch_size=batch,
        accumulate=max(1, UPDATE // batch),
        gradient_checkpointing=checkpointing,
        window_batch=2 if memory.inference_bytes(crop, 2) <= budget.bytes else 1,
        training_bytes=memory.training_bytes(
            crop, batch, bf16=budget.bf16, checkpointing=checkpointing
        ),
    )


def _modes(memory: Memory, cases: int) -> Iterator[tuple[int, bool]]:
    """Yield batch sizes with or without checkpointing, in the order in which they are tried."""
    two = min(UPDATE, cases)
    found = [(two, False), (1, False), (two, True), (1, True)]
    if memory.batchnorm:
        found = [(two, False), (two, True), (1, False), (1, True)]
    yield from dict.fromkeys(
        (batch, again) for batch, again in found if memory.checkpoints or not again
    )


def _most(crop: Size3, shape: Size3, cases: int) -> int:
    share = math.floor(SHARE_OF_DATA * cases * math.prod(shape) / math.prod(crop))
    return min(MOST_IN_BATCH, cases, max(UPDATE, share))


def _smaller(one: Size3, other: Size3) -> Size3:
    return min(one[0], other[0]), min(one[1], other[1]), min(one[2], other[2])


def _at_most(most: int, memory: Memory, size: Size3, shape: Size3) -> Size3:
    """Return the first size on the way down that has no more voxels than ``most``."""
    last = size
    for last in _shrinking(memory, size, _smaller(memory.padded(memory.min_size), size), shape):
        if math.prod(last) <= most:
            break
    return last


def _shrinking(memory: Memory, size: Size3, floor: Size3, shape: Size3) -> Iterator[Size3]:
    """Yield sizes, each one stride shorter along the axis with the largest share of the scan."""
    yield size
    while True:
        axes = [axis for axis in range(3) if size[axis] - memory.steps[axis] >= floor[axis]]
        if not axes:
            return
        chosen = max(axes, key=lambda axis: (size[axis] / shape[axis], size[axis]))
        edges = list(size)
        edges[chosen] -= memory.steps[chosen]
        size = edges[0], edges[1], edges[2]
        if memory.padded(size) == size:
            yield size


class _Search:
    """Looks for what fits; a straight line through two measures says where to measure next."""

    def __init__(
        self,
        memory: Memory,
        budget: Budget,
        smallest: Size3,
        on_measure: Callable[[str], None] | None,
    ) -> None:
        self._memory = memory
        self._budget = budget
        self._smallest = smallest
        self._tell = on_measure

    def largest(
        self, wanted: Size3, floor: Size3, shape: Size3, batch: int, checkpointing: bool
    ) -> Size3 | None:
        """Return the first size on the way from ``wanted`` down to ``floor`` that fits."""
        sizes = list(_shrinking(self._memory, wanted, floor, shape))
        if not self._fits(sizes[-1], batch, checkpointing):
            return None
        good, bad = len(sizes) - 1, -1  # sizes[good] fits; sizes[bad], if any, does not
        base = self._bytes(self._smallest, batch, checkpointing)
        while good - bad > 1:
            least, taken = math.prod(self._smallest), self._bytes(sizes[good], batch, checkpointing)
            grown = math.prod(sizes[good]) - least
            slope = (taken - base) / grown if grown > 0 else taken / math.prod(sizes[good])
            room = self._budget.bytes - base
            likely = [
                place
                for place in range(bad + 1, good)
                if slope <= 0 or (math.prod(sizes[place]) - least) * slope <= room
            ]
            place = likely[0] if likely else good - 1
            if self._fits(sizes[place], batch, checkpointing):
                good = place
            else:
                bad = place
        return sizes[good]

    def more(self, crop: Size3, batch: int, most: int) -> int:
        """Return the largest batch of crops that fits, up to ``most``."""
        while batch < most and self._fits(crop, batch + 1, False):
            batch += 1
        return batch

    def _bytes(self, crop: Size3, batch: int, checkpointing: bool) -> int:
        if self._tell is not None:
            again = ", with gradient checkpointing" if checkpointing else ""
            self._tell(f"memory of a step of {batch} × {times(crop)} voxels{again}")
        return self._memory.training_bytes(
            crop, batch, bf16=self._budget.bf16, checkpointing=checkpointing
        )

    def _fits(self, crop: Size3, batch: int, checkpointing: bool) -> bool:
        if self._bytes(crop, batch, checkpointing) > self._budget.bytes:
            return False
        return self._memory.inference_bytes(crop, 1) <= self._budget.bytes
