"""A memory layout chosen by measurement, once, and kept: it changes the last bits of sums."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from voxgraft.errors import TrainingError
from voxgraft.files import read_json, write_json
from voxgraft.models import Network, choose_memory_format
from voxgraft.types import Size3

MemoryFormat = Literal["contiguous", "channels_last"]

FORMATS: dict[MemoryFormat, torch.memory_format] = {
    "contiguous": torch.contiguous_format,
    "channels_last": torch.channels_last_3d,
}


def measured_memory_format(
    record: Path, key: str, network: Network, size_voxels: Size3, batch_size: int
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
    choices: dict[str, MemoryFormat] = {}
    if record.is_file():
        try:
            choices = read_json(record)
            damaged = not isinstance(choices, dict) or not set(choices.values()) <= set(FORMATS)
        except (ValueError, TypeError):
            damaged = True
        if damaged:
            raise TrainingError(
                f"{record} is damaged; expected a JSON object of {' or '.join(FORMATS)} by key. "
                "Delete it to measure again (results may change in their last bits)."
            )
    if key not in choices:
        device = network.head.weight.device
        example = torch.zeros(batch_size, network.encoder.in_channels, *size_voxels, device=device)
        chosen = choose_memory_format(network, example)
        choices[key] = next(name for name, layout in FORMATS.items() if layout == chosen)
        write_json(record, choices)
    return choices[key]
