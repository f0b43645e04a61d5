"""The encoder of a narrow 3D U-Net: deepbrain's network for brain extraction."""

from __future__ import annotations

from torch import nn

from voxgraft.models.convolutional import build_convolutional
from voxgraft.models.declaration import Declaration
from voxgraft.models.depth import DepthPadding
from voxgraft.models.layers.convolution import Conv3d
from voxgraft.models.layers.pooling import GlobalPool3d, MaxPool3d
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.twin import preferred_size

_WIDTHS = (8, 16, 32)


class DeepBrainEncoder(SequentialEncoder):
    """Three times two 3x3x3 convolutions with bias and ReLU, each pair pooled by two.

    There is no normalization, and no convolution after the last pooling: the final feature map is
    the pooled one, which the original gives to its decoder. Its dropout of 0.3 after each pooling,
    in training alone, is left out. Sizes that are no multiple of 8 lose the rest, as pooling
    without padding does.

    Source: arXiv:1505.04597, figure 1, in three dimensions and narrow; the layers are those of the
    graph in deepbrain 0.1, which has no paper.
    """

    def __init__(self, *, in_channels: int, depth_padding: DepthPadding) -> None:
        """Make the network.

        Args:
            in_channels: Channels of the volumes.
            depth_padding: What lies beyond the first and last slice.
        """
        strides = tuple((step, step, step) for step in (1, 2, 4, 8))
        declaration = Declaration(
            family="deepbrain",
            stem="down0.0.weight",
            head="conv3d_9",
            feature_channels=(*_WIDTHS, _WIDTHS[-1]),
            strides=strides,
            num_features=_WIDTHS[-1],
            min_size=strides[-1],
            preferred_size=preferred_size(strides[-1]),
            twin_of=None,
            native="volume",
            reference="deepbrain 0.1, deepbrain/models/graph.pb",
        )
        super().__init__(
            declaration,
            trunk=("down0", "pool0", "down1", "pool1", "down2", "pool2"),
            pool=("global_pool",),
            taps=("down0", "down1", "down2", "pool2"),
            in_channels=in_channels,
        )
        before = in_channels
        for level, width in enumerate(_WIDTHS):
            pair = nn.Sequential(
                _convolution(before, width, depth_padding),
                nn.ReLU(inplace=True),
                _convolution(width, width, depth_padding),
                nn.ReLU(inplace=True),
            )
            self.add_module(f"down{level}", pair)
            self.add_module(f"pool{level}", MaxPool3d((2, 2, 2), stride=(2, 2, 2)))
            before = width
        self.global_pool = GlobalPool3d("avg", flatten=True)


def _convolution(in_channels: int, out_channels: int, depth_padding: DepthPadding) -> Conv3d:
    return Conv3d(
        in_channels, out_channels, (3, 3, 3), padding=(1, 1, 1), depth_padding=depth_padding
    )


def build_deepbrain_unet(
    *, in_channels: int = 1, depth_padding: DepthPadding = "zeros", seed: int | None = None
) -> DeepBrainEncoder:
    """Build the encoder of deepbrain's 3D U-Net with random weights.

    Args:
        in_channels: Channels of the volumes.
        depth_padding: ``"zeros"`` or ``"replicate"``: what lies beyond the first and last slice.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    return build_convolutional(
        lambda: DeepBrainEncoder(in_channels=in_channels, depth_padding=depth_padding),
        in_channels=in_channels,
        depth_padding=depth_padding,
        seed=seed,
    )
