"""Vision transformers that were trained on volumes: Primus and 3DINO."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.models.eva import Eva
from torch import nn

from voxgraft.models.initialization import seeded
from voxgraft.models.tokens.build_plain import declare, table_grid
from voxgraft.models.tokens.plain import ViT3D
from voxgraft.models.tokens.rotary import AxialRotation
from voxgraft.models.tokens.timm_network import build_image_network
from voxgraft.models.twin import check_options

VOLUME_OPTIONS = frozenset({"drop_path", "input_size", "seed"})
"""Options of vision transformers that were trained on volumes."""

PRIMUS_SIZES = {
    "s": (396, 12, 6),
    "b": (792, 12, 12),
    "m": (864, 16, 12),
    "l": (1056, 24, 16),
}
"""Width, blocks and heads of each size of Primus."""


def build_primus(
    width: int,
    blocks: int,
    heads: int,
    *,
    in_channels: int = 1,
    input_size: Sequence[int] = (160, 160, 160),
    drop_path: float = 0.0,
    seed: int | None = None,
) -> ViT3D:
    """Build the encoder of Primus: blocks of EVA-02 on patches of 8x8x8 voxels.

    It has a table of positions and rotations along three axes, and no class token; its vector is
    the mean of its tokens, as in the pre-training of its published weights. Names are those of
    timm's Eva: ``patch_embed``, ``pos_embed``, ``blocks``, ``norm``.

    Args:
        width: Channels of a token.
        blocks: Number of blocks.
        heads: Heads of attention in each.
        in_channels: Channels of the volumes.
        input_size: Size in voxels (depth, height, width) whose grid of tokens the learned table of
            positions has; other inputs get interpolated positions. By default that of most of the
            published weights.
        drop_path: Probability of stochastic depth in the deepest block.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.

    Source:
        arXiv:2503.01835 (Primus); its sizes S, B, M and L are :data:`PRIMUS_SIZES`.
    """
    check_options(in_channels, drop_path)
    patch = (8, 8, 8)
    grid = table_grid(input_size, patch, (160, 160, 160))
    with seeded(seed):
        network: Any = Eva(
            img_size=(8 * grid[1], 8 * grid[2]),
            patch_size=8,
            in_chans=in_channels,
            num_classes=0,
            global_pool="avg",
            embed_dim=width,
            depth=blocks,
            num_heads=heads,
            qkv_fused=False,
            mlp_ratio=4 * 2 / 3,
            swiglu_mlp=True,
            scale_mlp=True,
            scale_attn_inner=True,
            init_values=0.1,
            class_token=False,
            use_post_transformer_norm=True,
            use_fc_norm=False,
            norm_layer=nn.LayerNorm,
            drop_path_rate=drop_path,
        )
        return ViT3D(
            network,
            declare(
                network,
                patch,
                grid,
                family="primus",
                native="volume",
                reference="dynamic_network_architectures.architectures.primus.Primus",
            ),
            in_channels=in_channels,
            patch=patch,
            grid=grid,
            balance_prefix=False,
            rotation=AxialRotation(width // heads),
        )


def build_3dino(
    *,
    in_channels: int = 1,
    input_size: Sequence[int] = (112, 112, 112),
    drop_path: float = 0.0,
    seed: int | None = None,
) -> ViT3D:
    """Build the ViT-L of 3DINO: DINOv2's on patches of 16x16x16 voxels, with a class token.

    Its vector is the class token, counted once among the tokens as in its training. At other sizes
    than ``input_size`` its table of positions is interpolated linearly, as in the original.

    Args:
        in_channels: Channels of the volumes.
        input_size: Size in voxels (depth, height, width) whose grid of tokens the learned table of
            positions has; by default that of the published weights.
        drop_path: Probability of stochastic depth in the deepest block.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.

    Source:
        arXiv:2501.11755 (3DINO), on the architecture of arXiv:2304.07193 (DINOv2).
    """
    check_options(in_channels, drop_path)
    patch = (16, 16, 16)
    grid = table_grid(input_size, patch, (112, 112, 112))
    with seeded(seed):
        network = build_image_network(
            "vit_large_patch14_dinov2",
            in_channels,
            patch_size=16,
            img_size=(16 * grid[1], 16 * grid[2]),
            drop_path_rate=drop_path,
        )
        return ViT3D(
            network,
            declare(
                network,
                patch,
                grid,
                native="volume",
                reference="dinov2.models.vision_transformer.vit_large_3d (AICONSlab/3DINO)",
            ),
            in_channels=in_channels,
            patch=patch,
            grid=grid,
            balance_prefix=False,
            interpolation="bilinear",
        )
