"""What is taken of a start, and where its contract and the data part: channels, axes, size."""

from __future__ import annotations

from voxgraft.grafting import network_of
from voxgraft.models.orientation import AXES
from voxgraft.planning.budget import Budget
from voxgraft.planning.crops import Crops
from voxgraft.planning.decision import Decision, gib, times
from voxgraft.planning.training_memory import TrainingMemory
from voxgraft.types import Size3
from voxgraft.weights import InputContract, Source


def about_network(model: str, start: Source | None) -> list[Decision]:
    """Say that a network is not the one that the start's weights belong in; nothing if it is."""
    if start is None or model == (own := network_of(start)):
        return []
    return [
        Decision(
            what="network",
            value=model,
            why="asked for. Whether the start's weights fit it is seen when they are grafted: "
            "`voxgraft finetune RECIPE --dry-run` says it before a training",
            from_start=own,
            differs=True,
        )
    ]


def decide_channels(channels: int, contract: InputContract) -> Decision:
    """Say what becomes of the channels.

    Args:
        channels: Of the volumes as the network gets them.
        contract: Of the start.
    """
    differs = channels != contract.channels
    why = "as in the start's training"
    if differs:
        why = (
            f"the start's first kernels are summed to {channels}; its mean and sd are averaged "
            "over its channels"
        )
    return Decision(
        what="channels",
        value=str(channels),
        why=why,
        from_data=str(channels),
        from_start=str(contract.channels),
        differs=differs,
    )


def decide_axes(contract: InputContract, memory: TrainingMemory) -> Decision | None:
    """Say what becomes of axes that ran otherwise in the start's training; None if unknown."""
    if contract.axes is None:
        return None
    differs = contract.axes != AXES
    if not differs:
        why = "as in the start's training"
    elif memory.turns:
        why = "the network turns each volume as its weights saw it, and its maps back"
    else:
        why = (
            "this network cannot turn volumes: its weights see the body with its axes in another "
            "order or direction than in their training. Fine-tuning has to make up for it"
        )
    return Decision(
        what="axes",
        value=AXES,
        why=why,
        from_data=f"{AXES} (all volumes are turned to it)",
        from_start=contract.axes,
        differs=differs,
    )


def start_size(start: Source | None) -> Size3 | None:
    """Return the size of the volumes that a start was trained at; None if it has none.

    Pictures and videos have a size in pixels and frames, which is none in millimeters.
    """
    size = None if start is None or start.layout != "volume" else start.input.size
    return None if size is None or len(size) != 3 else (size[0], size[1], size[2])


def decide_size(
    crops: Crops,
    shape: Size3,
    start: Source | None,
    memory: TrainingMemory,
    budget: Budget,
) -> Decision:
    """Say why crops have their size.

    Args:
        crops: As they were chosen.
        shape: Median shape of the scans at the spacing, in voxels.
        start: None from scratch.
        memory: Of the network.
        budget: What a step may take.
    """
    theirs = start_size(start)
    size = crops.size_voxels
    multiple = f"a multiple of the strides {times(memory.steps)}"
    if theirs is None:
        why = f"from the scans' median shape, {multiple}"
        if size != crops.wanted_voxels:
            why += f"; shrunk from {times(crops.wanted_voxels)} until it fits the memory"
        elif any(a < b for a, b in zip(size, shape, strict=True)):
            why += f"; larger ones would make steps slow on this device ({budget.device})"
    elif size == theirs:
        why = "the start's"
    else:
        parts = []
        if any(a < b for a, b in zip(crops.wanted_voxels, theirs, strict=True)):
            parts.append(f"the start's where the scans are that large, else theirs, {multiple}")
        elif crops.wanted_voxels != theirs:
            parts.append(f"the start's, made {multiple}")
        if size != crops.wanted_voxels:
            parts.append(f"shrunk from {times(crops.wanted_voxels)}, which does not fit the memory")
        what = "its tables of positions are interpolated" if memory.positions else ""
        parts.append(f"convolutions run at any size{', ' if what else ''}{what}")
        why = "; ".join(parts)
    said = ""
    if start is not None:
        said = "none" if start.input.size is None else times(start.input.size)
        if start.input.size is not None and theirs is None:
            said += " frames and pixels" if start.layout == "video" else " pixels"
            said += ", which are no millimeters"
    return Decision(
        what="size",
        value=f"{times(size)} voxels",
        why=why,
        from_data=f"median {times(shape)} voxels at that spacing",
        from_start=said,
        differs=theirs is not None and size != theirs,
    )


def decide_batch(crops: Crops, memory: TrainingMemory, budget: Budget) -> Decision:
    """Say why so many crops make a batch and an update."""
    value = f"{crops.batch_size}"
    if crops.accumulate > 1:
        value += f", {crops.accumulate} of them an update"
    if crops.gradient_checkpointing:
        value += ", with gradient checkpointing"
    why = (
        f"a step takes {gib(crops.training_bytes)} of {gib(budget.bytes)} ({budget.why}), "
        f"with {memory.parameters / 1e6:.3g}M parameters"
    )
    if crops.gradient_checkpointing:
        why += "; without checkpointing it would not fit; a step takes about a third longer"
    if memory.batchnorm and crops.batch_size < 2:
        why += "; the network normalizes over its batch, and one crop is little for that"
    return Decision(what="batch", value=value, why=why)
