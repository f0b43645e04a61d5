"""A part of a larger network's channels for a smaller network of the same family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from voxgraft.errors import ConversionError

Blocks = Literal["first", "spread"]
Channels = Literal["uniform", "first"]


@dataclass(frozen=True)
class Subset:
    """Which blocks and channels of a larger network a smaller one of its family gets.

    Source: weight selection, arXiv:2311.18823, section 3: the first blocks of each stage and, of
    each tensor, elements evenly spaced (``"uniform"``) or consecutive (``"first"``). ``"spread"``,
    blocks evenly spaced from the first to the last, is what DistilBERT does (arXiv:1910.01108,
    section 3).
    """

    blocks: Blocks = "first"
    """``"first"``, or ``"spread"``: every k-th, with the first and the last."""
    channels: Channels = "uniform"
    """``"uniform"``: every k-th; ``"first"``: those before the others."""

    def __post_init__(self) -> None:
        if self.blocks not in ("first", "spread") or self.channels not in ("uniform", "first"):
            raise ConversionError(
                f"a subset takes blocks {self.blocks!r} and channels {self.channels!r}; expected "
                "'first' or 'spread', and 'uniform' or 'first'."
            )


def kept(count: int, wanted: int, choice: Blocks | Channels) -> list[int]:
    """Return which of ``count`` things are kept, in their order.

    Args:
        count: How many there are.
        wanted: How many to keep; at most ``count``.
        choice: ``"first"``; ``"uniform"``, where number i is ``floor(i * count / wanted)``; or
            ``"spread"``, which has the first and the last.

    Raises:
        ConversionError: If more are wanted than there are, or none.
    """
    if not 0 < wanted <= count:
        raise ConversionError(f"{wanted} of {count} cannot be kept. Choose a smaller network.")
    if choice == "first":
        return list(range(wanted))
    if choice == "uniform":
        return [index * count // wanted for index in range(wanted)]
    if wanted == 1:
        return [0]
    return [round(index * (count - 1) / (wanted - 1)) for index in range(wanted)]


@dataclass(frozen=True)
class TakeChannels:
    """Keep a part of the channels where the model has fewer.

    Of kernels and matrices along output and input, of vectors along their one axis, of tokens
    along their last. The choice depends on the two sizes alone, so that scales, shifts and running
    statistics keep the channels that the kernels before them keep. Sizes of kernels stay.
    """

    choice: Channels = "uniform"

    def adapt(self, name: str, tensor: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, str] | None:
        """Return the adapted tensor and how, or None if the rule has nothing to do."""
        if tensor.ndim != len(shape) or not shape:
            return None
        axes = (0, 1) if tensor.ndim == 2 or tensor.ndim > 3 else (tensor.ndim - 1,)
        steps = []
        for axis in axes:
            count, wanted = tensor.shape[axis], shape[axis]
            if wanted >= count:
                continue
            chosen = torch.tensor(kept(count, wanted, self.choice), device=tensor.device)
            tensor = tensor.index_select(axis, chosen)
            steps.append(f"{wanted} of {count} along axis {axis}")
        if not steps:
            return None
        return tensor, f"{self.choice} {' and '.join(steps)}"
