"""Where a trained network runs: on the graphics card if there is one."""

from __future__ import annotations

import torch
from torch import nn

from voxgraft.errors import InferenceError


def place_on(network: nn.Module, device: str | None = None) -> torch.device:
    """Move a network to where it is to run, and return that.

    Args:
        network: Moved in place.
        device: ``cpu``, ``cuda``, ``cuda:1`` or another of torch's names; None takes the graphics
            card if there is one.

    Raises:
        InferenceError: If there is no such device.
    """
    name = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(name)
        torch.empty(1, device=found)
        network.to(found)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InferenceError(
            f"the network cannot run on {name!r}: {reason} Give cpu, or a device that is there "
            "(`voxgraft doctor` lists them)."
        ) from error
    return found
