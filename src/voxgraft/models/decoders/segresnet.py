"""The decoders of MONAI's SegResNet and SegResNetDS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from voxgraft.models.decoders.decoder import Decoder
from voxgraft.types import Size3


class SegResNetDecoder(Decoder):
    """The second half of MONAI's SegResNet; its tensors have MONAI's names.

    At each level a 1x1x1 convolution, linear enlargement by two, the sum with the encoder's map,
    and one residual block; after the last, group normalization and ReLU.

    Source: arXiv:1810.11654, section 2.2; ``blocks_up=(1, 1, 1)``.
    """

    original_head = "conv_final.2.conv"

    def __init__(self, channels: Sequence[int], strides: Sequence[Size3]) -> None:
        """Make the decoder for an encoder's maps, given shallowest first."""
        from monai.networks.blocks.segresnet_block import (
            ResBlock,
            get_conv_layer,
            get_upsample_layer,
        )

        finer = list(channels[:-1])
        super().__init__(finer, strides[:-1])
        norm = ("group", {"num_groups": 8})
        self.up_layers = nn.ModuleList()
        self.up_samples = nn.ModuleList()
        for width in reversed(finer):
            self.up_samples.append(
                nn.Sequential(
                    get_conv_layer(3, 2 * width, width, kernel_size=1),
                    get_upsample_layer(3, width, upsample_mode="nontrainable"),
                )
            )
            self.up_layers.append(nn.Sequential(ResBlock(3, width, norm=norm)))
        self.conv_final = nn.Sequential(nn.GroupNorm(8, finer[0]), nn.ReLU(inplace=True))

    def forward(self, x: Tensor, stages: list[Tensor]) -> list[Tensor]:
        """Return the map of each level, finest first."""
        deep = stages[-1]
        maps: list[Tensor] = []
        rows = zip(self.up_samples, self.up_layers, reversed(stages[:-1]), strict=True)
        for up, layer, skip in rows:
            deep = layer(up(deep) + skip)
            maps.append(deep)
        maps[-1] = self.conv_final(maps[-1])
        return maps[::-1]


class SegResNetDSDecoder(Decoder):
    """The second half of MONAI's SegResNetDS; its tensors have MONAI's names, without its heads.

    At each level a transposed convolution by two, the sum with the encoder's map, and one
    residual block.

    Source: monai.networks.nets.SegResNetDS; arXiv:2501.09001 and arXiv:2406.05285 use it.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[Size3], *, norm: str) -> None:
        """Make the decoder for an encoder's maps, given shallowest first.

        Args:
            channels: Channels of the encoder's maps.
            strides: Their reductions.
            norm: Normalization of the encoder: ``"batch"`` or ``"instance"``.
        """
        from monai.networks.blocks.upsample import UpSample
        from monai.networks.nets.segresnet_ds import SegResBlock

        finer = list(channels[:-1])
        super().__init__(finer, strides[:-1])
        self.original_head = f"up_layers.{len(finer) - 1}.head"
        self.up_layers = nn.ModuleList()
        for width in reversed(finer):
            level = nn.ModuleDict()
            level["upsample"] = UpSample(
                spatial_dims=3,
                in_channels=2 * width,
                out_channels=width,
                scale_factor=2,
                kernel_size=3,
                mode="deconv",
                bias=False,
                align_corners=False,
            )
            block = SegResBlock(
                spatial_dims=3,
                in_channels=width,
                norm=(norm, {"affine": True}),
                act=("relu", {"inplace": True}),
            )
            level["blocks"] = nn.Sequential(block)
            self.up_layers.append(level)

    def forward(self, x: Tensor, stages: list[Tensor]) -> list[Tensor]:
        """Return the map of each level, finest first."""
        deep = stages[-1]
        maps: list[Tensor] = []
        levels: Any = self.up_layers
        for level, skip in zip(levels, reversed(stages[:-1]), strict=True):
            deep = level["blocks"](level["upsample"](deep) + skip)
            maps.append(deep)
        return maps[::-1]
