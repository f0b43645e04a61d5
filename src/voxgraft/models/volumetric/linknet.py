"""The encoder of a 3D LinkNet, with the names of deepbet's brain extraction network."""

from __future__ import annotations

from collections import OrderedDict

from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.models.convolutional import build_convolutional
from voxgraft.models.declaration import Declaration
from voxgraft.models.depth import DepthPadding
from voxgraft.models.layers.convolution import Conv3d
from voxgraft.models.layers.pooling import GlobalPool3d
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.twin import preferred_size

_WIDTHS = (16, 32, 64, 128)
_SMALLEST = 33  # voxels: instance normalization in the last stage needs more than one


class Block(nn.Module):
    """Two 3x3x3 convolutions with instance normalization around a shortcut."""

    def __init__(
        self, in_channels: int, width: int, stride: int, *, depth_padding: DepthPadding
    ) -> None:
        """Make the block; only its first convolution has the stride."""
        super().__init__()
        self.double_conv = nn.Sequential(
            _convolution(in_channels, width, 3, stride, depth_padding),
            nn.InstanceNorm3d(width),
            nn.ReLU(inplace=True),
            _convolution(width, width, 3, 1, depth_padding),
            nn.InstanceNorm3d(width),
        )
        changes = stride != 1 or in_channels != width
        self.downsample = (
            nn.Sequential(
                _convolution(in_channels, width, 1, stride, depth_padding),
                nn.InstanceNorm3d(width),
            )
            if changes
            else nn.Identity()
        )
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f i j k"]:
        """Add the shortcut and activate."""
        out: Tensor = self.act(self.double_conv(x) + self.downsample(x))
        return out


def _convolution(
    in_channels: int, out_channels: int, kernel: int, stride: int, depth_padding: DepthPadding
) -> Conv3d:
    return Conv3d(
        in_channels,
        out_channels,
        (kernel,) * 3,
        stride=(stride,) * 3,
        padding=(kernel // 2,) * 3,
        bias=False,
        depth_padding=depth_padding,
    )


class LinkNetEncoder(SequentialEncoder):
    """A ResNet-18 of a quarter of the width, with instance normalization and no affine values.

    The pooled vector is the mean of the last map, which the original gives to its decoder. As
    instance normalization has no running statistics, features of a crop depend on all of the crop.

    Source: arXiv:1707.03718, figure 2, in three dimensions; the tensors are named, and the layers
    laid out, as in the network of arXiv:2308.07003.
    """

    def __init__(self, *, in_channels: int, depth_padding: DepthPadding) -> None:
        """Make the network.

        Args:
            in_channels: Channels of the volumes.
            depth_padding: What lies beyond the first and last slice.
        """
        strides = tuple((step, step, step) for step in (2, 4, 8, 16, 32))
        taps = ("init.2", "down0", "down1", "down2", "down3")
        declaration = Declaration(
            family="linknet",
            stem="init.0.weight",
            head="tp_conv2",
            feature_channels=(_WIDTHS[0], *_WIDTHS),
            strides=strides,
            num_features=_WIDTHS[-1],
            min_size=(_SMALLEST,) * 3,
            preferred_size=preferred_size(strides[-1]),
            twin_of=None,
            native="volume",
            reference="deepbet 1.0.2, data/models/model.pt",
        )
        super().__init__(
            declaration,
            trunk=("init.0", "init.1", "init.2", "init.3", *taps[1:]),
            pool=("global_pool",),
            taps=taps,
            in_channels=in_channels,
        )
        self.init = nn.Sequential(
            _convolution(in_channels, _WIDTHS[0], 7, 2, depth_padding),
            nn.InstanceNorm3d(_WIDTHS[0]),
            nn.ReLU(inplace=True),
            nn.MaxPool3d(3, stride=2, padding=1),
        )
        before = _WIDTHS[0]
        for stage, width in enumerate(_WIDTHS):
            blocks = [
                ("block1", Block(before, width, 2 if stage else 1, depth_padding=depth_padding)),
                ("block2", Block(width, width, 1, depth_padding=depth_padding)),
            ]
            self.add_module(f"down{stage}", nn.Sequential(OrderedDict(blocks)))
            before = width
        self.global_pool = GlobalPool3d("avg", flatten=True)


def build_linknet(
    *, in_channels: int = 1, depth_padding: DepthPadding = "zeros", seed: int | None = None
) -> LinkNetEncoder:
    """Build the encoder of a 3D LinkNet with random weights.

    Args:
        in_channels: Channels of the volumes.
        depth_padding: ``"zeros"`` or ``"replicate"``: what lies beyond the first and last slice.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    return build_convolutional(
        lambda: LinkNetEncoder(in_channels=in_channels, depth_padding=depth_padding),
        in_channels=in_channels,
        depth_padding=depth_padding,
        seed=seed,
    )
