"""The parts of PyTorchVideo's residual networks; the submodules have PyTorchVideo's names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.models.depth import DepthPadding
from voxgraft.models.layers.convolution import Conv3d
from voxgraft.models.layers.pooling import MaxPool3d
from voxgraft.types import Size3

Middle = Literal["plane", "depthwise", "preserved", "separated"]
"""The middle convolution of a bottleneck: ``"plane"``: (1, 3, 3); ``"depthwise"``: (3, 3, 3) on
each channel by itself; ``"preserved"``: (1, 1, 1) before that; ``"separated"``: (3, 1, 1), then
(1, 3, 3)."""

ONE: Size3 = (1, 1, 1)


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: Size3,
    padding: DepthPadding,
    *,
    stride: Size3 = ONE,
    groups: int = 1,
) -> Conv3d:
    """Make a convolution without bias that is padded by half its kernel.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Kernel, in voxels; odd.
        padding: What lies beyond the first and last slice.
        stride: Stride, in voxels.
        groups: Groups of channels that do not see each other.
    """
    depth, height, width = kernel_size
    return Conv3d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=(depth // 2, height // 2, width // 2),
        groups=groups,
        bias=False,
        depth_padding=padding,
    )


class Stem(nn.Module):
    """A convolution of stride 2 in the plane, and maximum pooling that halves the plane again."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth_kernel: int,
        padding: DepthPadding,
        *,
        pooled: bool,
    ) -> None:
        """Make the stem.

        Args:
            in_channels: Channels of the volumes.
            out_channels: Channels of the result.
            depth_kernel: Slices that the convolution sees.
            padding: What lies beyond the first and last slice.
            pooled: Whether there is pooling.
        """
        super().__init__()
        kernel = (depth_kernel, 7, 7)
        self.conv: nn.Module = convolution(
            in_channels, out_channels, kernel, padding, stride=(1, 2, 2)
        )
        self.norm = nn.BatchNorm3d(out_channels)
        self.activation = nn.ReLU(inplace=True)
        self.pool = (
            MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)) if pooled else nn.Identity()
        )

    def unpooled(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f d i j"]:
        """Convolve, normalize and activate."""
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f d i j"]:
        """Run the whole stem."""
        out: Tensor = self.pool(self.unpooled(x))
        return out


class SeparatedConvolution(nn.Module):
    """A convolution along depth, then one in the plane.

    Source: arXiv:1711.11248, section 3.5, in PyTorchVideo's order, which is the reverse, and with
    as many channels between the two as before.
    """

    def __init__(self, channels: int, stride: Size3, padding: DepthPadding) -> None:
        """Make the pair; each has the stride of its own axes."""
        super().__init__()
        along, across = (stride[0], 1, 1), (1, *stride[1:])
        self.conv_t = convolution(channels, channels, (3, 1, 1), padding, stride=along)
        self.norm = nn.BatchNorm3d(channels)
        self.activation = nn.ReLU(inplace=True)
        self.conv_xy = convolution(channels, channels, (1, 3, 3), padding, stride=across)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c e i j"]:
        """Convolve along depth, normalize, activate, convolve in the plane."""
        out: Tensor = self.conv_xy(self.activation(self.norm(self.conv_t(x))))
        return out


class PreservedConvolution(nn.Module):
    """A convolution across channels, then one on each channel by itself.

    Source: arXiv:1904.02811, section 3.3 (interaction-preserved).
    """

    def __init__(self, channels: int, stride: Size3, padding: DepthPadding) -> None:
        """Make the pair; the second has the stride."""
        super().__init__()
        self.mix = convolution(channels, channels, ONE, padding)
        self.norm = nn.BatchNorm3d(channels)
        self.conv = convolution(
            channels, channels, (3, 3, 3), padding, stride=stride, groups=channels
        )

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c e i j"]:
        """Mix the channels, normalize, convolve each."""
        out: Tensor = self.conv(self.norm(self.mix(x)))
        return out


def _middle_convolution(
    kind: Middle, channels: int, stride: Size3, padding: DepthPadding
) -> nn.Module:
    if kind == "separated":
        return SeparatedConvolution(channels, stride, padding)
    if kind == "preserved":
        return PreservedConvolution(channels, stride, padding)
    if kind == "depthwise":
        kernel = (3, 3, 3)
        return convolution(channels, channels, kernel, padding, stride=stride, groups=channels)
    return convolution(channels, channels, (1, 3, 3), padding, stride=stride)


class Bottleneck(nn.Module):
    """A convolution between two that change the number of channels."""

    def __init__(
        self,
        widths: tuple[int, int, int],
        conv_a: nn.Module,
        conv_b: nn.Module,
        padding: DepthPadding,
        *,
        norm_b: nn.Module | None = None,
        act_b: nn.Module | None = None,
    ) -> None:
        """Make the bottleneck.

        Args:
            widths: Channels before, in and after the bottleneck.
            conv_a: From the first to the second.
            conv_b: The middle one.
            padding: What lies beyond the first and last slice.
            norm_b: After ``conv_b``; by default batch normalization.
            act_b: After that; by default the positive part.
        """
        super().__init__()
        _, inner, after = widths
        self.conv_a = conv_a
        self.norm_a = nn.BatchNorm3d(inner)
        self.act_a = nn.ReLU(inplace=True)
        self.conv_b = conv_b
        self.norm_b = nn.BatchNorm3d(inner) if norm_b is None else norm_b
        self.act_b = nn.ReLU(inplace=True) if act_b is None else act_b
        self.conv_c = convolution(inner, after, ONE, padding)
        self.norm_c = nn.BatchNorm3d(after)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Return the residual."""
        x = self.act_a(self.norm_a(self.conv_a(x)))
        x = self.act_b(self.norm_b(self.conv_b(x)))
        out: Tensor = self.norm_c(self.conv_c(x))
        return out

    def zero_init_last(self) -> None:
        """Let the residual begin as zero."""
        nn.init.zeros_(self.norm_c.weight)


class ResidualBlock(nn.Module):
    """A bottleneck around a shortcut."""

    def __init__(
        self, shortcut: nn.Module | None, norm: nn.Module | None, bottleneck: Bottleneck
    ) -> None:
        """Join the parts; without ``shortcut`` the input itself is added."""
        super().__init__()
        self.branch1_conv = shortcut
        self.branch1_norm = norm
        self.branch2 = bottleneck
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Add the residual and activate."""
        shortcut = x if self.branch1_conv is None else self.branch1_conv(x)
        if self.branch1_norm is not None:
            shortcut = self.branch1_norm(shortcut)
        out: Tensor = self.activation(shortcut + self.branch2(x))
        return out


class ResidualStage(nn.Module):
    """Residual blocks, the first of which has the stage's stride."""

    def __init__(self, blocks: Sequence[ResidualBlock]) -> None:
        """Join the blocks."""
        super().__init__()
        self.res_blocks = nn.ModuleList(blocks)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Run the blocks one after the other."""
        for block in self.res_blocks:
            x = block(x)
        return x


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """What a stage of bottlenecks is made of.

    Attributes:
        blocks: Number of blocks.
        widths: Channels before the stage, in its bottlenecks, and after it.
        stride: Of its first block.
        first_depths: Slices that the first convolution of each block sees, repeated as often as
            there are blocks.
        middle: Kind of the middle convolutions.
    """

    blocks: int
    widths: tuple[int, int, int]
    stride: Size3
    first_depths: tuple[int, ...] = (1,)
    middle: Middle = "plane"

    def build(self, padding: DepthPadding) -> ResidualStage:
        """Build the stage."""
        return ResidualStage([self._block(index, padding) for index in range(self.blocks)])

    def _block(self, index: int, padding: DepthPadding) -> ResidualBlock:
        before, inner, after = self.widths
        stride = self.stride if index == 0 else ONE
        before = before if index == 0 else after
        depth = self.first_depths[index % len(self.first_depths)]
        changes = before != after or stride != ONE
        return ResidualBlock(
            convolution(before, after, ONE, padding, stride=stride) if changes else None,
            nn.BatchNorm3d(after) if changes else None,
            Bottleneck(
                (before, inner, after),
                convolution(before, inner, (depth, 1, 1), padding),
                _middle_convolution(self.middle, inner, stride, padding),
                padding,
            ),
        )
