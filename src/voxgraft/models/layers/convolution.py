"""The 3D convolution of a twin."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.models.depth import DepthPadding
from voxgraft.models.layers.depthwise import depthwise_conv3d, fast_depthwise_fits
from voxgraft.models.layers.padding import DepthPadded, pad_depth, pad_same
from voxgraft.types import Size3


class Conv3d(nn.Conv3d, DepthPadded):
    """A 3D convolution with a choice of padding along depth, and TensorFlow's SAME padding."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size3,
        *,
        stride: Size3 = (1, 1, 1),
        padding: Size3 = (0, 0, 0),
        dilation: Size3 = (1, 1, 1),
        groups: int = 1,
        bias: bool = True,
        same: bool = False,
        depth_padding: DepthPadding = "zeros",
    ) -> None:
        """Make the layer, with PyTorch's own initialization.

        Args:
            in_channels: Channels of the input.
            out_channels: Channels of the output.
            kernel_size: Kernel, in voxels.
            stride: Stride, in voxels.
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
            stride=stride,
            padding=(0, 0, 0) if same else padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
        )
        self.same = same
        self._pads: Size3 = (0, 0, 0) if same else padding
        self._window: tuple[Size3, Size3, Size3] = (kernel_size, stride, dilation)
        self.depth_padding = depth_padding

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Convolve."""
        depth, height, width = self._pads
        if self.same:
            kernel, stride, dilation = self._window
            x = pad_same(x, kernel, stride, dilation, self.depth_padding)
        elif self.depth_padding == "replicate" and depth > 0:
            x, depth = pad_depth(x, depth, depth, "replicate"), 0
        if fast_depthwise_fits(x, self.weight, self.stride, self.dilation, self.groups):
            _, stride, _ = self._window
            return depthwise_conv3d(x, self.weight, self.bias, stride, (depth, height, width))
        return F.conv3d(
            x,
            self.weight,
            self.bias,
            self.stride,
            (depth, height, width),
            self.dilation,
            self.groups,
        )
