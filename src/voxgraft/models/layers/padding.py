"""Padding along depth and TensorFlow's SAME padding."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.models.depth import DepthPadding
from voxgraft.types import Size3


class DepthPadded(nn.Module):
    """Mark of a layer whose padding along depth can be switched after it is built."""

    depth_padding: DepthPadding


def pad_depth(
    x: Float[Tensor, "b c d h w"], before: int, after: int, mode: DepthPadding, value: float = 0.0
) -> Float[Tensor, "b c e h w"]:
    """Extend a volume along depth.

    Args:
        x: The volume.
        before: Slices to add before the first.
        after: Slices to add after the last.
        mode: ``"replicate"`` repeats the border slice, ``"zeros"`` adds slices of ``value``.
        value: The voxels' value for ``"zeros"``.

    Returns:
        A volume with ``before + d + after`` slices; ``x`` itself where nothing is added.
    """
    if before == 0 and after == 0:
        return x
    if mode == "zeros":
        return F.pad(x, (0, 0, 0, 0, before, after), value=value)
    # Concatenation, not F.pad: the backward of replication padding is not deterministic on CUDA.
    first = x[:, :, :1].expand(-1, -1, before, -1, -1)
    last = x[:, :, -1:].expand(-1, -1, after, -1, -1)
    return torch.cat([first, x, last], dim=2)


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """Return TensorFlow's SAME padding of one axis, (before, after), in voxels."""
    total = (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size
    total = max(total, 0)
    return total // 2, total - total // 2


def pad_same(
    x: Float[Tensor, "b c d h w"],
    kernel: Size3,
    stride: Size3,
    dilation: Size3,
    mode: DepthPadding,
    value: float = 0.0,
) -> Float[Tensor, "b c e i j"]:
    """Pad all three axes as TensorFlow's SAME does, the depth by ``mode``."""
    depth, height, width = (
        same_padding(x.shape[axis + 2], kernel[axis], stride[axis], dilation[axis])
        for axis in range(3)
    )
    if any(height + width):
        x = F.pad(x, (*width, *height), value=value)
    return pad_depth(x, *depth, mode, value)
