"""Batches made ahead of the consumer, in background threads, in the schedule's order."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from voxgraft.errors import StoreError

EVALUATION_ITEMS = 16
"""Items of one batch in evaluation, at most."""
_EVALUATION_VOXELS = 2**24


class Batch(NamedTuple):
    """What a feed serves at a step."""

    images: Tensor
    """(M, C, D, H, W), float32."""
    targets: Tensor
    """(B, K), float32."""
    bags: Tensor | None = None
    """(M,), int64: which of the B studies each image belongs to; None where M is B."""
    labels: Tensor | None = None
    """(B, L, D, H, W), int16: of segmentations, the class of each voxel in L layers (one where no
    structures overlap): 0 is none of the layer's, k + 1 is class k of the target, -1 in the first
    layer is unknown. ``targets`` is then (B, K): 1 for the classes that a case annotates."""


class Feed:
    """What all feeds have in common: items with targets, served in batches ahead of time.

    A subclass gives ``prepared`` (background and spacing of its images), ``image_shape`` and
    ``_batch``. Its items are what training draws. Where several items are of one case, it gives
    ``case_targets`` and ``pool`` too.
    """

    prepared: Any
    """Where the images come from: has ``background`` and ``spacing_mm``."""

    def __init__(self, targets: Float[np.ndarray, "n k"], *, threads: int = 2) -> None:
        """Keep the targets.

        Args:
            targets: (n, K), a row an item.
            threads: That make batches; as many more batches wait finished.

        Raises:
            StoreError: If the targets are no numbers of shape (n, K), or there are none.
        """
        values = np.asarray(targets)
        if values.ndim != 2 or values.dtype.kind not in "fiub":
            raise StoreError(
                f"targets have shape {values.shape} and dtype {values.dtype}. Expected numbers of "
                "shape (cases, targets)."
            )
        if len(values) == 0:
            raise StoreError("a feed got no cases. Expected at least one.")
        if threads < 1:
            raise StoreError(f"threads is {threads}. Expected at least 1.")
        self.targets = torch.from_numpy(values.astype(np.float32))
        self.waiting_s = 0.0
        """Time that consumers waited for batches, in seconds."""
        self._threads = threads

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.targets)

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """(channels, depth, height, width) of an image that is served."""
        raise NotImplementedError

    @property
    def case_targets(self) -> Tensor:
        """Targets (cases, K) that scores of cases are compared with."""
        return self.targets

    def pool(self, scores: Float[np.ndarray, "n o"]) -> Float[np.ndarray, "m o"]:
        """Return the scores of cases from the scores of all items, in the feed's order."""
        return scores

    @property
    def evaluation_batch_size(self) -> int:
        """Items in one batch of an evaluation: bounded by memory."""
        return max(1, min(EVALUATION_ITEMS, _EVALUATION_VOXELS // int(np.prod(self.image_shape))))

    def batches(
        self, schedule: Iterable[Int[np.ndarray, " b"]], *, first_step: int = 0
    ) -> Iterator[Batch]:
        """Serve batches in the order of a schedule, ahead of the consumer.

        The schedule itself is drawn from in the consumer's thread, a few batches ahead. Closing
        the iterator, or losing it, stops the threads.

        Args:
            schedule: Positions of items for each step.
            first_step: Step of the schedule's first batch: with it, a resumed training gets the
                random crops of an uninterrupted one.

        Yields:
            Images (M, C, D, H, W) and targets (B, K), float32.

        Raises:
            StoreError: If a stored volume is gone or damaged, or a position is no item.
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

    def _batch(self, step: int, positions: Int[np.ndarray, " b"]) -> Batch:
        """Make the batch of a step; runs in a thread."""
        raise NotImplementedError

    def _targets_at(self, positions: Int[np.ndarray, " b"]) -> Tensor:
        return self.targets[torch.from_numpy(positions.astype(np.int64))]

    def _next(self, pending: deque[Future[Batch]]) -> Batch:
        begin = time.perf_counter()
        try:
            return pending.popleft().result()
        finally:
            self.waiting_s += time.perf_counter() - begin

    def _checked(self, positions: Any) -> Int[np.ndarray, " b"]:
        chosen = np.asarray(positions)
        valid = chosen.ndim == 1 and chosen.size > 0 and chosen.dtype.kind in "iu"
        if not valid or chosen.min() < 0 or chosen.max() >= len(self):
            raise StoreError(
                f"a schedule asks for the cases {chosen.tolist()!r:.200}. Expected positions from "
                f"0 to {len(self) - 1}, at least one."
            )
        return chosen


def float64_array(targets: Tensor) -> Float[np.ndarray, "n k"]:
    """Return targets as tasks and metrics want them."""
    return targets.double().cpu().numpy()
