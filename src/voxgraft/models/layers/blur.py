"""Blurring before a stride, over volumes."""

from __future__ import annotations

from math import comb

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.models.layers.padding import pad_depth
from voxgraft.types import Size3


class BlurPool3d(nn.Module):
    """A binomial filter with a stride.

    Beyond the first and last slice lies that slice again, so that a volume constant along depth
    stays constant.

    Source: arXiv:1904.11486, section 3.2, as timm's ``BlurPool2d``.
    """

    kernel: Tensor

    def __init__(
        self, filter_size: int, stride: Size3, *, padding: int, pad_mode: str, flat: bool
    ) -> None:
        """Make the layer.

        Args:
            filter_size: Taps of the filter along each axis.
            stride: Stride, in voxels.
            padding: Voxels added on each side.
            pad_mode: What is added in the plane ("reflect", ...).
            flat: Whether the filter is one slice deep.
        """
        super().__init__()
        self.stride = stride
        self.padding = padding
        self.pad_mode = pad_mode
        self.flat = flat
        taps = [comb(filter_size - 1, k) / 2 ** (filter_size - 1) for k in range(filter_size)]
        line = torch.tensor(taps, device="cpu")
        deep = torch.ones(1) if flat else line
        kernel = torch.einsum("d,h,w->dhw", deep, line, line)
        self.register_buffer("kernel", kernel[None, None], persistent=False)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c e i j"]:
        """Blur and sample."""
        batch, channels, depth, height, width = x.shape
        pads = (self.padding,) * 4
        # Padding modes other than constant take one axis of channels less for a plane.
        planes = F.pad(x.reshape(batch, channels * depth, height, width), pads, mode=self.pad_mode)
        x = planes.view(batch, channels, depth, *planes.shape[2:])
        if not self.flat:
            x = pad_depth(x, self.padding, self.padding, "replicate")
        kernel = self.kernel.expand(channels, -1, -1, -1, -1)
        return F.conv3d(x, kernel, stride=self.stride, groups=channels)
