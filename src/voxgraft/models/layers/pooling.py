"""The 3D pooling layers of a twin."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.models.depth import DepthPadding
from voxgraft.models.layers.padding import DepthPadded, pad_depth, pad_same
from voxgraft.types import Size3

GlobalPooling = Literal["avg", "max", "avgmax", "catavgmax"]


class MaxPool3d(nn.Module):
    """Maximum over windows; beyond the border lies minus infinity.

    A volume constant along depth stays so under it, whatever the padding along depth.
    """

    def __init__(
        self,
        kernel_size: Size3,
        *,
        stride: Size3,
        padding: Size3 = (0, 0, 0),
        dilation: Size3 = (1, 1, 1),
        ceil_mode: bool = False,
        same: bool = False,
    ) -> None:
        """Make the layer; ``same`` pads by TensorFlow's SAME rule."""
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.ceil_mode = ceil_mode
        self.same = same

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c e i j"]:
        """Pool."""
        if self.same:
            low = -float("inf")
            x = pad_same(x, self.kernel_size, self.stride, self.dilation, "zeros", low)
        padding = (0, 0, 0) if self.same else self.padding
        return F.max_pool3d(
            x, self.kernel_size, self.stride, padding, self.dilation, self.ceil_mode
        )

    def extra_repr(self) -> str:
        """Show the geometry."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool3d(DepthPadded):
    """Mean over windows, with a choice of padding along depth."""

    def __init__(
        self,
        kernel_size: Size3,
        *,
        stride: Size3,
        padding: Size3 = (0, 0, 0),
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        same: bool = False,
        depth_padding: DepthPadding = "zeros",
    ) -> None:
        """Make the layer; ``same`` pads by TensorFlow's SAME rule."""
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.ceil_mode = ceil_mode
        self.count_include_pad = count_include_pad
        self.same = same
        self.depth_padding = depth_padding

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c e i j"]:
        """Pool."""
        depth, height, width = (0, 0, 0) if self.same else self.padding
        if self.same:
            x = pad_same(x, self.kernel_size, self.stride, (1, 1, 1), self.depth_padding)
        elif self.depth_padding == "replicate" and depth > 0:
            x, depth = pad_depth(x, depth, depth, "replicate"), 0
        return F.avg_pool3d(
            x,
            self.kernel_size,
            self.stride,
            (depth, height, width),
            self.ceil_mode,
            self.count_include_pad,
        )

    def extra_repr(self) -> str:
        """Show the geometry."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class GlobalPool3d(nn.Module):
    """Mean or maximum over the whole volume."""

    def __init__(self, kind: GlobalPooling, *, flatten: bool) -> None:
        """Make the layer.

        Args:
            kind: Mean, maximum, the mean of both, or both side by side.
            flatten: Whether the result is ``(b, c)`` instead of ``(b, c, 1, 1, 1)``.
        """
        super().__init__()
        self.kind = kind
        self.flatten = flatten

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Tensor:
        """Pool."""
        mean = x.mean((2, 3, 4), keepdim=not self.flatten) if self.kind != "max" else x
        if self.kind == "avg":
            return mean
        peak = x.amax((2, 3, 4), keepdim=not self.flatten)
        if self.kind == "max":
            return peak
        return torch.cat([mean, peak], 1) if self.kind == "catavgmax" else 0.5 * (mean + peak)

    def extra_repr(self) -> str:
        """Show the kind."""
        return f"{self.kind!r}, flatten={self.flatten}"


class WindowPool3d(nn.Module):
    """Mean over windows at every position, then over all windows: the middle counts more.

    Along an axis on which the map is no larger than a window, that is the mean.
    """

    def __init__(self, window: Size3) -> None:
        """Make the layer for windows of so many positions."""
        super().__init__()
        self.window = window

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c"]:
        """Pool."""
        window = tuple(min(n, size) for n, size in zip(self.window, x.shape[2:], strict=True))
        return F.avg_pool3d(x, window, stride=1).mean((2, 3, 4))

    def extra_repr(self) -> str:
        """Show the window."""
        return f"window={self.window}"
