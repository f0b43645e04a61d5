"""What the loop needs of a feed of cases; ``voxgraft.store.Feed`` has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from voxgraft.types import Spacing3


class CaseFeed(Protocol):
    """Cases with their images and targets, served in batches."""

    @property
    def targets(self) -> NDArray[np.float64]:
        """Encoded targets, one row a case."""

    @property
    def background(self) -> float:
        """Value of air in the stored volumes; what augmentation pads with."""

    @property
    def spacing_mm(self) -> Spacing3:
        """(depth, height, width) of the stored voxels; what rotations keep their angles by."""

    @property
    def waiting_s(self) -> float:
        """Time that consumers have waited for batches so far, in seconds."""

    def batches(self, schedule: Iterable[NDArray[np.int64]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (B, C, D, H, W) and targets (B, K) of each array of case positions."""
