"""What the loop needs of a feed of cases; ``voxgraft.store.Feed`` has it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float
from torch import Tensor

from voxgraft.types import Spacing3


class StoredVolumes(Protocol):
    """Facts about the stored volumes that augmentation needs."""

    @property
    def background(self) -> float:
        """Value around the volumes."""

    @property
    def spacing_mm(self) -> Spacing3:
        """(depth, height, width) of the voxels, in mm."""


class CaseFeed(Protocol):
    """Cases with their images and targets, served in batches."""

    @property
    def prepared(self) -> StoredVolumes:
        """Where the cases come from."""

    @property
    def targets(self) -> Tensor:
        """Encoded targets (n, K), one row a case."""

    @property
    def waiting_s(self) -> float:
        """Time that consumers have waited for batches so far, in seconds."""

    def batches(
        self, schedule: Iterable[Any], *, first_step: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images (B, C, D, H, W) and targets (B, K) for each array of case positions."""


def case_targets(feed: CaseFeed) -> Float[np.ndarray, "n k"]:
    """Return the targets of a feed as float64."""
    return feed.targets.double().cpu().numpy()
