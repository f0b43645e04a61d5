"""The decoders of MONAI's UNETR and Swin UNETR."""

from __future__ import annotations

from torch import Tensor, nn

from voxgraft.models.decoders.decoder import Decoder

_STEMS = frozenset({"encoder1.layer.conv1.conv.weight", "encoder1.layer.conv3.conv.weight"})


def _block(in_channels: int, out_channels: int) -> nn.Module:
    """Return a residual block that keeps the grid."""
    from monai.networks.blocks.unetr_block import UnetrBasicBlock

    return UnetrBasicBlock(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=3,
        stride=1,
        norm_name="instance",
        res_block=True,
    )


def _up(in_channels: int, out_channels: int) -> nn.Module:
    """Return a block that doubles the resolution and joins a map of ``out_channels``."""
    from monai.networks.blocks.unetr_block import UnetrUpBlock

    return UnetrUpBlock(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        kernel_size=3,
        upsample_kernel_size=2,
        norm_name="instance",
        res_block=True,
    )


def _projected(in_channels: int, out_channels: int, doublings: int) -> nn.Module:
    """Return a block that doubles the resolution once more than ``doublings`` times."""
    from monai.networks.blocks.unetr_block import UnetrPrUpBlock

    return UnetrPrUpBlock(
        spatial_dims=3,
        in_channels=in_channels,
        out_channels=out_channels,
        num_layer=doublings,
        kernel_size=3,
        stride=1,
        upsample_kernel_size=2,
        norm_name="instance",
        conv_block=True,
        res_block=True,
    )


class SwinUNETRDecoder(Decoder):
    """All of MONAI's Swin UNETR but its transformer; its tensors have MONAI's names.

    That includes ``encoder1`` to ``encoder10``, the residual blocks between the transformer's
    maps and the decoder, of which the first takes the volume itself.

    Source: arXiv:2201.01266, section 3.
    """

    original_head = "out.conv.conv"
    stems = _STEMS

    def __init__(self, *, in_channels: int, feature_size: int) -> None:
        """Make the decoder.

        Args:
            in_channels: Channels of the volumes.
            feature_size: Channels of the transformer's first map.
        """
        size = feature_size
        strides = [(step, step, step) for step in (1, 2, 4, 8, 16)]
        super().__init__((size, size, 2 * size, 4 * size, 8 * size), strides)
        self.encoder1 = _block(in_channels, size)
        self.encoder2 = _block(size, size)
        self.encoder3 = _block(2 * size, 2 * size)
        self.encoder4 = _block(4 * size, 4 * size)
        self.encoder10 = _block(16 * size, 16 * size)
        self.decoder5 = _up(16 * size, 8 * size)
        self.decoder4 = _up(8 * size, 4 * size)
        self.decoder3 = _up(4 * size, 2 * size)
        self.decoder2 = _up(2 * size, size)
        self.decoder1 = _up(size, size)

    def deepest(self, stages: list[Tensor]) -> Tensor:
        """Return the transformer's last map after its residual block."""
        out: Tensor = self.encoder10(stages[4])
        return out

    def forward(self, x: Tensor, stages: list[Tensor]) -> list[Tensor]:
        """Return the map of each level, finest first."""
        eighth = self.decoder5(self.deepest(stages), stages[3])
        quarter = self.decoder4(eighth, self.encoder4(stages[2]))
        half = self.decoder3(quarter, self.encoder3(stages[1]))
        first = self.decoder2(half, self.encoder2(stages[0]))
        return [self.decoder1(first, self.encoder1(x)), first, half, quarter, eighth]


class UNETRDecoder(Decoder):
    """All of MONAI's UNETR but its transformer; its tensors have MONAI's names.

    Source: arXiv:2103.10504, section 3.
    """

    original_head = "out.conv.conv"
    stems = _STEMS

    def __init__(self, *, in_channels: int, width: int, feature_size: int = 16) -> None:
        """Make the decoder.

        Args:
            in_channels: Channels of the volumes.
            width: Length of a token.
            feature_size: Channels on the volume's own grid.
        """
        size = feature_size
        strides = [(step, step, step) for step in (1, 2, 4, 8)]
        super().__init__((size, 2 * size, 4 * size, 8 * size), strides)
        self.encoder1 = _block(in_channels, size)
        self.encoder2 = _projected(width, 2 * size, 2)
        self.encoder3 = _projected(width, 4 * size, 1)
        self.encoder4 = _projected(width, 8 * size, 0)
        self.decoder5 = _up(width, 8 * size)
        self.decoder4 = _up(8 * size, 4 * size)
        self.decoder3 = _up(4 * size, 2 * size)
        self.decoder2 = _up(2 * size, size)

    def forward(self, x: Tensor, stages: list[Tensor]) -> list[Tensor]:
        """Return the map of each level, finest first."""
        eighth = self.decoder5(stages[3], self.encoder4(stages[2]))
        quarter = self.decoder4(eighth, self.encoder3(stages[1]))
        half = self.decoder3(quarter, self.encoder2(stages[0]))
        return [self.decoder2(half, self.encoder1(x)), half, quarter, eighth]
