"""Multiscale vision transformers (MViT), on volumes of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.errors import ModelError
from voxgraft.models.declaration import Declaration, Positions
from voxgraft.models.encoder import Encoder
from voxgraft.models.initialization import seeded
from voxgraft.models.tokens.input_size import check_input_size
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.positions import resize_table
from voxgraft.types import Size3

_PATCH_KERNEL: Size3 = (3, 7, 7)
_PATCH_STRIDE: Size3 = (2, 4, 4)
_LEAST_SIZE: Size3 = (2, 32, 32)
_KEY_STRIDE = 8
"""Of the pooling of keys and values in the plane, in the first block."""


@dataclass(frozen=True, kw_only=True)
class MViTConfig:
    """What distinguishes one multiscale vision transformer from another."""

    version: Literal[1, 2]
    """1: learned positions of the plane and of depth; 2: relative positions in each block, every
    query pooled and added to the answer, wider channels before attention instead of after."""
    reference: str
    """The public implementation that it equals."""
    width: int = 96
    blocks: int = 16
    starts: tuple[int, ...] = (1, 3, 14)
    """Blocks that halve the plane, and have twice as many heads."""
    input_size: Size3 = (16, 224, 224)
    """Volume whose grid the tables of positions have, in voxels."""
    pool_eps: float = 1e-6
    """Epsilon of the normalizations after pooling query, key and value."""


CONFIGS = {
    "mvit_v1_b": MViTConfig(version=1, reference="torchvision.models.video.mvit_v1_b"),
    "mvit_v2_s": MViTConfig(version=2, reference="torchvision.models.video.mvit_v2_s"),
    "mvit_base_16x4": MViTConfig(
        version=1, reference="pytorchvideo.models.hub.mvit_base_16x4", pool_eps=1e-5
    ),
    "mvit_base_32x3": MViTConfig(
        version=1,
        reference="pytorchvideo.models.hub.mvit_base_32x3",
        input_size=(32, 224, 224),
        pool_eps=1e-5,
    ),
}
"""Configuration of each network, by its name in the registry."""


class Places(nn.Module):
    """The class token and, where blocks have none of their own, the positions.

    Named as torchvision's ``PositionalEncoding``, but the tables are interpolated to the grid.
    """

    def __init__(self, reference: Any) -> None:
        """Take the parameters of torchvision's module over."""
        super().__init__()
        self.grid: Size3 = (reference.temporal_size, *reference.spatial_size)
        self.class_token = reference.class_token
        self.spatial_pos = reference.spatial_pos
        self.temporal_pos = reference.temporal_pos
        self.class_pos = reference.class_pos

    def forward(self, x: Float[Tensor, "b f d h w"]) -> Float[Tensor, "b n f"]:
        """Return the class token and the tokens, with their positions."""
        depth, height, width = x.shape[2:]
        tokens = x.flatten(2).transpose(1, 2)
        first = self.class_token
        if self.spatial_pos is not None:
            plane = resize_table(self.spatial_pos, self.grid[1:], (1, height, width))
            deep = resize_table(self.temporal_pos, (self.grid[0], 1, 1), (depth, 1, 1))
            tokens = tokens + (deep.unsqueeze(1) + plane).flatten(0, 1)
            first = first + self.class_pos
        return torch.cat((first.expand(len(tokens), 1, -1), tokens), dim=1)


class MViT(Encoder):
    """A multiscale vision transformer; what was time is depth.

    Takes volumes of any size: learned positions are interpolated to the grid of tokens, those
    relative to each other (V2) as torchvision does. Its feature map is the grid of the last block's
    tokens, normalized; its stages end where the next block pools, not normalized, and with the
    channels that the block before the pooling already has (V1 widens there). The pooled vector is
    the class token.
    """

    def __init__(self, reference: Any, declaration: Declaration, *, in_channels: int) -> None:
        """Take the modules of torchvision's network over.

        Args:
            reference: torchvision's ``MViT``.
            declaration: What the network is.
            in_channels: Channels of the volumes.
        """
        super().__init__(declaration, in_channels=in_channels)
        stem = reference.conv_proj
        self.conv_proj = nn.Conv3d(
            in_channels,
            stem.out_channels,
            stem.kernel_size,
            stride=stem.stride,
            padding=stem.padding,
        )
        self.pos_encoding = Places(reference.pos_encoding)
        self.blocks: nn.ModuleList = reference.blocks
        self.norm: nn.LayerNorm = reference.norm
        pooling = [index for index, block in enumerate(self.blocks) if block.pool_skip is not None]
        self._taps = (*(index - 1 for index in pooling), len(self.blocks) - 1)

    def forward_features(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Return the grid of tokens after the last block, normalized.

        Raises:
            ModelError: If ``x`` does not have five axes and the encoder's channels.
        """
        tokens, grid = self._run(x)[-1]
        return _map(self.norm(tokens), grid)

    def forward_stages(self, x: Float[Tensor, "b c d h w"]) -> list[Tensor]:
        """Return the grid of tokens after each stage, shallowest first.

        Raises:
            ModelError: As ``forward_features``.
        """
        return [_map(tokens, grid) for tokens, grid in self._run(x)]

    def pool(self, features: Float[Tensor, "b f e i j"]) -> Float[Tensor, "b n"]:
        """Refuse: the vector of this network is no function of its feature map.

        Raises:
            ModelError: Always.
        """
        raise ModelError(
            "the pooled vector of this mvit network is its class token, which the feature map does "
            "not hold. Call the encoder itself on the volume."
        )

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b n"]:
        """Return the class token, which a classifier takes.

        Raises:
            ModelError: As ``forward_features``.
        """
        out: Tensor = self.norm(self._run(x)[-1][0][:, 0])
        return out

    def _run(self, x: Float[Tensor, "b c d h w"]) -> list[tuple[Tensor, Size3]]:
        """Return the tokens after each stage, class token first, and their grid."""
        self.check_input(x)
        embedded = self.run_block("conv_proj", self.conv_proj, x)
        grid = cast(Size3, tuple(embedded.shape[2:]))
        tokens = self.pos_encoding(embedded)
        stages = []
        for index, block in enumerate(self.blocks):
            tokens, grid = self.run_block(f"blocks.{index}", block, tokens, grid)
            if index in self._taps:
                stages.append((tokens, grid))
        return stages


def _map(tokens: Float[Tensor, "b n f"], grid: Size3) -> Float[Tensor, "b f e i j"]:
    rows = tokens[:, 1:].transpose(1, 2)
    return rows.reshape(*rows.shape[:2], *grid)


def build_mvit(
    config: MViTConfig,
    *,
    in_channels: int = 1,
    input_size: Sequence[int] | None = None,
    drop_path: float = 0.0,
    seed: int | None = None,
) -> MViT:
    """Build a multiscale vision transformer with random weights.

    Args:
        config: Which network.
        in_channels: Channels of the volumes.
        input_size: Volume (depth, height, width) whose grid the tables of positions have, in
            voxels; by default that of the published weights. Other volumes can be given all the
            same: the tables are interpolated.
        drop_path: Probability of stochastic depth in the deepest block.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.

    Source:
        arXiv:2104.11227 (V1), arXiv:2112.01526 (V2).
    """
    from torchvision.models.video import MViT as Original

    check_options(in_channels, drop_path)
    size = config.input_size if input_size is None else check_input_size(input_size, _LEAST_SIZE)
    with seeded(seed):
        original = Original(
            spatial_size=size[1:],
            temporal_size=size[0],
            block_setting=_blocks(config),
            residual_pool=config.version == 2,
            residual_with_cls_embed=False,
            rel_pos_embed=config.version == 2,
            proj_after_attn=config.version == 2,
            stochastic_depth_prob=drop_path,
            num_classes=1,
            patch_embed_kernel=_PATCH_KERNEL,
            patch_embed_stride=_PATCH_STRIDE,
        )
        _set_pool_eps(original, config.pool_eps)
        return MViT(original, _declare(original, config.reference), in_channels=in_channels)


def _blocks(config: MViTConfig) -> list[Any]:
    from torchvision.models.video.mvit import MSBlockConfig

    settings = []
    for index in range(config.blocks):
        stage = sum(start <= index for start in config.starts)
        after = (
            sum(start <= index + 1 for start in config.starts)
            if index + 1 < config.blocks
            else stage
        )
        before = sum(start <= index - 1 for start in config.starts)
        first = config.version == 1
        start = index in config.starts
        pooled = start or not first
        settings.append(
            MSBlockConfig(
                num_heads=1 << stage,
                input_channels=config.width << (stage if first else before),
                output_channels=config.width << (after if first else stage),
                kernel_q=[3, 3, 3] if pooled else [],
                kernel_kv=[3, 3, 3],
                stride_q=([1, 2, 2] if start else [1, 1, 1]) if pooled else [],
                stride_kv=[1, *(2 * [max(_KEY_STRIDE >> stage, 1)])],
            )
        )
    return settings


def _set_pool_eps(network: Any, eps: float) -> None:
    for block in network.blocks:
        for pool in (block.attn.pool_q, block.attn.pool_k, block.attn.pool_v):
            if pool is not None:
                pool.norm_act[0].eps = eps


def _declare(network: Any, reference: str) -> Declaration:
    blocks = list(network.blocks)
    pooling = [index for index, block in enumerate(blocks) if block.pool_skip is not None]
    ends = [*(index - 1 for index in pooling), len(blocks) - 1]
    deep, high, wide = network.conv_proj.stride
    strides = tuple((deep, high << stage, wide << stage) for stage in range(len(ends)))
    channels = tuple(blocks[end].mlp[3].out_features for end in ends)
    return Declaration(
        family="mvit",
        stem="conv_proj.weight",
        head="head",
        feature_channels=channels,
        strides=strides,
        num_features=channels[-1],
        min_size=(1, 1, 1),
        preferred_size=preferred_size(strides[-1]),
        twin_of=None,
        native="video",
        reference=reference,
        positions=_tables(network),
    )


def _tables(network: Any) -> tuple[Positions, ...]:
    places = network.pos_encoding
    if places.spatial_pos is not None:
        plane: Size3 = (1, *places.spatial_size)
        deep: Size3 = (places.temporal_size, 1, 1)
        return (
            Positions(name="pos_encoding.spatial_pos", kind="absolute", grid=plane, axes=(1, 2)),
            Positions(name="pos_encoding.temporal_pos", kind="absolute", grid=deep, axes=(0,)),
        )
    tables = []
    for index, block in enumerate(network.blocks):
        for axis, letter in enumerate("thw"):
            name = f"blocks.{index}.attn.rel_pos_{letter}"
            sizes = [1, 1, 1]
            sizes[axis] = (len(getattr(block.attn, f"rel_pos_{letter}")) + 1) // 2
            window = (sizes[0], sizes[1], sizes[2])
            tables.append(Positions(name=name, kind="relative", grid=window, axes=(axis,)))
    return tuple(tables)
