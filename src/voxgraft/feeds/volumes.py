"""Whole volumes, or one crop of each, as batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from voxgraft.errors import StoreError
from voxgraft.feeds.kept import KeptVolumes
from voxgraft.feeds.prefetch import Batch, Feed
from voxgraft.store import Prepared
from voxgraft.types import Size3

_STREAM = 0x63726F70
"""Sets the random streams of crops apart from others of the same seed."""


class VolumeFeed(Feed):
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
        super().__init__(targets, threads=threads)
        if len(self.targets) != len(case_ids):
            raise StoreError(
                f"targets have shape {tuple(self.targets.shape)} for {len(case_ids)} cases. "
                "Expected numbers of shape (cases, targets)."
            )
        self.prepared = prepared
        self.case_ids = tuple(case_ids)
        self._crop_size = crop_size_voxels
        self._random = crop == "random"
        self._seed = seed
        self._check_shapes()
        self._kept = KeptVolumes(prepared, self.case_ids, memory_budget_mib)

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """(channels, depth, height, width) of an image that is served."""
        shape = self.prepared.shape(self.case_ids[0])
        return shape if self._crop_size is None else (shape[0], *self._crop_size)

    def _batch(self, step: int, positions: Int[np.ndarray, " b"]) -> Batch:
        images = np.empty((len(positions), *self.image_shape), dtype=np.float32)
        for place, position in enumerate(positions):
            shape = self.prepared.shape(self.case_ids[position])[1:]
            self._kept.fill(images[place], int(position), self._start(shape, step, place))
        return Batch(torch.from_numpy(images), self._targets_at(positions))

    def _start(self, shape: Size3, step: int, place: int) -> Size3:
        if self._crop_size is None:
            return (0, 0, 0)
        draw = (self._seed, step, place, _STREAM) if self._random else None
        return crop_start(shape, self._crop_size, draw)

    def _check_shapes(self) -> None:
        examples: dict[Any, str] = {}
        for case_id in self.case_ids:
            shape = self.prepared.shape(case_id)
            examples.setdefault(shape if self._crop_size is None else shape[:1], case_id)
        shown = ", ".join(f"{shape} in {case!r}" for shape, case in list(examples.items())[:3])
        if len(examples) > 1 and self._crop_size is None:
            raise StoreError(
                f"the volumes have {len(examples)} different shapes (channels, depth, height, "
                f"width): {shown}. Expected one shape, to form batches. Set size_voxels in the "
                "preprocessing, crop_size_voxels, or windows."
            )
        if self._crop_size is not None:
            check_channels(self.prepared, self.case_ids)
            if min(self._crop_size) < 1:
                raise StoreError(
                    f"crop_size_voxels is {self._crop_size}. Expected at least 1 along "
                    "(depth, height, width)."
                )


def check_channels(prepared: Prepared, case_ids: Sequence[str]) -> None:
    """See that all cases have the same number of channels.

    Raises:
        StoreError: Naming a case of each number.
    """
    examples: dict[int, str] = {}
    for case_id in case_ids:
        examples.setdefault(prepared.shape(case_id)[0], case_id)
    if len(examples) > 1:
        shown = ", ".join(f"{channels} in {case!r}" for channels, case in examples.items())
        raise StoreError(
            f"the volumes have different numbers of channels: {shown}. Expected the same in "
            "all, to form batches. Take the odd cases out of the table."
        )


def crop_start(shape: Size3, size: Size3, draw: tuple[int, ...] | None) -> Size3:
    """Return where a crop begins; negative where a volume is smaller: it is centered in the crop.

    Args:
        shape: Of the volume.
        size: Of the crop.
        draw: What the random place is drawn from; None is the center.
    """
    free = [full - wanted for full, wanted in zip(shape, size, strict=True)]
    if draw is not None and max(free) > 0:
        entropy = tuple(int(number) % 2**64 for number in draw)
        drawn = np.random.default_rng(entropy).random(3)
    else:
        drawn = np.full(3, 0.5)
    depth, height, width = (
        int(u * (room + 1)) if room > 0 else room // 2 for u, room in zip(drawn, free, strict=True)
    )
    return (depth, height, width)
