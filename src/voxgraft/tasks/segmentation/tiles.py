"""Parts of a batch of crops, so small that what is reckoned of one takes little memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CPU_VALUES, DEVICE_VALUES = 2**17, 2**22
"""Values in a tile: what fits a processor's cache; what keeps an accelerator busy (16 MiB)."""

Tile = tuple[slice, slice]
"""Along depth and height; the width is never cut."""


def tiles(like: Float[Tensor, "b c d h w"], channels: int) -> Iterator[Tile]:
    """Yield parts of a volume, whole planes or whole rows, that together are all of it.

    Args:
        like: The volumes.
        channels: Values of each voxel that are looked at together.
    """
    depth, height, width = like.shape[2:]
    rows = max(1, _values(like.device) // (channels * width))
    if rows >= height:
        planes = rows // height
        for first in range(0, depth, planes):
            yield slice(first, first + planes), slice(None)
        return
    for plane in range(depth):
        for first in range(0, height, rows):
            yield slice(plane, plane + 1), slice(first, first + rows)


def channel_groups(wanted: list[bool], like: Float[Tensor, "b c d h w"]) -> Iterator[slice]:
    """Yield the wanted channels, neighbors together as far as they fit into a tile.

    Args:
        wanted: Which channels.
        like: The volumes.
    """
    most = max(1, _values(like.device) // like[0, 0].numel())
    first = 0
    while first < len(wanted):
        last = first
        while last < len(wanted) and wanted[last] and last - first < most:
            last += 1
        if last > first:
            yield slice(first, last)
        first = max(last, first + 1)


def values_in(volumes: Tensor, sample: int, channels: slice, tile: Tile) -> Float[Tensor, "c n"]:
    """Return values of one sample's tile, in the precision that is reckoned in."""
    part = volumes[sample, channels, tile[0], tile[1]]
    return part.to(reckoned(volumes)).reshape(part.shape[0], -1)


def labels_in(labels: Int[Tensor, "b l d h w"], sample: int, tile: Tile) -> Int[Tensor, "l n"]:
    """Return the labels of one sample's tile."""
    part = labels[sample, :, tile[0], tile[1]]
    return part.reshape(part.shape[0], -1)


def put_into(
    volumes: Tensor, sample: int, channels: slice, tile: Tile, values: Float[Tensor, "c n"]
) -> None:
    """Write values of one sample's tile."""
    part = volumes[sample, channels, tile[0], tile[1]]
    part.copy_(values.view(part.shape))


def counted_voxels(labels: Int[Tensor, "b l d h w"]) -> tuple[Float[Tensor, " b"], bool]:
    """Return how many voxels of each case count (labels of at least 0), and whether all do."""
    counted: Bool[Tensor, "b v"] = (labels[:, 0] >= 0).flatten(1)
    number = counted.sum(1)
    return number.to(sums_dtype(labels.device)), bool((number == counted.shape[1]).all())


def reckoned(values: Tensor) -> torch.dtype:
    """Return the precision that is reckoned in: float32, or float64 for values of that."""
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def sums_dtype(device: torch.device) -> torch.dtype:
    """Return what sums over voxels are kept in: float64 where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


def _values(device: torch.device) -> int:
    return CPU_VALUES if device.type == "cpu" else DEVICE_VALUES
