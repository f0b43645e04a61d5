"""Video transformers without stages: VideoMAE, TimeSformer, ViViT, V-JEPA 2."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.errors import ModelError
from voxgraft.models.declaration import Declaration, Positions
from voxgraft.models.encoder import Encoder
from voxgraft.models.initialization import seeded
from voxgraft.models.tokens.input_size import check_input_size
from voxgraft.models.tokens.video_blocks import (
    Activation,
    Bias,
    Block,
    DividedBlock,
    Rotation,
    rotation,
)
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.positions import resize_table
from voxgraft.types import Size3

PositionKind = Literal["sinusoidal", "learned", "separate", "rotary"]
"""``"sinusoidal"``: a fixed table over the running number of the token; ``"learned"``: one table
of the grid; ``"separate"``: one of the plane and one of depth; ``"rotary"``: none, query and key
are turned."""


@dataclass(frozen=True, kw_only=True)
class VideoViTConfig:
    """What distinguishes one video transformer from another."""

    family: str
    reference: str
    """The public implementation that it equals."""
    head: str
    """Prefix of the original's classifier."""
    width: int
    depth: int
    heads: int
    hidden: int
    """Channels inside the MLPs."""
    tubelet: Size3
    """Voxels of a token: (depth, height, width)."""
    grid: Size3
    """Tokens of the size that the published weights were trained at."""
    positions: PositionKind
    divided: bool = False
    """Whether depth and plane attend in turn (TimeSformer)."""
    class_token: bool = False
    """Whether a class token is the pooled vector; otherwise it is the mean of the tokens."""
    norm: Literal["tokens", "pooled"] = "tokens"
    """Whether the last normalization is that of the tokens (``norm``) or of their mean
    (``fc_norm``)."""
    bias: Bias = "all"
    activation: Activation = "gelu"
    eps: float = 1e-6


@lru_cache(maxsize=4)
def _sinusoids(places: int, width: int) -> Float[Tensor, "n c"]:
    """Return the sine (even channels) and cosine (odd) of each token's running number.

    Source: arXiv:1706.03762, section 3.5; VideoMAE numbers the tokens of a clip through.
    """
    number = torch.arange(places, dtype=torch.float64, device="cpu").unsqueeze(1)
    pair = torch.arange(width, device="cpu") // 2
    angle = number / 10000.0 ** (2.0 * pair.double() / width)
    even = torch.arange(width, device="cpu") % 2 == 0
    return torch.where(even, angle.sin(), angle.cos()).float()


class PatchEmbedding(nn.Module):
    """Cuts a volume into blocks and makes a token of each.

    A volume that is no whole number of blocks is continued at its end, along depth, height and
    width, with its last voxels.
    """

    def __init__(self, in_channels: int, width: int, tubelet: Size3) -> None:
        """Make the convolution that does it."""
        super().__init__()
        self.tubelet = tubelet
        self.proj = nn.Conv3d(in_channels, width, tubelet, stride=tubelet)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f i j k"]:
        """Return the grid of tokens."""
        sizes = zip(x.shape[2:], self.tubelet, strict=True)
        beyond = [-size % block for size, block in sizes]
        if any(beyond):
            x = F.pad(x, (0, beyond[2], 0, beyond[1], 0, beyond[0]), mode="replicate")
        out: Tensor = self.proj(x)
        return out


class VideoViT(Encoder):
    """A vision transformer on blocks of a volume; what was time is depth.

    Takes volumes of any size: the last blocks are filled up by repeating the border, and positions
    are interpolated to the grid (rotary ones need not be). Its feature map is the grid of the last
    block's tokens, normalized where the original normalizes tokens; its stages are the grids after
    a quarter, a half, three quarters and all of the blocks, not normalized. The pooled vector is
    the class token or the mean of the tokens, as in the original.
    """

    def __init__(self, config: VideoViTConfig, *, in_channels: int, drop_path: float = 0.0) -> None:
        """Make the network.

        Args:
            config: Which network.
            in_channels: Channels of the volumes.
            drop_path: Probability of stochastic depth in the deepest block.
        """
        taps = tuple(math.ceil(config.depth * quarter / 4) - 1 for quarter in (1, 2, 3, 4))
        taps = tuple(dict.fromkeys(taps))
        super().__init__(_declare(config, len(taps)), in_channels=in_channels)
        self.config = config
        self._taps = taps
        width = config.width
        self.patch_embed = PatchEmbedding(in_channels, width, config.tubelet)
        prefix = 1 if config.class_token else 0
        if config.class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        if config.positions == "learned":
            self.pos_embed = nn.Parameter(torch.zeros(1, prefix + math.prod(config.grid), width))
        elif config.positions == "separate":
            plane = math.prod(config.grid[1:])
            self.pos_embed = nn.Parameter(torch.zeros(1, prefix + plane, width))
            self.time_embed = nn.Parameter(torch.zeros(1, config.grid[0], width))
        kind = DividedBlock if config.divided else Block
        last = max(config.depth - 1, 1)
        self.blocks = nn.ModuleList(
            kind(
                width,
                config.heads,
                config.hidden,
                bias=config.bias,
                activation=config.activation,
                eps=config.eps,
                drop_path=drop_path * index / last,
            )
            for index in range(config.depth)
        )
        norm = nn.LayerNorm(width, eps=config.eps)
        self.add_module("norm" if config.norm == "tokens" else "fc_norm", norm)

    def forward_features(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Return the grid of tokens after the last block.

        Raises:
            ModelError: If ``x`` does not have five axes and the encoder's channels.
        """
        stages, grid = self._run(x)
        return self._map(self._normalized(stages[-1]), grid)

    def forward_stages(self, x: Float[Tensor, "b c d h w"]) -> list[Tensor]:
        """Return the grids after a quarter, a half, three quarters and all of the blocks.

        They are not normalized.

        Raises:
            ModelError: As ``forward_features``.
        """
        stages, grid = self._run(x)
        return [self._map(stage, grid) for stage in stages]

    def pool(self, features: Float[Tensor, "b f e i j"]) -> Float[Tensor, "b n"]:
        """Make a vector of the final feature map, as the original network does.

        Raises:
            ModelError: If the original's vector is a class token, which the map does not hold.
        """
        if self.config.class_token:
            raise ModelError(
                f"the pooled vector of this {self.declaration.family} network is its class token, "
                "which the feature map does not hold. Call the encoder itself on the volume."
            )
        return self._normalized_mean(features.flatten(2).mean(dim=2))

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b n"]:
        """Return the pooled features that a classifier takes.

        Raises:
            ModelError: As ``forward_features``.
        """
        tokens = self._normalized(self._run(x)[0][-1])
        return tokens[:, 0] if self.config.class_token else self._normalized_mean(tokens.mean(1))

    def _normalized(self, tokens: Tensor) -> Tensor:
        if self.config.norm == "pooled":
            return tokens
        out: Tensor = self.get_submodule("norm")(tokens)
        return out

    def _normalized_mean(self, mean: Tensor) -> Tensor:
        if self.config.norm == "tokens":
            return mean
        out: Tensor = self.get_submodule("fc_norm")(mean)
        return out

    def _map(self, tokens: Float[Tensor, "b n f"], grid: Size3) -> Float[Tensor, "b f e i j"]:
        prefix = 1 if self.config.class_token else 0
        rows = tokens[:, prefix:].transpose(1, 2)
        return rows.reshape(*rows.shape[:2], *grid)

    def _run(self, x: Float[Tensor, "b c d h w"]) -> tuple[list[Tensor], Size3]:
        """Return the tokens after each stage, and their grid."""
        self.check_input(x)
        embedded = self.run_block("patch_embed", self.patch_embed, x)
        depth, height, width = embedded.shape[2:]
        grid = (depth, height, width)
        tokens = self._placed(embedded.flatten(2).transpose(1, 2), grid)
        turn: Rotation | None = None
        if self.config.positions == "rotary":
            turn = rotation(grid, self.config.width // self.config.heads, tokens)
        stages = []
        for index, block in enumerate(self.blocks):
            tokens = self.run_block(f"blocks.{index}", block, tokens, grid, turn)
            if index in self._taps:
                stages.append(tokens)
        return stages, grid

    def _placed(self, tokens: Float[Tensor, "b n f"], grid: Size3) -> Float[Tensor, "b m f"]:
        """Add the positions, and the class token where there is one."""
        config = self.config
        if config.positions == "sinusoidal":
            table = _sinusoids(math.prod(config.grid), config.width)
            table = resize_table(table, config.grid, grid)
            tokens = tokens + table.to(device=tokens.device, dtype=tokens.dtype)
        elif config.positions == "learned":
            table = self.pos_embed[0, 1:] if config.class_token else self.pos_embed[0]
            tokens = tokens + resize_table(table, config.grid, grid)
        elif config.positions == "separate":
            plane, deep = self.pos_embed[0, int(config.class_token) :], self.time_embed[0]
            plane = resize_table(plane, (1, *config.grid[1:]), (1, *grid[1:]))
            deep = resize_table(deep, (config.grid[0], 1, 1), (grid[0], 1, 1))
            tokens = tokens + (deep.unsqueeze(1) + plane).flatten(0, 1)
        if not config.class_token:
            return tokens
        first: Tensor = self.cls_token
        if config.positions in ("learned", "separate"):
            first = first + self.pos_embed[:, :1]
        return torch.cat((first.expand(len(tokens), -1, -1), tokens), dim=1)


def _declare(config: VideoViTConfig, stages: int) -> Declaration:
    tables: tuple[Positions, ...] = ()
    prefix = int(config.class_token)
    if config.positions == "learned":
        table = Positions(name="pos_embed", kind="absolute", grid=config.grid, prefix=prefix)
        tables = (table,)
    elif config.positions == "separate":
        plane = (1, *config.grid[1:])
        tables = (
            Positions(name="pos_embed", kind="absolute", grid=plane, prefix=prefix, axes=(1, 2)),
            Positions(name="time_embed", kind="absolute", grid=(config.grid[0], 1, 1), axes=(0,)),
        )
    return Declaration(
        family=config.family,
        stem="patch_embed.proj.weight",
        head=config.head,
        feature_channels=(config.width,) * stages,
        strides=(config.tubelet,) * stages,
        num_features=config.width,
        min_size=(1, 1, 1),
        preferred_size=preferred_size(config.tubelet),
        twin_of=None,
        native="video",
        reference=config.reference,
        positions=tables,
    )


def _grid(config: VideoViTConfig, size: Size3) -> Size3:
    if config.positions not in ("learned", "separate"):
        raise ModelError(
            f"input_size makes tables of positions of another grid, but this {config.family} "
            f"network has {config.positions} ones, which are no table to learn. Leave it out: any "
            "volume can be given."
        )
    depth, height, width = (-(-n // block) for n, block in zip(size, config.tubelet, strict=True))
    return depth, height, width


def build_video_vit(
    config: VideoViTConfig,
    *,
    in_channels: int = 1,
    input_size: Sequence[int] | None = None,
    drop_path: float = 0.0,
    seed: int | None = None,
) -> VideoViT:
    """Build a video transformer with random weights.

    Args:
        config: Which network.
        in_channels: Channels of the volumes.
        input_size: Volume (depth, height, width) whose grid the learned tables of positions have,
            in voxels; by default that of the published weights. Other volumes can be given all the
            same: the tables are interpolated. Only for networks with learned positions.
        drop_path: Probability of stochastic depth in the deepest block.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.

    Source:
        Weights are drawn as the originals do: truncated normal of sd 0.02, biases zero.
    """
    check_options(in_channels, drop_path)
    if input_size is not None:
        config = replace(config, grid=_grid(config, check_input_size(input_size, config.tubelet)))
    with seeded(seed):
        network = VideoViT(config, in_channels=in_channels, drop_path=drop_path)
        for module in network.modules():
            if isinstance(module, nn.Linear) and not module.weight.is_meta:
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for name, parameter in network.named_parameters():
            if name in ("cls_token", "pos_embed", "time_embed") and not parameter.is_meta:
                nn.init.trunc_normal_(parameter, std=0.02)
    return network
