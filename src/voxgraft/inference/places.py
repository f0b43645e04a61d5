"""Where in a volume the cells of a feature map look, and maps laid out on the volume by it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

_CELLS = 4
"""Cells along the axis that a probe measures."""


class Axis(NamedTuple):
    """Where the cells of a map look along one axis of a volume, in voxels."""

    first: float
    """Center of the first cell."""
    step: float
    """From one center to the next."""


def lay_out(
    cells: Float[Tensor, "i j k"], size: Sequence[int], axes: Sequence[Axis]
) -> Float[Tensor, "d h w"]:
    """Interpolate a map linearly between the centers of its cells; beyond them it goes on.

    Args:
        cells: One value a cell.
        size: (depth, height, width) of the volume.
        axes: Where the cells look, along each axis.
    """
    for axis, (length, place) in enumerate(zip(size, axes, strict=True)):
        last = cells.shape[axis] - 1
        voxels = torch.arange(length, dtype=cells.dtype, device=cells.device)
        at = ((voxels - place.first) / place.step).clamp(0, last)
        below = at.floor().long().clamp(max=max(0, last - 1))
        share = (at - below).view([-1 if other == axis else 1 for other in range(cells.ndim)])
        low = cells.index_select(axis, below)
        high = cells.index_select(axis, (below + 1).clamp(max=last))
        cells = low * (1 - share) + high * share
    return cells


def cell_axes(
    network: nn.Module,
    features: Callable[[Tensor], Tensor],
    *,
    channels: int,
    size: Sequence[int],
    cells: Sequence[int],
    strides: Sequence[int],
    smallest: Sequence[int],
) -> tuple[Axis, ...]:
    """Return where the cells of a map look, along each axis of its input.

    Cells made of patches side by side look at the middle of their patch. Elsewhere padding
    decides: most cells of a residual network look at the first voxel of their stride, not at its
    middle. So that is measured: on noise, the gradient of a cell in the middle of a map is largest
    around the voxel that it looks at. The network's parameters should need no gradients.

    Args:
        network: The module that makes the map.
        features: From (1, channels, *input) to (1, f, *map).
        channels: Of the input.
        size: Of the input, in voxels.
        cells: Of the map.
        strides: Voxels a cell.
        smallest: Smallest input that the network runs on.
    """
    overlapping = any(_overlaps(module) for module in network.modules())
    axes = []
    for axis, (voxels, count, stride) in enumerate(zip(size, cells, strides, strict=True)):
        # A map of another size than its stride says is spread evenly over the input.
        fits = count in (voxels // stride, -(-voxels // stride))
        step = float(stride) if fits else voxels / count
        first = (step - 1) / 2
        if fits and count > 1 and stride > 1 and overlapping:
            probe = [max(pair) for pair in zip(strides, smallest, strict=True)]
            probe[axis] = max(_CELLS * stride, -(-smallest[axis] // stride) * stride)
            probe[axis] += voxels % stride
            device = next(itertools.chain(network.parameters(), network.buffers())).device
            first = _measured(features, (1, channels, *probe), axis, stride, device)
        axes.append(Axis(first, step))
    return tuple(axes)


def _overlaps(module: nn.Module) -> bool:
    """Return whether this is a layer whose neighboring results share voxels, or that skips some."""
    kernel, stride = getattr(module, "kernel_size", None), getattr(module, "stride", None)
    if kernel is None or stride is None:
        return False
    kernels = kernel if isinstance(kernel, tuple) else (kernel,)
    strides = stride if isinstance(stride, tuple) else (stride,)
    wides = kernels * len(strides) if len(kernels) == 1 else kernels
    return any(step > 1 and wide != step for wide, step in zip(wides, strides, strict=True))


def _measured(
    features: Callable[[Tensor], Tensor],
    shape: Sequence[int],
    axis: int,
    stride: int,
    device: torch.device,
) -> float:
    """Return the voxel that the first cell along an axis looks at, from 0 to the stride's last."""
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    probe = noise.to(device).requires_grad_()
    with torch.enable_grad():
        found = features(probe)
        middle = [length // 2 for length in found.shape[2:]]
        cell = found[0]
        for place in middle:
            cell = cell[:, place]
        (gradient,) = torch.autograd.grad(cell.square().sum(), probe)
    others = [other for other in range(gradient.ndim) if other != axis + 2]
    strength = gradient.abs().sum(others)
    strength = torch.where(strength >= strength.max() / 2, strength, 0)
    voxels = torch.arange(len(strength), device=strength.device)
    center = float((strength * voxels).sum() / strength.sum())
    if not math.isfinite(center):  # the cell is dead on noise
        return (stride - 1) / 2
    return min(max(0.0, center - stride * middle[axis]), stride - 1.0)
