"""Windows of tokens: how volumes are cut into them, who may attend to whom, and how far apart."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from voxgraft.types import Size3


def partition(x: Float[Tensor, "b d h w c"], window: Size3) -> Float[Tensor, "windows tokens c"]:
    """Cut a volume, a multiple of the window, into windows, those of a volume in a row."""
    batch, *size, channels = x.shape
    depth, height, width = window
    x = x.view(
        batch,
        size[0] // depth,
        depth,
        size[1] // height,
        height,
        size[2] // width,
        width,
        channels,
    )
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, depth * height * width, channels)


def merge(
    windows: Float[Tensor, "windows tokens c"], window: Size3, size: Size3
) -> Float[Tensor, "b d h w c"]:
    """Put windows together to the volume of ``size`` that :func:`partition` cut."""
    counts = [n // step for n, step in zip(size, window, strict=True)]
    x = windows.view(-1, *counts, *window, windows.shape[-1])
    return x.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, *size, windows.shape[-1])


def relative_index(window: Size3, table: Size3, device: torch.device) -> Int[Tensor, "n n"]:
    """Return the row of a table of offsets for each pair of tokens in a window.

    Args:
        window: The window in use; along no axis larger than ``table``.
        table: The window for which the table has offsets, ``2n - 1`` along each axis.
        device: Where the result shall be.
    """
    axes = [torch.arange(n, device=device) for n in window]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)
    offsets = places[:, :, None] - places[:, None, :]
    depth, height, width = (offsets[axis] + table[axis] - 1 for axis in range(3))
    return (depth * (2 * table[1] - 1) + height) * (2 * table[2] - 1) + width


def foreign_pairs(
    size: Size3, window: Size3, shift: Size3, valid_depth: int, device: torch.device
) -> Bool[Tensor, "windows n n"] | None:
    """Return which pairs of tokens in a window may not attend to each other; None if all may.

    After a cyclic shift, tokens of opposite borders share a window and may not. In the plane that
    is decided as timm does, by place in the extended map. Along depth it is decided by the planes
    themselves, and planes that were added to fill the last window are left alone. So each token
    of a volume of equal planes sees each place of the plane equally often.

    Args:
        size: Of the extended map.
        window: The window.
        shift: Cyclic shift along each axis.
        valid_depth: Planes before the map was extended.
        device: Where the result shall be.
    """
    if not any(shift) and valid_depth == size[0]:
        return None
    planes = torch.zeros(size[0], dtype=torch.long, device=device)
    if shift[0]:
        planes[valid_depth - shift[0] :] = 1
    planes[valid_depth:] = 2
    label = planes[:, None, None]
    if shift[1] or shift[2]:
        rows, columns = (_regions(size[a], window[a], shift[a], device) for a in (1, 2))
        label = (label * 3 + rows[:, None]) * 3 + columns
    labels = partition(label.expand(size)[None, ..., None].contiguous(), window).squeeze(-1)
    return labels[:, :, None] != labels[:, None, :]


def _regions(size: int, window: int, shift: int, device: torch.device) -> Tensor:
    regions = torch.zeros(size, dtype=torch.long, device=device)
    for number, part in enumerate((slice(0, -window), slice(-window, -shift), slice(-shift, None))):
        regions[part] = number
    return regions
