"""The decoders of nnU-Net and of STU-Net."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.errors import ModelError
from voxgraft.models.decoders.decoder import Decoder
from voxgraft.models.initialization import initialize_convolutions
from voxgraft.models.volumetric.nnunet import ConvStack, NnUNetEncoder, leaky_kaiming
from voxgraft.models.volumetric.stunet import BasicResBlock, STUNetEncoder

_CONVOLUTIONS = {"plain": 2, "residual": 1}
"""Of each level, in the plans that nnU-Net makes."""


class NnUNetDecoder(Decoder):
    """The second half of an nnU-Net; its tensors have the original's names, without its heads.

    At each level a transposed convolution whose kernel is its stride, the encoder's map beside
    it, and convolutions: two after a plain encoder, one after a residual one.

    Source: arXiv:1904.08128, and ``UNetDecoder`` of ``dynamic_network_architectures``.
    """

    def __init__(self, encoder: NnUNetEncoder) -> None:
        """Make the decoder of an encoder.

        Raises:
            ModelError: If the encoder's first map is coarser than the volume.
        """
        plan, facts = encoder.plan, encoder.declaration
        if facts.strides[0] != (1, 1, 1):
            raise ModelError(
                f"strides[0] of this nnU-Net is {plan.strides[0]}; its own decoder ends on the "
                "grid of the first map, which must be the volume's. Choose decoder='unet'."
            )
        super().__init__(plan.features[:-1], facts.strides[:-1])
        levels = range(len(plan.features) - 2, -1, -1)
        self.original_head = f"decoder.seg_layers.{len(levels) - 1}"
        # A room of its own: the original's decoder is called so, and holds all of this.
        self.decoder = nn.Module()
        self.decoder.stages = nn.ModuleList(
            ConvStack(
                _CONVOLUTIONS[encoder.kind],
                2 * plan.features[level],
                plan.features[level],
                plan.kernels[level],
            )
            for level in levels
        )
        self.decoder.transpconvs = nn.ModuleList(
            nn.ConvTranspose3d(
                plan.features[level + 1],
                plan.features[level],
                plan.strides[level + 1],
                stride=plan.strides[level + 1],
            )
            for level in levels
        )
        initialize_convolutions(self, leaky_kaiming)

    def forward(self, x: Tensor, stages: list[Tensor]) -> list[Tensor]:
        """Return the map of each level, finest first."""
        deep = stages[-1]
        maps: list[Tensor] = []
        parts: Any = self.decoder
        rows = zip(parts.transpconvs, parts.stages, reversed(stages[:-1]), strict=True)
        for up, convolutions, skip in rows:
            deep = convolutions(torch.cat([up(deep), skip], dim=1))
            maps.append(deep)
        return maps[::-1]


class STUNetDecoder(Decoder):
    """The second half of a STU-Net; its tensors have the original's names, without its heads.

    At each level a 1x1x1 convolution, enlargement by two to the nearest voxel, the encoder's map
    beside it, and as many residual blocks as the encoder has. (The original enlarges first: the
    values are the same.)

    Source: arXiv:2304.06716, section 3.
    """

    def __init__(self, encoder: STUNetEncoder) -> None:
        """Make the decoder of an encoder."""
        facts = encoder.declaration
        widths, blocks = facts.feature_channels, encoder.blocks
        super().__init__(widths[:-1], facts.strides[:-1])
        self.original_head = f"seg_outputs.{len(widths) - 2}"
        self.upsample_layers = nn.ModuleList()
        self.conv_blocks_localization = nn.ModuleList()
        for level in range(len(widths) - 2, -1, -1):
            up = nn.Module()
            up.conv = nn.Conv3d(widths[level + 1], widths[level], 1)
            self.upsample_layers.append(up)
            first = BasicResBlock(2 * widths[level], widths[level], first=True)
            rest = [BasicResBlock(widths[level], widths[level]) for _ in range(blocks - 1)]
            self.conv_blocks_localization.append(nn.Sequential(first, *rest))
        initialize_convolutions(self, leaky_kaiming)

    def forward(self, x: Tensor, stages: list[Tensor]) -> list[Tensor]:
        """Return the map of each level, finest first."""
        deep = stages[-1]
        maps: list[Tensor] = []
        rows: Any = zip(
            self.upsample_layers,
            self.conv_blocks_localization,
            reversed(stages[:-1]),
            strict=True,
        )
        for up, blocks, skip in rows:
            larger = F.interpolate(up.conv(deep), scale_factor=2, mode="nearest")
            deep = blocks(torch.cat([larger, skip], dim=1))
            maps.append(deep)
        return maps[::-1]
