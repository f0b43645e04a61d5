"""timm's 2D networks with weights under which no layer is trivial, made quickly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import nn


@pytest.fixture(scope="session")
def original(randomize: Callable[[nn.Module], None]) -> Callable[..., Any]:
    """Build a network of timm without classifier, every tensor drawn from a fixed pool."""

    def build(name: str, channels: int, **options: Any) -> nn.Module:
        with torch.device("meta"):
            network: nn.Module = timm.create_model(
                name, in_chans=channels, num_classes=0, **options
            )
        randomize(network)
        return network.eval()

    return build
