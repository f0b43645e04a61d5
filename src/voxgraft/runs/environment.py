"""What a run ran on: versions and hardware, for its record."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import psutil
import torch

from voxgraft.types import Json

_PACKAGES = ("voxgraft", "torch", "torchvision", "timm", "accelerate", "numpy", "scipy", "nibabel")


def describe_environment(threads: int) -> Json:
    """Return versions, processor, memory (GiB), device and threads of this process."""
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "device": torch.cuda.get_device_name(0) if cuda else "cpu",
        "cuda": torch.version.cuda if cuda else None,
        "threads": threads,
    }
