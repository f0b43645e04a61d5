"""The decoder of the 3D U-Net of Models Genesis."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.models.decoders.decoder import Decoder
from voxgraft.models.volumetric.genesis_unet import two_convolutions


class _Up(nn.Module):
    """Enlarge by two with all channels, join the encoder's map, convolve twice."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose3d(in_channels, in_channels, 2, stride=2)
        self.ops = two_convolutions(in_channels + width, width, width)

    def forward(
        self, x: Float[Tensor, "b c d h w"], skip: Float[Tensor, "b s i j k"]
    ) -> Float[Tensor, "b f i j k"]:
        out: Tensor = self.ops(torch.cat([self.up_conv(x), skip], dim=1))
        return out


class GenesisDecoder(Decoder):
    """The second half of Models Genesis' 3D U-Net; its tensors have the original's names.

    Source: the code of MrGiovanni/ModelsGenesis (``pytorch/unet3d.py``), as
    :class:`voxgraft.models.volumetric.genesis_unet.GenesisEncoder`.
    """

    original_head = "out_tr.final_conv"

    def __init__(self, channels: Sequence[int]) -> None:
        """Make the decoder for an encoder's maps, given shallowest first."""
        finer = list(channels[:-1])
        super().__init__(finer, [(2**level,) * 3 for level in range(len(finer))])
        self._rows = [f"up_tr{width}" for width in reversed(finer)]
        for name, width in zip(self._rows, reversed(finer), strict=True):
            self.add_module(name, _Up(2 * width, width))

    def forward(self, x: Tensor, stages: list[Tensor]) -> list[Tensor]:
        """Return the map of each level, finest first."""
        deep = stages[-1]
        maps: list[Tensor] = []
        for name, skip in zip(self._rows, reversed(stages[:-1]), strict=True):
            deep = self.get_submodule(name)(deep, skip)
            maps.append(deep)
        return maps[::-1]
