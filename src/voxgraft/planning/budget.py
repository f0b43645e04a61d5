"""How much memory a training may take, on this machine or on another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import psutil
import torch

from voxgraft.errors import RecipeError

Device = Literal["cuda", "cpu"]

_CUDA_BYTES = 2**30
"""What the CUDA context and libraries take before a tensor is made (about)."""
_CUDA_SHARE = 0.85
"""Of the rest: kernels' workspaces and gaps between blocks take the other part."""
_CPU_SHARE = 0.6
"""Of the memory that is free: feeds, the store and other programs take the other part."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a training step may take.

    Attributes:
        device: Where the network will be trained.
        bytes: Most that tensors may take.
        bf16: Whether the device computes in bfloat16 fast.
        why: How that was found, in words.
    """

    device: Device
    bytes: int
    bf16: bool
    why: str


def find_budget(memory_gib: float | None = None, device: Device | None = None) -> Budget:
    """Return what a training may take.

    Args:
        memory_gib: Memory of the device, where it is another one than here.
        device: ``"cuda"`` or ``"cpu"``; None takes this machine's GPU, if it has one, and a GPU
            where ``memory_gib`` speaks of another machine.

    Raises:
        RecipeError: If the memory is no positive number, or a GPU is asked for that is not here.
    """
    if memory_gib is not None and not 0 < memory_gib < 1e5:
        raise RecipeError(
            f"memory_gib is {memory_gib!r}, expected a positive number: the device's memory in "
            "GiB, as 24."
        )
    here = torch.cuda.is_available()
    chosen = device or ("cuda" if here or memory_gib is not None else "cpu")
    if chosen == "cpu":
        if memory_gib is None:
            free = float(psutil.virtual_memory().available)
            said = f"of {free / 2**30:.1f} GiB that are free here"
        else:
            free, said = memory_gib * 2**30, f"of {memory_gib:g} GiB"
        return Budget(
            device="cpu",
            bytes=int(free * _CPU_SHARE),
            bf16=False,
            why=f"{_CPU_SHARE:.0%} {said}, for a training on the CPU",
        )
    if memory_gib is None and not here:
        raise RecipeError(
            "device is 'cuda', but PyTorch sees no GPU here. To plan for another machine, give "
            "memory_gib, the memory of its GPU."
        )
    if memory_gib is None:
        total = float(torch.cuda.get_device_properties(0).total_memory)
        said = f"{torch.cuda.get_device_name(0)} has {total / 2**30:.1f} GiB"
        bf16 = bool(torch.cuda.is_bf16_supported())
    else:
        total, bf16 = memory_gib * 2**30, True
        said = f"a GPU of {memory_gib:g} GiB, which is taken to compute in bfloat16"
    return Budget(
        device="cuda",
        bytes=max(0, int((total - _CUDA_BYTES) * _CUDA_SHARE)),
        bf16=bf16,
        why=f"{said}: less 1 GiB for CUDA, {_CUDA_SHARE:.0%} of the rest",
    )
