"""Volumes cut into patches, each embedded as a token."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.models.layers.padding import pad_depth
from voxgraft.types import Size3


class PatchEmbed3d(nn.Module):
    """A convolution whose stride is its kernel, then a norm over channels.

    A volume that is no multiple of the patch is extended at the end of each axis: along depth by
    repeating the last slice, so that thin volumes keep the response of their slices; in the plane
    by zeros, as timm does.
    """

    def __init__(
        self, in_channels: int, embed_dim: int, patch: Size3, *, bias: bool, norm: nn.Module
    ) -> None:
        """Make the embedding.

        Args:
            in_channels: Channels of the volumes.
            embed_dim: Channels of a token.
            patch: Size of a patch in voxels.
            bias: Whether the convolution has a bias.
            norm: What normalizes the tokens, channels last.
        """
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(in_channels, embed_dim, patch, stride=patch, bias=bias)
        self.norm = norm

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b e i j f"]:
        """Return the tokens on their grid, channels last."""
        depth, height, width = (
            -size % step for size, step in zip(x.shape[2:], self.patch, strict=True)
        )
        if height or width:
            x = F.pad(x, (0, width, 0, height))
        tokens: Tensor = self.proj(pad_depth(x, 0, depth, "replicate"))
        normed: Tensor = self.norm(tokens.permute(0, 2, 3, 4, 1))
        return normed
