"""Random weights for training from scratch, by the rule of each family, in three dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from voxgraft.models.layers.acs import AcsConv3d

Convolution = nn.Conv3d | AcsConv3d
Initialization = Callable[[Convolution], None]
"""Draws a convolution's weight in place."""


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Draw random numbers on the CPU from ``seed``; afterwards the global state is as before.

    With None, numbers come from the global generator, which moves on.
    """
    if seed is None:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def kaiming_fan_out(conv: Convolution) -> None:
    """Draw the weight as timm's ResNet does.

    Source: arXiv:1502.01852, equation 14, normal distribution.
    """
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")


def kaiming_fan_in(conv: Convolution) -> None:
    """Draw the weight as timm's DenseNet does.

    Source: arXiv:1502.01852, equation 10, normal distribution.
    """
    nn.init.kaiming_normal_(conv.weight)


def grouped_fan_out(conv: Convolution) -> None:
    """Draw the weight as timm's EfficientNet, MobileNet and RegNet do.

    Source: TensorFlow's official EfficientNet: a normal distribution of variance
    2 / (kernel voxels x output channels / groups).
    """
    fan_out = math.prod(conv.kernel_size) * conv.out_channels // conv.groups
    nn.init.normal_(conv.weight, 0.0, math.sqrt(2.0 / fan_out))


def truncated_normal(conv: Convolution) -> None:
    """Draw the weight as timm's ConvNeXt does.

    Source: arXiv:2201.03545, appendix A: truncated normal of sd 0.02. The fan-in of a kernel grows
    with its depth, so the sd is divided by the root of the depth: the response to noise keeps the
    variance that it has in 2D.
    """
    depth = conv.kernel_size[0] if conv.weight.ndim == 5 else 1
    sd = 0.02 / math.sqrt(depth)
    nn.init.trunc_normal_(conv.weight, std=sd, a=-2.0, b=2.0)


def initialize_convolutions(network: nn.Module, rule: Initialization) -> None:
    """Draw the weight of every convolution of volumes anew, and set biases to zero.

    Weights on the meta device have no values; they are left.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d | AcsConv3d) and not module.weight.is_meta:
            rule(module)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def zero_last_normalization(network: nn.Module) -> None:
    """Let each residual block begin as the identity, where timm's block offers it.

    Source: arXiv:1706.02677, section 5.1.
    """
    for module in network.modules():
        start = getattr(module, "zero_init_last", None)
        if callable(start):
            start()
