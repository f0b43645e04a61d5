"""The classes of voxels, from the values of all classes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor


def largest_class(
    values: Float[Tensor, "k d h w"],
) -> tuple[Integer[Tensor, "d h w"], Float[Tensor, "d h w"]]:
    """Return the class of the largest value of each voxel, the first of equals, and that value.

    Args:
        values: Of all classes; NaN makes the largest value NaN.

    Returns:
        uint8 for up to 256 classes, int16 for more.
    """
    dtype = torch.uint8 if len(values) <= 256 else torch.int16
    if values.device.type != "cpu":
        best, found = values.max(0)
        return found.to(dtype), best
    # Class by class, all of it in the cache: several times as fast as a maximum over classes.
    best = values[0].clone(memory_format=torch.contiguous_format)
    labels = torch.zeros_like(best, dtype=dtype)
    larger = torch.empty_like(best, dtype=torch.bool)
    index = larger.view(torch.uint8) if dtype == torch.uint8 else torch.empty_like(labels)
    for k, own in enumerate(values[1:], start=1):
        torch.gt(own, best, out=larger)
        if dtype != torch.uint8:
            index.copy_(larger)
        torch.maximum(labels, index.mul_(k), out=labels)
        torch.maximum(best, own, out=best)
    return labels, best


def pack_above(
    values: Float[Tensor, "k d h w"], limits: Sequence[float]
) -> tuple[UInt8[Tensor, "bytes d h w"], Float[Tensor, "d h w"]]:
    """Return for each class where it is above its limit, eight classes a byte, and the maximum.

    Args:
        values: Of all classes; NaN makes the maximum NaN.
        limits: One for each class.
    """
    packed = values.new_zeros((-(-len(values) // 8), *values.shape[1:]), dtype=torch.uint8)
    best = values[0].clone(memory_format=torch.contiguous_format)
    above = torch.empty_like(best, dtype=torch.bool)
    bits = above.view(torch.uint8)
    for k, (own, limit) in enumerate(zip(values, limits, strict=True)):
        torch.gt(own, limit, out=above)
        packed[k // 8] |= bits.mul_(1 << k % 8)
        torch.maximum(best, own, out=best)
    return packed, best
