"""Memory for sums that come and go while windows are run."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor

_LEAST_MAPPED_BYTES = 2**21
_IDLE_BYTES = 2**25


class TensorPool:
    """Tensors on one device that are made and given up in turn; on a CPU memory is used again."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        """Make an empty pool.

        Args:
            device: Of the tensors.
            dtype: Of their values.
        """
        self._device = device
        self._dtype = dtype
        self._idle: dict[int, list[Tensor]] = {}
        self._idle_bytes = 0

    def take(self, shape: Sequence[int]) -> Tensor:
        """Return a tensor with any values."""
        if self._device.type != "cpu":
            return torch.empty(tuple(shape), dtype=self._dtype, device=self._device)
        wanted = torch.Size(shape).numel()
        kept = self._idle.pop(wanted, [])
        if kept:
            self._idle[wanted] = kept  # the size that was asked for last
            found = kept.pop()
            self._idle_bytes -= found.nbytes
            return found.view(tuple(shape))
        return _mapped(shape, self._dtype)

    def give_up(self, tensor: Tensor) -> None:
        """Take back a tensor that nothing else holds."""
        if self._device.type != "cpu":
            return
        self._idle.setdefault(tensor.numel(), []).append(tensor)
        self._idle_bytes += tensor.nbytes
        while self._idle_bytes > _IDLE_BYTES:  # those of a size that was not asked for longest
            oldest = next(size for size, kept in self._idle.items() if kept)
            self._idle_bytes -= self._idle[oldest].pop().nbytes


def _mapped(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a tensor on the CPU, in large pages of its own memory if it is not small.

    The system clears memory page by page when it is first used. With small pages that takes longer
    than adding the values up.
    """
    count = torch.Size(shape).numel()
    if count * dtype.itemsize < _LEAST_MAPPED_BYTES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(tuple(shape), dtype=dtype)
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    memory = mmap.mmap(-1, count * dtype.itemsize, flags=flags)
    with suppress(OSError):  # a kernel without large pages takes small ones
        memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=dtype).view(tuple(shape))
