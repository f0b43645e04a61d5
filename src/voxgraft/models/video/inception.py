"""I3D as it was first: an inflated Inception network, padded as TensorFlow does."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.models.convolutional import build_convolutional
from voxgraft.models.declaration import Declaration
from voxgraft.models.depth import DepthPadding
from voxgraft.models.layers.convolution import Conv3d
from voxgraft.models.layers.pooling import GlobalPool3d, MaxPool3d
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.twin import preferred_size
from voxgraft.types import Size3

_ONE: Size3 = (1, 1, 1)
_THREE: Size3 = (3, 3, 3)

_MIXED: dict[str, tuple[int, tuple[int, int, int, int, int, int]]] = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
"""Channels before each block, and those of its convolutions, branch by branch."""

_POOLS: dict[str, tuple[Size3, Size3]] = {
    "MaxPool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "MaxPool3d_4a_3x3": (_THREE, (2, 2, 2)),
    "MaxPool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
}
"""Kernel and stride of each pooling."""

_ORDER = (
    "Conv3d_1a_7x7",
    "MaxPool3d_2a_3x3",
    "Conv3d_2b_1x1",
    "Conv3d_2c_3x3",
    "MaxPool3d_3a_3x3",
    "Mixed_3b",
    "Mixed_3c",
    "MaxPool3d_4a_3x3",
    "Mixed_4b",
    "Mixed_4c",
    "Mixed_4d",
    "Mixed_4e",
    "Mixed_4f",
    "MaxPool3d_5a_2x2",
    "Mixed_5b",
    "Mixed_5c",
)
_TAPS = ("Conv3d_1a_7x7", "Conv3d_2c_3x3", "Mixed_3c", "Mixed_4f", "Mixed_5c")
"""The stages end before the poolings."""

_STRIDES: tuple[Size3, ...] = ((2, 2, 2), (2, 4, 4), (2, 8, 8), (4, 16, 16), (8, 32, 32))


class Unit(nn.Module):
    """Convolution, batch normalization, and activation."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: Size3,
        padding: DepthPadding,
        stride: Size3 = _ONE,
    ) -> None:
        """Make the layers."""
        super().__init__()
        self.conv3d = Conv3d(
            in_channels,
            out_channels,
            kernel,
            stride=stride,
            bias=False,
            same=True,
            depth_padding=padding,
        )
        self.bn = nn.BatchNorm3d(out_channels, eps=1e-3, momentum=0.01)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f i j k"]:
        """Run them."""
        out: Tensor = self.act(self.bn(self.conv3d(x)))
        return out


class Mixed(nn.Module):
    """Four branches side by side."""

    def __init__(
        self, before: int, widths: tuple[int, int, int, int, int, int], padding: DepthPadding
    ) -> None:
        """Make the branches; ``widths`` are the channels of their convolutions, in order."""
        super().__init__()
        first, second_a, second_b, third_a, third_b, fourth = widths
        self.b0 = Unit(before, first, _ONE, padding)
        self.b1a = Unit(before, second_a, _ONE, padding)
        self.b1b = Unit(second_a, second_b, _THREE, padding)
        self.b2a = Unit(before, third_a, _ONE, padding)
        self.b2b = Unit(third_a, third_b, _THREE, padding)
        self.b3a = MaxPool3d(_THREE, stride=_ONE, same=True)
        self.b3b = Unit(before, fourth, _ONE, padding)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f d h w"]:
        """Run the branches."""
        branches = (
            self.b0(x),
            self.b1b(self.b1a(x)),
            self.b2b(self.b2a(x)),
            self.b3b(self.b3a(x)),
        )
        return torch.cat(branches, dim=1)


class InceptionI3D(SequentialEncoder):
    """The inflated Inception-v1; its tensors have the names of the known PyTorch conversion.

    Every layer is padded by TensorFlow's SAME rule, which depends on the input's size, so that any
    size runs. The feature vector is the mean over the whole map; the original has windows of
    (2, 7, 7) there, whose classes it averages: on 9 to 16 slices of 193 to 224 pixels the same.

    Source: arXiv:1705.07750, section 2.4 and figure 3.
    """

    def __init__(self, *, in_channels: int, padding: DepthPadding) -> None:
        """Make the network.

        Args:
            in_channels: Channels of the volumes.
            padding: What lies beyond the first and last slice, for convolutions.
        """
        declaration = Declaration(
            family="inception_i3d",
            stem="Conv3d_1a_7x7.conv3d.weight",
            head="logits",
            feature_channels=(64, 192, 480, 832, 1024),
            strides=_STRIDES,
            num_features=1024,
            min_size=(1, 1, 1),
            preferred_size=preferred_size(_STRIDES[-1]),
            twin_of=None,
            native="video",
            reference="piergiaj/pytorch-i3d pytorch_i3d.InceptionI3d",
        )
        super().__init__(
            declaration, trunk=_ORDER, pool=("global_pool",), taps=_TAPS, in_channels=in_channels
        )
        units = {
            "Conv3d_1a_7x7": Unit(in_channels, 64, (7, 7, 7), padding, (2, 2, 2)),
            "Conv3d_2b_1x1": Unit(64, 64, _ONE, padding),
            "Conv3d_2c_3x3": Unit(64, 192, _THREE, padding),
        }
        for name in _ORDER:
            if name in _MIXED:
                before, widths = _MIXED[name]
                self.add_module(name, Mixed(before, widths, padding))
            elif name in _POOLS:
                kernel, stride = _POOLS[name]
                self.add_module(name, MaxPool3d(kernel, stride=stride, same=True))
            else:
                self.add_module(name, units[name])
        self.global_pool = GlobalPool3d("avg", flatten=True)


def build_inception_i3d(
    *, in_channels: int = 1, depth_padding: DepthPadding = "zeros", seed: int | None = None
) -> InceptionI3D:
    """Build the network with random weights.

    Args:
        in_channels: Channels of the volumes.
        depth_padding: ``"zeros"`` or ``"replicate"``: what lies beyond the first and last slice.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    return build_convolutional(
        lambda: InceptionI3D(in_channels=in_channels, padding=depth_padding),
        in_channels=in_channels,
        depth_padding=depth_padding,
        seed=seed,
    )
