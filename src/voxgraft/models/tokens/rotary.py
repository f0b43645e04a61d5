"""Rotary positions along three axes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.errors import ModelError


class AxialRotation(nn.Module):
    """Rotations by depth, height and width, each in a third of a head's channels.

    It has no tensors. Places are whole numbers, counted from the border; as attention sees only
    differences of rotations, the size of the grid does not matter.

    Source: arXiv:2104.09864 (RoPE), along three axes as Primus does (arXiv:2503.01835): frequencies
    10000^(-i/n), axes one after the other, each frequency for two neighboring channels. In timm's
    terms ``RotaryEmbeddingCat(head_channels / 1.5, in_pixels=False)`` on a 3D grid.
    """

    def __init__(self, head_channels: int) -> None:
        """Make the rotations.

        Args:
            head_channels: Channels of one head; a multiple of six.

        Raises:
            ModelError: If they cannot be split among three axes in pairs.
        """
        super().__init__()
        if head_channels % 6:
            raise ModelError(
                f"heads of {head_channels} channels cannot be rotated along three axes; expected a "
                "multiple of six. Choose another width or number of heads."
            )
        self.bands = head_channels // 6

    def get_embed(self, shape: Sequence[int]) -> Float[Tensor, "places angles"]:
        """Return sine and cosine, side by side, for each place of a grid (depth, height, width)."""
        frequencies = 10000.0 ** (-torch.arange(self.bands, dtype=torch.float32) / self.bands)
        axes = [torch.arange(size, dtype=torch.float32) for size in shape]
        places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)
        angles = (places[:, :, None] * frequencies).flatten(1).repeat_interleave(2, dim=1)
        return torch.cat([angles.sin(), angles.cos()], dim=1)
