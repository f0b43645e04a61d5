"""Stored volumes of some cases, kept in memory if they fit, else read box by box."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from voxgraft.store import Prepared, PreparedMasks
from voxgraft.types import Size3

_SERIAL_VALUES = 2**15 - 1
"""So many values PyTorch converts in the calling thread, whatever its number of threads."""


class KeptVolumes:
    """Boxes out of stored volumes, in their stored dtype; safe in threads."""

    def __init__(
        self,
        prepared: Prepared | PreparedMasks,
        case_ids: Sequence[str],
        memory_budget_mib: float,
    ) -> None:
        """Decide whether the volumes are kept; nothing is read yet.

        Args:
            prepared: Where the volumes (or masks) are.
            case_ids: The cases.
            memory_budget_mib: What all of them may take together; 0 keeps none.
        """
        self._prepared = prepared
        self._case_ids = tuple(case_ids)
        cases = [prepared.cases[case_id] for case_id in self._case_ids]
        needed = sum(int(np.prod(c.shape)) * np.dtype(c.encoding.dtype).itemsize for c in cases)
        self.needed_mib = needed / 2**20
        """What all volumes take together."""
        self.keeps = self.needed_mib <= memory_budget_mib
        """Whether the volumes are read once, all of them."""
        self._kept: Sequence[Any] | None = None
        self._lock = threading.Lock()

    def read(self, position: int, start: Size3, size: Size3) -> tuple[Any, Any]:
        """Return the part of a box that lies in a volume, and its place in the box (slices).

        Raises:
            StoreError: If the stored volume is gone or damaged.
        """
        if self.keeps:
            return cut(self._volumes()[position], start, size)
        return self._prepared.read_stored(self._case_ids[position], start, size)

    def fill(self, image: Any, position: int, start: Size3) -> None:
        """Write a box, decoded, into ``image`` (C, D, H, W); outside of the volume is background.

        Raises:
            StoreError: If the stored volume is gone or damaged.
        """
        case = self._prepared.cases[self._case_ids[position]]
        stored, inside = self.read(position, start, image.shape[1:])
        if stored.shape == image.shape:
            _decode(case.encoding, stored, image)
            return
        image[...] = case.background
        if stored.size:
            _decode(case.encoding, stored, image[inside])

    def _volumes(self) -> Sequence[Any]:
        """Return all volumes in their stored dtype; the first call reads them."""
        with self._lock:
            if self._kept is None:
                cases = [self._prepared.cases[case_id] for case_id in self._case_ids]
                kinds = {(case.shape, case.encoding.dtype) for case in cases}
                kept: Any = [None] * len(cases)
                if len(kinds) == 1:
                    kept = np.empty((len(cases), *cases[0].shape), dtype=cases[0].encoding.dtype)
                for position, (case_id, case) in enumerate(zip(self._case_ids, cases, strict=True)):
                    kept[position], _ = self._prepared.read_stored(
                        case_id, (0, 0, 0), case.shape[1:]
                    )
                self._kept = kept
            return self._kept


def _decode(encoding: Any, stored: Any, image: Any) -> None:
    """Write the meaning of stored numbers (C, D, H, W) into a float32 array of that shape.

    NumPy turns float16 into float32 bit by bit in software, PyTorch with the processor's own
    instructions: more than ten times as fast. Blocks of rows are small enough that it stays in
    this thread.
    """
    if encoding.dtype != "float16":
        encoding.decode_into(stored, image)
        return
    source, target = torch.from_numpy(stored), torch.from_numpy(image)
    rows = max(1, _SERIAL_VALUES // stored.shape[3])
    for channel in range(stored.shape[0]):
        for level in range(stored.shape[1]):
            for first in range(0, stored.shape[2], rows):
                part = (channel, level, slice(first, first + rows))
                target[part].copy_(source[part])


def cut(volume: Any, start: Size3, size: Size3) -> tuple[Any, Any]:
    """Return the part of a box that lies in (C, D, H, W), and its place in the box."""
    source, target = [slice(None)], [slice(None)]
    for first, length, full in zip(start, size, volume.shape[1:], strict=True):
        low, high = min(max(0, first), full), max(0, min(full, first + length))
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    return volume[tuple(source)], tuple(target)
