"""The encoder of the 3D U-Net of Models Genesis."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.models.declaration import Declaration
from voxgraft.models.initialization import seeded
from voxgraft.models.layers.pooling import GlobalPool3d
from voxgraft.models.orientation import AXES, Oriented
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.models.volumetric.segresnet import doubling_strides

STAGES = ("down_tr64", "down_tr128", "down_tr256", "down_tr512")
"""Modules of the encoder: at full resolution, a half, a quarter, an eighth."""


class ConvNormAct(nn.Module):
    """A 3x3x3 convolution with bias, batch normalization and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        """Make the block."""
        super().__init__()
        self.conv1 = nn.Conv3d(in_channels, out_channels, 3, padding=1)
        self.bn1 = nn.BatchNorm3d(out_channels)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f d h w"]:
        """Convolve, normalize, activate."""
        out: Tensor = self.activation(self.bn1(self.conv1(x)))
        return out


def two_convolutions(in_channels: int, middle: int, out_channels: int) -> nn.Sequential:
    """Return the two blocks of a stage."""
    return nn.Sequential(ConvNormAct(in_channels, middle), ConvNormAct(middle, out_channels))


class _Down(nn.Module):
    """A stage, and the maximum over 2x2x2 voxels after it."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.ops = two_convolutions(in_channels, width // 2, width)
        self.maxpool = nn.MaxPool3d(2)


class GenesisEncoder(Oriented, SequentialEncoder):
    """The first half of the 3D U-Net of Models Genesis; its tensors have the original's names.

    Four stages of two convolutions, with 64, 128, 256 and 512 channels, and max pooling between
    them. The original normalizes each batch by its own mean and variance in evaluation too; this
    network then takes the running ones, which the original kept as well. In training both compute
    the same. The pooled vector is the mean of the last map.

    Source: arXiv:2004.07882; the code of MrGiovanni/ModelsGenesis (``pytorch/unet3d.py``).
    """

    def __init__(self, *, in_channels: int) -> None:
        """Make the network for volumes of ``in_channels`` channels."""
        widths = (64, 128, 256, 512)
        strides = doubling_strides(len(widths))
        ops = [f"{stage}.ops" for stage in STAGES]
        trunk = [name for stage in STAGES for name in (f"{stage}.ops", f"{stage}.maxpool")][:-1]
        declaration = Declaration(
            family="genesis_unet",
            stem="down_tr64.ops.0.conv1.weight",
            head="out_tr",
            feature_channels=widths,
            strides=strides,
            num_features=widths[-1],
            min_size=strides[-1],
            preferred_size=preferred_size(strides[-1]),
            twin_of=None,
            native="volume",
            reference="github.com/MrGiovanni/ModelsGenesis pytorch/unet3d.py UNet3D",
        )
        super().__init__(
            declaration, trunk=trunk, pool=("global_pool",), taps=ops, in_channels=in_channels
        )
        before = in_channels
        for stage, width in zip(STAGES, widths, strict=True):
            self.add_module(stage, _Down(before, width))
            before = width
        self.global_pool = GlobalPool3d("avg", flatten=True)


def build_genesis_unet(
    *, in_channels: int = 1, axes: str = AXES, seed: int | None = None
) -> GenesisEncoder:
    """Build the encoder of Models Genesis' U-Net with random weights.

    Args:
        in_channels: Channels of the volumes.
        axes: Directions to which the axes of the volumes ran in training ("RAS"); each volume is
            turned to them.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    check_options(in_channels, 0.0)
    with seeded(seed):
        encoder = GenesisEncoder(in_channels=in_channels)
    encoder.set_axes(axes)
    return encoder
