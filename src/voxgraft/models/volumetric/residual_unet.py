"""The encoder of MONAI's U-Net with residual units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from voxgraft.models.declaration import Declaration
from voxgraft.models.initialization import seeded
from voxgraft.models.layers.pooling import GlobalPool3d
from voxgraft.models.orientation import AXES, Oriented
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.models.volumetric.segresnet import doubling_strides


class ResidualUNetEncoder(Oriented, SequentialEncoder):
    """The first half of MONAI's ``UNet`` with residual units, batch normalization and PReLU.

    All stages but the last halve the resolution, the first one too. MONAI nests its stages in one
    another; here they are ``down.0``, ``down.1``, ... from the input on, and the key layout
    ``monai-unet`` maps the names. Two kernels take the input: that of the first convolution and
    that of the shortcut around it. The pooled vector is the mean of the last map.

    Source: Kerfoot et al., STACOM 2018 (10.1007/978-3-030-12029-0_40).
    """

    def __init__(self, *, in_channels: int, channels: Sequence[int], units: int) -> None:
        """Make the network.

        Args:
            in_channels: Channels of the volumes.
            channels: Channels of each stage.
            units: Convolutions of each residual unit.
        """
        from monai.networks.blocks.convolutions import ResidualUnit

        count = len(channels)
        down = doubling_strides(count - 1, first=2)
        strides = (*down, down[-1])
        stages = [f"down.{stage}" for stage in range(count)]
        declaration = Declaration(
            family="residual_unet",
            stem="down.0.conv.unit0.conv.weight",
            more_stems=("down.0.residual.weight",),
            head="up",
            feature_channels=tuple(channels),
            strides=strides,
            num_features=channels[-1],
            min_size=(1, 1, 1),
            preferred_size=preferred_size(strides[-1]),
            twin_of=None,
            native="volume",
            reference="monai.networks.nets.UNet",
        )
        super().__init__(
            declaration, trunk=stages, pool=("global_pool",), taps=stages, in_channels=in_channels
        )
        self.down = nn.ModuleList()
        before = in_channels
        for stage, width in enumerate(channels):
            unit: Any = ResidualUnit(
                spatial_dims=3,
                in_channels=before,
                out_channels=width,
                strides=2 if stage < count - 1 else 1,
                subunits=units,
                act="prelu",
                norm="batch",
            )
            self.down.append(unit)
            before = width
        self.global_pool = GlobalPool3d("avg", flatten=True)


def build_residual_unet(
    channels: tuple[int, ...],
    units: int,
    *,
    in_channels: int = 1,
    axes: str = AXES,
    seed: int | None = None,
) -> ResidualUNetEncoder:
    """Build the encoder of MONAI's U-Net with residual units, with random weights.

    Args:
        channels: Channels of each stage.
        units: Convolutions of each residual unit.
        in_channels: Channels of the volumes.
        axes: Directions to which the axes of the volumes ran in training ("RAS"); each volume is
            turned to them.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    check_options(in_channels, 0.0)
    with seeded(seed):
        encoder = ResidualUNetEncoder(in_channels=in_channels, channels=channels, units=units)
    encoder.set_axes(axes)
    return encoder
