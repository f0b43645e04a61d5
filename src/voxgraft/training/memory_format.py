"""A memory layout chosen by measurement, once, and kept: it changes the last bits of sums."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import Literal

import torch

from voxgraft.errors import TrainingError
from voxgraft.files import read_json, write_json
from voxgraft.models import Network, SegmentationNetwork, choose_memory_format
from voxgraft.types import Size3

MemoryFormat = Literal["contiguous", "channels_last"]

FORMATS: dict[MemoryFormat, torch.memory_format] = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last_3d,
}


def measured_memory_format(
    record: Path,
    key: str,
    network: Network | SegmentationNetwork,
    size_voxels: Size3,
    batch_size: int,
) -> MemoryFormat:
    """Return the layout recorded under a key; measure and record it where there is none.

    Two measurements can choose differently where the layouts are close. So that a training that
    is killed and resumed, and all trainings of a comparison, have the same layout, the first
    choice is written to ``record`` and every later call reads it there.

    Args:
        record: JSON file of choices by key; made if missing.
        key: What the choice is for: network, size, batch and machine.
        network: The network, on its device.
        size_voxels: (depth, height, width) of the volumes to come.
        batch_size: Cases in one forward pass.

    Raises:
        TrainingError: If the record is damaged.
    """
    record.parent.mkdir(parents=True, exist_ok=True)
    with record.with_name(f".{record.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # one measures at a time, and the first one decides
        choices = _read_choices(record)
        if key not in choices:
            device = next(network.parameters()).device
            shape = (batch_size, network.encoder.in_channels, *size_voxels)
            chosen = choose_memory_format(network, torch.zeros(shape, device=device))
            choices[key] = next(name for name, layout in FORMATS.items() if layout == chosen)
            write_json(record, choices)
    return choices[key]


def _read_choices(record: Path) -> dict[str, MemoryFormat]:
    if not record.is_file():
        return {}
    try:
        choices: dict[str, MemoryFormat] = read_json(record)
        damaged = not isinstance(choices, dict) or not set(choices.values()) <= set(FORMATS)
    except (ValueError, TypeError):
        damaged = True
    if damaged:
        raise TrainingError(
            f"{record} is damaged; expected a JSON object of {' or '.join(FORMATS)} by key. "
            "Delete it to measure again (results may change in their last bits)."
        )
    return choices
