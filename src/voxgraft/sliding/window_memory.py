"""Memory for sums that come and go while windows are run."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

_PAGE = 2**21
"""Bytes of a large page."""
_UNIT = 2**16
"""Bytes by which places within the memory are told apart."""
_ADDRESSES = 2
"""Addresses for each byte that may be held: they cost nothing, and leave room for gaps."""


class TensorPool:
    """Tensors on one device that are made and given up in turn; on a CPU memory is used again.

    The system clears memory page by page when it is first used, which takes longer than adding
    values up. So tensors on a CPU stand in one piece of memory of large pages, as far as possible
    where others stood before. No more is kept than stood there at a time: beyond that, pages that
    nothing stands on go back to the system.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype, most_bytes: int) -> None:
        """Make an empty pool.

        Args:
            device: Of the tensors.
            dtype: Of their values.
            most_bytes: That the tensors are expected to take at a time.
        """
        self._device = device
        self._dtype = dtype
        self._most_units = 0
        self._memory = _reserved(most_bytes) if device.type == "cpu" else None
        self._places: dict[int, slice] = {}
        self._used = np.zeros(0, bool)  # a unit each
        self._touched = np.zeros(0, bool)  # a page each
        if self._memory is not None:
            self._bytes = torch.frombuffer(self._memory, dtype=torch.uint8)
            self._first = -self._bytes.data_ptr() % _PAGE
            pages = (len(self._memory) - self._first) // _PAGE
            self._used = np.zeros(pages * (_PAGE // _UNIT), bool)
            self._touched = np.zeros(pages, bool)

    @property
    def kept_bytes(self) -> int:
        """Of the pages that something stands on or stood on."""
        return int(self._touched.sum()) * _PAGE

    def take(self, shape: Sequence[int]) -> Tensor:
        """Return a tensor with any values."""
        nbytes = torch.Size(shape).numel() * self._dtype.itemsize
        place = self._free_place(-(-nbytes // _UNIT)) if nbytes >= _UNIT else None
        if place is None:
            return torch.empty(tuple(shape), dtype=self._dtype, device=self._device)
        self._used[place] = True
        self._most_units = max(self._most_units, int(self._used.sum()))
        share = _PAGE // _UNIT
        self._touched[place.start // share : -(-place.stop // share)] = True
        self._return_beyond()
        begin = self._first + place.start * _UNIT
        found = self._bytes[begin : begin + nbytes].view(self._dtype).view(tuple(shape))
        self._places[found.data_ptr()] = place
        return found

    def give_up(self, tensor: Tensor) -> None:
        """Take back a tensor that nothing else holds."""
        place = self._places.pop(tensor.data_ptr(), None)
        if place is not None:
            self._used[place] = False

    def _free_place(self, units: int) -> slice | None:
        """Return where so many units are free: with the fewest new pages, in the smallest gap."""
        bordered = np.concatenate([[True], self._used, [True]])
        edges = np.flatnonzero(bordered[1:] != bordered[:-1])
        starts, sizes = edges[::2], edges[1::2] - edges[::2]
        starts, sizes = starts[sizes >= units], sizes[sizes >= units]
        if not len(starts):
            return None
        share = _PAGE // _UNIT
        new = np.concatenate([[0], np.cumsum(~self._touched)])
        missing = new[-(-(starts + units) // share)] - new[starts // share]
        start = int(starts[np.lexsort((sizes, missing))[0]])
        return slice(start, start + units)

    def _return_beyond(self) -> None:
        beyond = int(self._touched.sum()) - -(-self._most_units * _UNIT // _PAGE)
        if beyond <= 0 or self._memory is None:
            return
        idle = self._touched & ~self._used.reshape(len(self._touched), -1).any(1)
        for page in np.flatnonzero(idle)[::-1][:beyond]:
            self._memory.madvise(mmap.MADV_DONTNEED, self._first + int(page) * _PAGE, _PAGE)
            self._touched[page] = False


def _reserved(nbytes: int) -> mmap.mmap | None:
    """Return addresses for large pages, which take memory when they are used; None without."""
    if not hasattr(mmap, "MADV_HUGEPAGE") or nbytes < _PAGE:
        return None
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    size = (-(-nbytes * _ADDRESSES // _PAGE) + 1) * _PAGE
    try:
        memory = mmap.mmap(-1, size, flags=flags)
    except OSError:  # where addresses are counted like memory
        return None
    with suppress(OSError):  # a kernel without large pages takes small ones
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
