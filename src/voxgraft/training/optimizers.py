"""What moves the parameters, and the average that follows them."""

from __future__ import annotations

import copy
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from voxgraft.training.optimization import Optimization

N = TypeVar("N", bound=nn.Module)


def build_optimizer(
    groups: list[dict[str, Any]], optimization: Optimization, device: torch.device
) -> torch.optim.Optimizer:
    """Build the optimizer of the recipe; the rate is set before each update."""
    if optimization.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=optimization.learning_rate,
            momentum=optimization.momentum,
            nesterov=optimization.momentum > 0,
        )
    kinds: dict[str, type[torch.optim.Adam]] = {
        "adamw": torch.optim.AdamW,
        "adam": torch.optim.Adam,
    }
    return kinds[optimization.optimizer](
        groups,
        lr=optimization.learning_rate,
        betas=(optimization.momentum, 0.999),
        fused=device.type == "cpu",
    )


class Ema(Generic[N]):
    """A moving average of a network's weights; its buffers are the network's own.

    Source:
        The decay grows as ``(1 + updates) / (10 + updates)`` up to the one asked for, as in
        TensorFlow's ``ExponentialMovingAverage``, so that short trainings forget their start.
    """

    def __init__(self, network: N, decay: float) -> None:
        """Start at the network's weights."""
        self.network = copy.deepcopy(network)
        self.decay = decay

    def follow(self, network: N, updates: int) -> None:
        """Move towards the network after its update number ``updates``."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        with torch.no_grad():
            for own, new in zip(self.network.parameters(), network.parameters(), strict=True):
                own.lerp_(new, 1.0 - decay)
            for kept, current in zip(self.network.buffers(), network.buffers(), strict=True):
                kept.copy_(current)
