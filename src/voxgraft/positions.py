"""Tables of positions between grids: of an image, of a volume, of another size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from voxgraft.types import Size3

Interpolation = Literal["bicubic", "bilinear"]
"""How a table is interpolated in the plane; along depth it is linear."""


def resize_table(
    table: Tensor,
    old: Sequence[int],
    new: Size3,
    interpolation: Interpolation = "bicubic",
) -> Tensor:
    """Resample a table of one vector a place from one grid to another.

    In the plane it is interpolated as timm does; a table of an image is then repeated in every
    plane; one of a volume is interpolated linearly along depth. What has the right size already
    stays as it is, bit by bit. Where a size shrinks, the interpolation is smoothed first
    (antialiasing).

    Args:
        table: ``(places, channels)``, the last axis of the grid running fastest.
        old: Its grid: (height, width) or (depth, height, width).
        new: The grid wanted, (depth, height, width).
        interpolation: ``"bicubic"`` or ``"bilinear"``, in the plane.

    Returns:
        ``(new places, channels)``; the given table itself if the grid is the same.

    Source:
        timm's ``resample_abs_pos_embed`` for the plane (bicubic, antialiased, in float32).
    """
    depth, height, width = (1, *old) if len(old) == 2 else tuple(old)
    if (depth, height, width) == tuple(new):
        return table
    channels = table.shape[1]
    values = table.float().reshape(depth, height, width, channels).permute(0, 3, 1, 2)
    if (height, width) != tuple(new[1:]):
        values = _interpolated(values, new[1:], interpolation)
    values = values.permute(1, 0, 2, 3).reshape(1, channels, depth, -1)
    if depth == 1:
        values = values.expand(-1, -1, new[0], -1)
    elif depth != new[0]:
        values = _interpolated(values, (new[0], values.shape[3]), "bilinear")
    return values.reshape(channels, -1).t().to(table.dtype).contiguous()


def _interpolated(values: Tensor, size: tuple[int, int], mode: Interpolation) -> Tensor:
    # PyTorch 2.14 repeats the first row where the result is one column wide: it is made lying.
    turned = size[1] == 1
    if turned:
        values, size = values.transpose(2, 3), (size[1], size[0])
    values = F.interpolate(values, size=size, mode=mode, align_corners=False, antialias=True)
    return values.transpose(2, 3) if turned else values


def square_grid(places: int) -> tuple[int, int] | None:
    """Return the (height, width) of a square grid of so many places; None if there is none."""
    side = math.isqrt(places)
    return (side, side) if places and side * side == places else None


def cubic_grid(places: int) -> Size3 | None:
    """Return the size of a cubic grid of so many places; None if there is none."""
    side = round(places ** (1 / 3))
    return (side, side, side) if places and side**3 == places else None
