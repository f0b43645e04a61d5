"""Axial-coronal-sagittal convolution: 2D kernels, each lying in one of a volume's three planes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.models.depth import DepthPadding
from voxgraft.models.layers.depthwise import depthwise_conv3d, fast_depthwise_fits
from voxgraft.models.layers.padding import DepthPadded, pad_depth, pad_same
from voxgraft.types import Size3

Split = tuple[int, int, int]
"""Output channels whose kernels lie in the axial, the coronal and the sagittal plane."""


def three_planes(channels: int) -> Split:
    """Return the thirds of a layer's output channels; axial, then coronal, take what is over.

    Source: arXiv:1911.10477, section 3.2.
    """
    third, over = divmod(channels, 3)
    return third + (over > 0), third + (over > 1), third


@dataclass(frozen=True)
class _Run:
    """One convolution of those that make up the layer."""

    plane: int
    """Axis of the volume across which the kernel is one voxel thick: 0, 1 or 2."""
    inputs: tuple[int, int]
    """First input channel, and how many."""
    outputs: tuple[int, int]
    """First output channel, and how many."""
    groups: int


def _runs(split: Split, in_channels: int, groups: int) -> list[_Run]:
    """Cut the output channels where the plane changes, and where a group is cut by that."""
    out_group, in_group = sum(split) // groups, in_channels // groups
    runs: list[_Run] = []
    start = 0
    for plane, count in enumerate(split):
        end = start + count
        while start < end:
            group, within = divmod(start, out_group)
            whole = (end - start) // out_group if within == 0 else 0
            taken = whole * out_group if whole else min(end - start, out_group - within)
            width = in_group * max(whole, 1)
            runs.append(_Run(plane, (group * in_group, width), (start, taken), max(whole, 1)))
            start += taken
    return runs


class AcsConv3d(nn.Conv2d, DepthPadded):
    """A convolution of volumes by 2D kernels, a third of them in each plane.

    The state dict is that of the 2D layer. The first third of the output channels is convolved in
    the axial plane (height, width), the second in the coronal plane (depth, width), the last in the
    sagittal plane (depth, height); the kernel's height runs along the first of these axes. Along
    the axis across its plane, a kernel takes the voxel in the middle of the window that a cubic
    kernel would have, so strides and sizes are those of the inflated layer.

    Source:
        arXiv:1911.10477, section 3.2. The released code refuses groups other than one and one a
        channel; here the output channels of any layer are split in thirds, whatever their groups.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: Size3 = (1, 1, 1),
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        same: bool = False,
        depth_padding: DepthPadding = "zeros",
    ) -> None:
        """Make the layer, with PyTorch's own initialization of the 2D layer.

        Args:
            in_channels: Channels of the input.
            out_channels: Channels of the output.
            kernel_size: Height and width of the kernels, in voxels.
            stride: Stride, in voxels, (depth, height, width).
            padding: Padding on each side, in voxels; ignored where ``same`` is set.
            dilation: Distance of the kernel's taps, in voxels.
            groups: Groups of channels that do not see each other.
            bias: Whether a bias is added.
            same: Pad by TensorFlow's SAME rule, which depends on the input's size.
            depth_padding: What lies beyond the first and last slice.
        """
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride[1:],
            padding=0 if same else padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )
        self.same = same
        self.depth_padding = depth_padding
        self._stride = stride
        self._window = (kernel_size, 0 if same else padding, dilation)
        self.split: Split = three_planes(out_channels)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Convolve."""
        size, margin, dilation = self._window
        if size == 1 and margin == 0:
            return F.conv3d(x, self.weight.unsqueeze(2), self.bias, self._stride, 0, 1, self.groups)
        pads = [margin] * 3
        if self.same:
            kernel: Size3 = (size,) * 3
            x = pad_same(x, kernel, self._stride, (dilation,) * 3, self.depth_padding)
        elif self.depth_padding == "replicate" and margin > 0:
            x, pads[0] = pad_depth(x, margin, margin, "replicate"), 0
        weight = self.weight  # once: with an adapter on it, each use computes it again
        parts = [
            self._convolve(x, weight, run, pads)
            for run in _runs(self.split, self.in_channels, self.groups)
        ]
        out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return out if self.bias is None else out + self.bias.view(-1, 1, 1, 1)

    def _convolve(self, x: Tensor, weight: Tensor, run: _Run, pads: list[int]) -> Tensor:
        size, _, dilation = self._window
        kernel = weight.narrow(0, *run.outputs).unsqueeze(run.plane + 2)
        if run.inputs[1] < x.shape[1]:
            x = x.narrow(1, *run.inputs)
        axis, stride = run.plane + 2, list(self._stride)
        pad, reach = pads[run.plane], dilation * (size - 1)
        count = (x.shape[axis] + 2 * pad - reach - 1) // stride[run.plane] + 1
        if count < 1:
            raise RuntimeError(
                f"a kernel that reaches over {reach + 1} voxels is larger than the padded input "
                f"{tuple(x.shape)}"
            )
        first = dilation * (size // 2) - pad
        last = first + (count - 1) * stride[run.plane]
        short, long = max(-first, 0), max(last + 1 - x.shape[axis], 0)
        if short or long:  # more padding than the kernel's reach
            x = F.pad(x, [0, 0] * (4 - axis) + [short, long])
            first, last = first + short, last + short
        if stride[run.plane] > 1 and (run.groups > 1 or x.is_contiguous()):
            # Here, leaving slices out beforehand is faster than a kernel that steps over them.
            index = [slice(None)] * 5
            index[axis] = slice(first, last + 1, stride[run.plane])
            x, stride[run.plane] = x[tuple(index)], 1
        elif first or last + stride[run.plane] < x.shape[axis]:
            x = x.narrow(axis, first, last + 1 - first)
        padding, step = _triple(pads, run.plane), _triple(stride)
        dilations = (dilation,) * 3
        if fast_depthwise_fits(x, kernel, step, dilations, run.groups):
            return depthwise_conv3d(x, kernel, None, step, padding)
        if x.shape[1] == 1:
            # PyTorch 2.14 leaves a result of width 1 unwritten if one channel lies channels-last.
            x = x.clone(memory_format=torch.contiguous_format)
        return F.conv3d(x, kernel, None, step, padding, dilations, run.groups)


def _triple(values: list[int], zero: int | None = None) -> Size3:
    depth, height, width = (0 if axis == zero else v for axis, v in enumerate(values))
    return depth, height, width


@contextmanager
def laid_axially(network: nn.Module) -> Iterator[None]:
    """Lay all kernels of a network in the axial plane, for the length of the block.

    Its features, in each slice, are then those of the 2D network on the slices that it keeps.
    """
    layers = [module for module in network.modules() if isinstance(module, AcsConv3d)]
    for layer in layers:
        layer.split = (layer.out_channels, 0, 0)
    try:
        yield
    finally:
        for layer in layers:
            layer.split = three_planes(layer.out_channels)
