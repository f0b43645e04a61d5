"""What building a convolutional network has in common: checks, a seed, random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, get_args

from torch import nn

from voxgraft.models.depth import DepthPadding, check_choice
from voxgraft.models.initialization import (
    initialize_convolutions,
    kaiming_fan_out,
    seeded,
    zero_last_normalization,
)
from voxgraft.models.twin import check_options

N = TypeVar("N", bound=nn.Module)


def build_convolutional(
    make: Callable[[], N],
    *,
    in_channels: int,
    depth_padding: DepthPadding,
    seed: int | None,
    zero_last: bool = False,
) -> N:
    """Build a network with random weights.

    Args:
        make: Makes the network; called after the checks.
        in_channels: Channels of the volumes.
        depth_padding: ``"zeros"`` or ``"replicate"``: what lies beyond the first and last slice.
        seed: Seed of the random weights; None draws from PyTorch's global generator.
        zero_last: Whether the last normalization of each residual block begins at zero.

    Raises:
        ModelError: If an option is impossible.
    """
    check_options(in_channels, 0.0)
    check_choice("depth_padding", depth_padding, get_args(DepthPadding))
    with seeded(seed):
        network = make()
        initialize_convolutions(network, kaiming_fan_out)
        if zero_last:
            zero_last_normalization(network)
    return network
