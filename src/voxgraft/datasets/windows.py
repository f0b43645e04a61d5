"""Windows over a study: how they cover it, what their labels are, and how their scores are pooled.

A study of hundreds of slices is seen through windows of a few dozen. Every slice lies in at least
one window, the last slices and those of a short study included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int

from voxgraft.errors import RecipeError, raise_faults
from voxgraft.types import Size3

Aggregation = Literal["max", "mean", "top_k", "noisy_or", "attention"]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How a study is seen through windows.

    Raises:
        RecipeError: If a value is impossible; all faults are named at once.
    """

    size_voxels: Size3
    """(depth, height, width) of a window. In the plane it is a crop: at a random place in
    training, in the center otherwise; a smaller volume is padded with its background."""
    stride_slices: int | None = None
    """Slices from one window's first slice to the next one's; None takes the depth."""
    aggregate: Aggregation = "max"
    """How a study's score comes from its windows': the largest probability, the mean, the mean of
    the ``top_k`` largest, noisy-or (1 minus the product of 1 minus each), or learned attention
    over the windows' features, which trains on studies."""
    top_k: int = 3
    """Windows that ``top_k`` takes the mean of."""
    labels: Literal["slices", "study"] = "slices"
    """What a training window learns: a label counted from the slices' labels, where the table has
    them, or the label of its study."""
    min_positive_slices: int = 4
    """A window with at least so many positive slices is positive."""
    neighbors: int = 0
    """Slices on either side that each slice gets as further channels (2.5D)."""
    per_study: int = 8
    """With ``attention``: at most so many windows of a study in a training step, drawn anew."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        faults = []
        size = self.size_voxels
        if len(size) != 3 or not all(_is_whole(n, 1) for n in size):
            faults.append(f"size_voxels is {size!r}, expected three whole numbers of at least 1")
        elif self.stride_slices is not None and not 1 <= self.stride_slices <= size[0]:
            faults.append(
                f"stride_slices is {self.stride_slices!r}, expected 1 to {size[0]}: with more, "
                "slices between windows would be seen by none"
            )
        for name, least in (("top_k", 1), ("min_positive_slices", 1), ("per_study", 1)):
            if not _is_whole(getattr(self, name), least):
                faults.append(f"{name} is {getattr(self, name)!r}, expected at least {least}")
        if not _is_whole(self.neighbors, 0):
            faults.append(f"neighbors is {self.neighbors!r}, expected at least 0")
        if self.aggregate not in get_args(Aggregation):
            faults.append(
                f"aggregate is {self.aggregate!r}, expected one of {list(get_args(Aggregation))}"
            )
        if self.labels not in ("slices", "study"):
            faults.append(f"labels is {self.labels!r}, expected 'slices' or 'study'")
        if not faults and self.labels == "slices" and self.min_positive_slices > size[0]:
            faults.append(
                f"min_positive_slices is {self.min_positive_slices}, but a window has {size[0]} "
                "slices: none could be positive"
            )
        if faults:
            raise_faults(
                RecipeError,
                "these windows are impossible",
                faults,
                "Mend them in the section `windows` (or with --set).",
            )

    @property
    def stride(self) -> int:
        """Slices from one window's first slice to the next one's."""
        return self.size_voxels[0] if self.stride_slices is None else self.stride_slices

    def starts(self, depth: int) -> tuple[int, ...]:
        """Return the first slice of each window over a study of so many slices."""
        return window_starts(depth, self.size_voxels[0], self.stride)


def window_starts(depth: int, size: int, stride: int) -> tuple[int, ...]:
    """Return where windows begin, so that every slice lies in at least one.

    Windows begin every ``stride`` slices; the last one ends with the study. A study shorter than
    a window has one window, with the study in its middle: it begins before the first slice.

    Args:
        depth: Slices of the study.
        size: Slices of a window.
        stride: From one window to the next; at most ``size``.
    """
    if depth <= size:
        return (-((size - depth) // 2),)
    starts = [*range(0, depth - size, stride), depth - size]
    return tuple(starts)


def window_labels(
    positive: Bool[np.ndarray, "depth k"], starts: tuple[int, ...], size: int, least: int
) -> Float[np.ndarray, "windows k"]:
    """Return 1 for windows with at least ``least`` positive slices, else 0.

    Args:
        positive: Which slices are positive.
        starts: First slice of each window.
        size: Slices of a window.
        least: Positive slices that make a window positive.
    """
    ends = np.concatenate([np.zeros((1, positive.shape[1])), np.cumsum(positive, axis=0)])
    low = np.clip(np.asarray(starts), 0, len(positive))
    high = np.clip(np.asarray(starts) + size, 0, len(positive))
    return np.asarray(ends[high] - ends[low] >= least, dtype=np.float64)


def pool_windows(
    scores: Float[np.ndarray, "m k"],
    studies: Int[np.ndarray, " m"],
    count: int,
    aggregate: Aggregation,
    *,
    top_k: int = 3,
) -> Float[np.ndarray, "n k"]:
    """Return the score of each study from the scores of its windows.

    Args:
        scores: Probabilities, or values in the target's unit; a row a window.
        studies: Which study each window is of.
        count: Studies; each has at least one window.
        aggregate: Any way but attention.
        top_k: For ``top_k``; a study with fewer windows takes the mean of all.
    """
    pooled = np.empty((count, scores.shape[1]))
    order = np.argsort(studies, kind="stable")
    edges = np.searchsorted(studies[order], np.arange(count + 1))
    for study in range(count):
        own = scores[order[edges[study] : edges[study + 1]]]
        if aggregate == "max":
            pooled[study] = own.max(axis=0)
        elif aggregate == "mean":
            pooled[study] = own.mean(axis=0)
        elif aggregate == "top_k":
            pooled[study] = np.sort(own, axis=0)[-top_k:].mean(axis=0)
        else:
            pooled[study] = 1.0 - np.prod(1.0 - own, axis=0)
    return pooled


def check_windows(windows: Windows, kind: str) -> None:
    """See that windows fit a kind of target.

    Raises:
        RecipeError: If a way of pooling means nothing for it.
    """
    if kind in ("binary", "multilabel") or windows.aggregate in ("mean", "attention"):
        return
    raise RecipeError(
        f"windows.aggregate is {windows.aggregate!r}, which is for probabilities of a finding; "
        f"the target is {kind}. Set windows.aggregate to 'mean' or 'attention'."
    )


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
