"""Batches for the training loop, made ahead of it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from voxgraft.errors import StoreError
from voxgraft.store.prepared import Prepared
from voxgraft.types import Size3

_STREAM = 0x63726F70
"""Sets the random streams of crops apart from others of the same seed."""

Batch = tuple[Tensor, Tensor]
"""(images (B, C, D, H, W), targets (B, K)), float32."""


class Feed:
    """Serves cases of a store as batches.

    If all volumes together fit the memory budget, they are read once and kept in their stored
    dtype; otherwise each batch is read from disk, and of a crop only its chunks. Batches are
    made by background threads while the consumer works, and come in the schedule's order.
    """

    def __init__(
        self,
        prepared: Prepared,
        case_ids: Sequence[str],
        targets: Float[np.ndarray, "n k"],
        *,
        crop_size_voxels: Size3 | None = None,
        crop: Literal["random", "center"] = "random",
        seed: int = 0,
        memory_budget_mib: float = 2048,
        threads: int = 2,
    ) -> None:
        """Check that the cases can be served; nothing is read yet.

        Args:
            prepared: Where the volumes are.
            case_ids: The cases; a schedule names them by position in here.
            targets: (n, K), a row a case.
            crop_size_voxels: (depth, height, width) of what is served; None serves whole
                volumes. A volume that is smaller is padded with its background, centered.
            crop: Where crops lie: ``"random"`` (decided by seed, step and place in the batch)
                or ``"center"``.
            seed: Of random crops.
            memory_budget_mib: For volumes that are kept, in MiB; 0 keeps none.
            threads: That make batches; as many more batches wait finished.

        Raises:
            StoreError: If a case is unknown, targets do not match, or the shapes of the cases
                differ so that they cannot form a batch.
        """
        values = np.asarray(targets)
        if values.ndim != 2 or len(values) != len(case_ids) or values.dtype.kind not in "fiub":
            raise StoreError(
                f"targets have shape {values.shape} and dtype {values.dtype} for {len(case_ids)} "
                "cases. Expected numbers of shape (cases, targets)."
            )
        if threads < 1:
            raise StoreError(f"threads is {threads}. Expected at least 1.")
        self.prepared = prepared
        self.case_ids = tuple(case_ids)
        self.targets = torch.from_numpy(values.astype(np.float32))
        self.waiting_s = 0.0
        """Time that consumers waited for batches, in seconds."""
        self._crop_size = crop_size_voxels
        self._random = crop == "random"
        self._seed = seed
        self._threads = threads
        self._check_shapes()
        cases = [prepared.cases[case_id] for case_id in self.case_ids]
        needed = sum(int(np.prod(c.shape)) * np.dtype(c.encoding.dtype).itemsize for c in cases)
        self._keeps = needed <= memory_budget_mib * 2**20
        self._kept: Sequence[Any] | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of cases."""
        return len(self.case_ids)

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """(channels, depth, height, width) of an image that is served."""
        shape = self.prepared.shape(self.case_ids[0])
        return shape if self._crop_size is None else (shape[0], *self._crop_size)

    def batches(
        self, schedule: Iterable[Int[np.ndarray, " b"]], *, first_step: int = 0
    ) -> Iterator[Batch]:
        """Serve batches in the order of a schedule, ahead of the consumer.

        The schedule itself is drawn from in the consumer's thread, a few batches ahead. Closing
        the iterator, or losing it, stops the threads.

        Args:
            schedule: Positions of cases for each step.
            first_step: Step of the schedule's first batch: with it, a resumed training gets the
                random crops of an uninterrupted one.

        Yields:
            Images (B, C, D, H, W) and targets (B, K), float32.

        Raises:
            StoreError: If a stored volume is gone or damaged, or a position is no case.
        """
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="voxgraft-feed")
        pending: deque[Future[Batch]] = deque()
        try:
            for step, positions in enumerate(schedule, start=first_step):
                pending.append(pool.submit(self._batch, step, self._checked(positions)))
                if len(pending) > 2 * self._threads:
                    yield self._next(pending)
            while pending:
                yield self._next(pending)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _next(self, pending: deque[Future[Batch]]) -> Batch:
        begin = time.perf_counter()
        try:
            return pending.popleft().result()
        finally:
            self.waiting_s += time.perf_counter() - begin

    def _checked(self, positions: Any) -> Int[np.ndarray, " b"]:
        chosen = np.asarray(positions)
        valid = chosen.ndim == 1 and chosen.size > 0 and chosen.dtype.kind in "iu"
        if not valid or chosen.min() < 0 or chosen.max() >= len(self.case_ids):
            raise StoreError(
                f"a schedule asks for the cases {chosen.tolist()!r:.200}. Expected positions from "
                f"0 to {len(self.case_ids) - 1}, at least one."
            )
        return chosen

    def _batch(self, step: int, positions: Int[np.ndarray, " b"]) -> Batch:
        kept = self._volumes() if self._keeps else None
        images = np.empty((len(positions), *self.image_shape), dtype=np.float32)
        for place, position in enumerate(positions):
            case_id = self.case_ids[position]
            case = self.prepared.cases[case_id]
            start, size = self._box(case.shape[1:], step, place)
            if kept is None:
                stored, inside = self.prepared.read_stored(case_id, start, size)
            else:
                stored, inside = _cut(kept[position], start, size)
            if stored.shape == images.shape[1:]:
                case.encoding.decode_into(stored, images[place])
            else:
                images[place] = case.background
                case.encoding.decode_into(stored, images[place][inside])
        return torch.from_numpy(images), self.targets[torch.from_numpy(positions.astype(np.int64))]

    def _box(self, shape: Size3, step: int, place: int) -> tuple[Size3, Size3]:
        size = self._crop_size
        if size is None:
            return (0, 0, 0), shape
        free = [full - wanted for full, wanted in zip(shape, size, strict=True)]
        if self._random and max(free) > 0:
            stream = np.random.default_rng((int(self._seed) % 2**64, step, place, _STREAM))
            drawn = stream.random(3)
        else:
            drawn = np.full(3, 0.5)
        depth, height, width = (
            int(u * (room + 1)) if room > 0 else room // 2
            for u, room in zip(drawn, free, strict=True)
        )
        return (depth, height, width), size

    def _volumes(self) -> Sequence[Any]:
        """Return all volumes in their stored dtype; the first call reads them."""
        with self._lock:
            if self._kept is None:
                cases = [self.prepared.cases[case_id] for case_id in self.case_ids]
                kinds = {(case.shape, case.encoding.dtype) for case in cases}
                kept: Any = [None] * len(cases)
                if len(kinds) == 1:
                    kept = np.empty((len(cases), *cases[0].shape), dtype=cases[0].encoding.dtype)
                for position, (case_id, case) in enumerate(zip(self.case_ids, cases, strict=True)):
                    kept[position], _ = self.prepared.read_stored(
                        case_id, (0, 0, 0), case.shape[1:]
                    )
                self._kept = kept
            return self._kept

    def _check_shapes(self) -> None:
        if not self.case_ids:
            raise StoreError("a feed got no cases. Expected at least one.")
        examples: dict[Any, str] = {}
        for case_id in self.case_ids:
            shape = self.prepared.shape(case_id)
            examples.setdefault(shape if self._crop_size is None else shape[:1], case_id)
        shown = ", ".join(f"{shape} in {case!r}" for shape, case in list(examples.items())[:3])
        if len(examples) > 1 and self._crop_size is None:
            raise StoreError(
                f"the volumes have {len(examples)} different shapes (channels, depth, height, "
                f"width): {shown}. Expected one shape, to form batches. Set size_voxels in the "
                "preprocessing, or crop_size_voxels."
            )
        if len(examples) > 1:
            raise StoreError(
                f"the volumes have different numbers of channels: {shown}. Expected the same in "
                "all, to form batches. Take the odd cases out of the table."
            )
        if self._crop_size is not None and min(self._crop_size) < 1:
            raise StoreError(
                f"crop_size_voxels is {self._crop_size}. Expected at least 1 along "
                "(depth, height, width)."
            )


def _cut(volume: Any, start: Size3, size: Size3) -> tuple[Any, Any]:
    """Return the part of a box that lies in (C, D, H, W), and its place in the box."""
    source, target = [slice(None)], [slice(None)]
    for first, length, full in zip(start, size, volume.shape[1:], strict=True):
        low, high = max(0, first), min(full, first + length)
        source.append(slice(low, high))
        target.append(slice(low - first, high - first))
    return volume[tuple(source)], tuple(target)
