"""The choice of a memory layout by measurement."""

from __future__ import annotations

import copy
import time

import torch
from jaxtyping import Float
from torch import Tensor

from voxgraft.models.network import StandardizedNetwork

_REPEATS = 3


def choose_memory_format(
    network: StandardizedNetwork, example: Float[Tensor, "b c d h w"], *, repeats: int = _REPEATS
) -> torch.memory_format:
    """Return the memory layout in which a training step of this network is faster here.

    A copy of the network runs forward and backward in both layouts, once to warm up and then
    ``repeats`` times, in turn; the shortest time of each layout counts. Weights, gradients,
    running statistics and the global random state stay as they are. Two measurements may choose
    differently where the layouts are close, so whoever needs the same result twice records the
    choice.

    Args:
        network: The network; it is not changed.
        example: A batch like those to come.
        repeats: Number of timed steps for each layout.

    Returns:
        ``torch.contiguous_format`` or ``torch.channels_last_3d``.

    Raises:
        ModelError: If the example does not fit the network.
    """
    formats = (torch.contiguous_format, torch.channels_last_3d)
    trial = copy.deepcopy(network).train()
    shortest = dict.fromkeys(formats, float("inf"))
    devices = [example.device] if example.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        for repeat in range(repeats + 1):
            for layout in formats:
                trial.set_memory_format(layout)
                duration_s = _step_duration_s(trial, example)
                if repeat > 0:
                    shortest[layout] = min(shortest[layout], duration_s)
    return min(formats, key=lambda layout: shortest[layout])


def _step_duration_s(network: StandardizedNetwork, example: Tensor) -> float:
    network.zero_grad(set_to_none=True)
    _synchronize(example)
    start = time.perf_counter()
    network(example).square().sum().backward()
    _synchronize(example)
    return time.perf_counter() - start


def _synchronize(example: Tensor) -> None:
    if example.device.type == "cuda":
        torch.cuda.synchronize(example.device)
