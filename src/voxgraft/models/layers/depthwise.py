"""Depthwise 3D convolution on the CPU with a fast backward pass.

oneDNN's forward pass is fast where the channels lie innermost; its backward passes are not (5 to 50
times the forward pass; measured by ``benchmarks/twin_speed.py``). Both gradients are
convolutions themselves, so both are computed by the forward kernel:

- by the input: the output's gradient, with zeros put between its voxels where the layer has a
  stride, convolved with the mirrored kernel;
- by the kernel: the input convolved with the output's gradient as the kernel, each sample's each
  channel by itself, then summed over the samples.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from voxgraft.types import Size3

_ONE: Size3 = (1, 1, 1)
_SMALL_MAP_VOXELS = 64
"""Strided layers with larger output maps take oneDNN's own gradient by the kernel: zeros between
the voxels would cost more there."""


def fast_depthwise_fits(
    x: Tensor, weight: Tensor, stride: tuple[int, ...], dilation: tuple[int, ...], groups: int
) -> bool:
    """Tell whether :func:`depthwise_conv3d` computes this convolution, and pays off.

    It does for depthwise convolutions in float32 on the CPU, outside of autocasting, tracing and
    compilation.
    """
    return (
        groups > 1
        and groups == x.shape[1] == weight.shape[0]
        and max(dilation) == 1
        and all(size >= step for size, step in zip(weight.shape[2:], stride, strict=True))
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and not torch.is_autocast_enabled("cpu")
        and not _is_traced()
    )


def _is_traced() -> bool:
    traced: bool = torch._C._get_tracing_state() is not None
    return traced or torch.compiler.is_compiling()


def depthwise_conv3d(
    x: Float[Tensor, "b c d h w"],
    weight: Float[Tensor, "c 1 i j k"],
    bias: Float[Tensor, " c"] | None,
    stride: Size3,
    padding: Size3,
) -> Float[Tensor, "b c e f g"]:
    """Convolve each channel with its own kernel; the result is laid out channels-last.

    Args:
        x: The volumes, float32, on the CPU.
        weight: One kernel a channel; along each axis at least as large as the stride.
        bias: Added to each channel.
        stride: Stride, in voxels.
        padding: Zeros on each side, in voxels.

    Returns:
        What ``torch.nn.functional.conv3d`` gives, to rounding. It can be differentiated once.
    """
    out: Tensor = _DepthwiseConv3d.apply(x, weight, stride, padding)
    return out if bias is None else out + bias.view(-1, 1, 1, 1)


class _DepthwiseConv3d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: Size3, padding: Size3) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last_3d)
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv3d(x, weight, None, stride, padding, 1, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        stride, padding = ctx.stride, ctx.padding
        grad = grad.contiguous(memory_format=torch.channels_last_3d)
        small = max(stride) == 1 or math.prod(grad.shape[2:]) <= _SMALL_MAP_VOXELS
        by_input = by_weight = None
        if ctx.needs_input_grad[1] and not small:
            by_weight = _native_gradient_by_weight(grad, x, weight, stride, padding)
        if ctx.needs_input_grad[0] or (ctx.needs_input_grad[1] and small):
            spread = _spread(grad, stride)
            if ctx.needs_input_grad[0]:
                by_input = _gradient_by_input(spread, weight, x.shape, padding)
            if by_weight is None and ctx.needs_input_grad[1]:
                by_weight = _gradient_by_weight(spread, x, weight, padding)
        return by_input, by_weight, None, None


def _spread(grad: Tensor, stride: Size3) -> Tensor:
    """Put ``stride - 1`` zeros between the voxels."""
    if max(stride) == 1:
        return grad
    batch, channels, *size = grad.shape
    deep, high, wide = ((n - 1) * step + 1 for n, step in zip(size, stride, strict=True))
    spread = grad.new_zeros((batch, deep, high, wide, channels)).permute(0, 4, 1, 2, 3)
    spread[:, :, :: stride[0], :: stride[1], :: stride[2]] = grad
    return spread


def _gradient_by_input(spread: Tensor, weight: Tensor, shape: torch.Size, pad: Size3) -> Tensor:
    """Convolve with the mirrored kernel, so that the result has the input's shape."""
    kernel = weight.shape[2:]
    missing = []
    for axis in (2, 1, 0):
        before = kernel[axis] - 1 - pad[axis]
        after = shape[axis + 2] + pad[axis] - spread.shape[axis + 2]
        missing += [before, after]
    width, height, depth = missing[0:2], missing[2:4], missing[4:6]
    if all(before == after >= 0 for before, after in (width, height, depth)):
        padding = (depth[0], height[0], width[0])
    else:
        # Negative numbers crop: the kernel's reach ends beyond the padding.
        spread, padding = F.pad(spread, missing), (0, 0, 0)
        spread = spread.contiguous(memory_format=torch.channels_last_3d)
    return F.conv3d(spread, weight.flip(2, 3, 4), None, _ONE, padding, _ONE, shape[1])


def _gradient_by_weight(spread: Tensor, x: Tensor, weight: Tensor, pad: Size3) -> Tensor:
    """Correlate input and gradient, each sample's each channel by itself."""
    batch, channels = x.shape[:2]
    planes = x.permute(2, 3, 4, 0, 1).reshape(1, *x.shape[2:], batch * channels)
    kernels = spread.reshape(batch * channels, 1, *spread.shape[2:])
    deep, high, wide = weight.shape[2:]
    out = F.conv3d(planes.permute(0, 4, 1, 2, 3), kernels, None, _ONE, pad, _ONE, len(kernels))
    out = out[..., :deep, :high, :wide].reshape(batch, channels, 1, deep, high, wide)
    return out.sum(0)


def _native_gradient_by_weight(
    grad: Tensor, x: Tensor, weight: Tensor, stride: Size3, pad: Size3
) -> Tensor:
    by_weight: Tensor = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        None,
        stride,
        pad,
        _ONE,
        False,
        (0, 0, 0),
        x.shape[1],
        (False, True, False),
    )[1]
    return by_weight
