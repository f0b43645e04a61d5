"""MONAI's 3D vision transformer, as UNETR and BrainIAC have it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.models.declaration import Declaration, Positions
from voxgraft.models.initialization import seeded
from voxgraft.models.orientation import AXES, Oriented
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.types import Size3

_SD = 0.02
"""Of the random weights: arXiv:2010.11929's code, and MONAI's."""


class _PatchEmbedding(nn.Module):
    """The kernel that cuts patches, and the learned positions."""

    def __init__(self, in_channels: int, patch: int, width: int, tokens: int) -> None:
        super().__init__()
        self.patch_embeddings = nn.Conv3d(in_channels, width, patch, stride=patch)
        self.position_embeddings = nn.Parameter(torch.zeros(1, tokens, width))


class _Attention(nn.Module):
    """Multi-head self-attention; query, key and value without bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.out_proj = nn.Linear(width, width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)

    def forward(self, x: Float[Tensor, "b t f"]) -> Float[Tensor, "b t f"]:
        """Attend."""
        batch, tokens, width = x.shape
        parts = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return out


class _MLP(nn.Module):
    """Two layers with GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, 4 * width)
        self.linear2 = nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "b t f"]) -> Float[Tensor, "b t f"]:
        """Transform each token."""
        out: Tensor = self.linear2(F.gelu(self.linear1(x)))
        return out


class _Block(nn.Module):
    """A transformer block that normalizes first."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.mlp = _MLP(width)
        self.norm1 = nn.LayerNorm(width)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Float[Tensor, "b t f"]) -> Float[Tensor, "b t f"]:
        """Attend, then transform each token."""
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class MonaiViT(Oriented):
    """MONAI's ``ViT`` without class token; its tensors have MONAI's names.

    ``forward_stages`` gives what UNETR's decoder takes: the tokens after a third, a bit more than
    a half and five sixths of the blocks (of 12: the 4th, 7th and 10th), not normalized, and the
    final ones, normalized; all on the grid of patches. The pooled vector is the mean of the final
    tokens.

    MONAI's blocks of some versions carry a cross-attention, or its normalization, that this
    network never uses; here they have none. A volume of any size runs: it is extended by zeros to
    whole patches, and the learned positions are interpolated to the grid of patches.

    Source: arXiv:2010.11929; arXiv:2103.10504, section 3 (UNETR).
    """

    def __init__(
        self,
        *,
        in_channels: int,
        img_size: Size3,
        patch: int,
        width: int,
        depth: int,
        heads: int,
    ) -> None:
        """Make the network.

        Args:
            in_channels: Channels of the volumes.
            img_size: Volume, in voxels, whose grid of patches the learned positions have.
            patch: Edge of a patch, in voxels.
            width: Length of a token.
            depth: Number of blocks.
            heads: Attention heads of each block.
        """
        grid = (img_size[0] // patch, img_size[1] // patch, img_size[2] // patch)
        stride = (patch, patch, patch)
        declaration = Declaration(
            family="monai_vit",
            stem="patch_embedding.patch_embeddings.weight",
            head="classification_head",
            feature_channels=(width,) * 4,
            strides=(stride,) * 4,
            num_features=width,
            min_size=(1, 1, 1),
            preferred_size=preferred_size(stride),
            twin_of=None,
            native="volume",
            reference="monai.networks.nets.ViT",
            positions=(
                Positions(name="patch_embedding.position_embeddings", kind="absolute", grid=grid),
            ),
        )
        super().__init__(declaration, in_channels=in_channels)
        self.patch = patch
        self.taps = (depth * 4 // 12, depth * 7 // 12, depth * 10 // 12)
        self.patch_embedding = _PatchEmbedding(in_channels, patch, width, math.prod(grid))
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.trunc_normal_(self.patch_embedding.position_embeddings, std=_SD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_SD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def _embed(self, x: Tensor) -> tuple[Tensor, Size3]:
        """Return the tokens with their positions, and their grid."""
        short = [-size % self.patch for size in x.shape[2:]]
        if any(short):
            x = F.pad(x, (0, short[2], 0, short[1], 0, short[0]))
        tokens = self.patch_embedding.patch_embeddings(x)
        grid: Size3 = (tokens.shape[2], tokens.shape[3], tokens.shape[4])
        positions: Tensor = self.patch_embedding.position_embeddings
        table = self.declaration.positions[0].grid
        if grid != table:
            cube = positions.transpose(1, 2).reshape(1, -1, *table)
            cube = F.interpolate(cube, size=grid, mode="trilinear", align_corners=False)
            positions = cube.flatten(2).transpose(1, 2)
        return tokens.flatten(2).transpose(1, 2) + positions, grid

    def forward_features(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Return the final tokens on their grid.

        Raises:
            ModelError: If ``x`` does not have five axes, the encoder's channels and at least its
                minimal size.
        """
        return self.forward_stages(x)[-1]

    def forward_stages(self, x: Float[Tensor, "b c d h w"]) -> list[Tensor]:
        """Return the tokens after four blocks on their grid, shallowest first.

        Raises:
            ModelError: As ``forward_features``.
        """
        self.check_input(x)
        tokens, grid = self._embed(self.turned(x))
        kept = []
        for number, block in enumerate(self.blocks, start=1):
            tokens = self.run_block(f"blocks.{number - 1}", block, tokens)
            if number in self.taps:
                kept.append(tokens)
        kept.append(self.norm(tokens))
        maps = [state.transpose(1, 2).reshape(len(state), -1, *grid) for state in kept]
        return [self.turned_back(stage.contiguous()) for stage in maps]

    def pool(self, features: Float[Tensor, "b f e i j"]) -> Float[Tensor, "b n"]:
        """Return the mean of the tokens."""
        return features.mean(dim=(2, 3, 4))


def build_monai_vit(
    img_size: Size3 = (96, 96, 96),
    patch: int = 16,
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    *,
    in_channels: int = 1,
    axes: str = AXES,
    seed: int | None = None,
) -> MonaiViT:
    """Build MONAI's vision transformer with random weights.

    Args:
        img_size: Volume, in voxels, whose grid of patches the learned positions have.
        patch: Edge of a patch, in voxels.
        width: Length of a token.
        depth: Number of blocks; at least 6, so that the four maps are of different blocks.
        heads: Attention heads of each block.
        in_channels: Channels of the volumes.
        axes: Directions to which the axes of the volumes ran in training ("RAS"); each volume is
            turned to them.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    check_options(in_channels, 0.0)
    with seeded(seed):
        encoder = MonaiViT(
            in_channels=in_channels,
            img_size=img_size,
            patch=patch,
            width=width,
            depth=depth,
            heads=heads,
        )
    encoder.set_axes(axes)
    return encoder
