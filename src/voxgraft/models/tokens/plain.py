"""The 3D twin of timm's plain vision transformers."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from timm.models.eva import Eva
from timm.models.vision_transformer import global_pool_nlc
from torch import Tensor, nn

from voxgraft.errors import ModelError
from voxgraft.models.declaration import Declaration
from voxgraft.models.encoder import Encoder
from voxgraft.models.tokens.patch_embedding import PatchEmbed3d
from voxgraft.models.tokens.rotary import AxialRotation
from voxgraft.models.tokens.timm_network import build_image_reference
from voxgraft.positions import Interpolation, resize_table
from voxgraft.types import Size3

_HEADS = ("patch_embed", "head", "head_drop", "patch_drop")
"""Children of timm's networks that a twin does not adopt as they are."""


class ViT3D(Encoder):
    """A vision transformer on volumes, with the blocks, names and pooling of timm's 2D network.

    Tokens are patches of the volume, with class token and registers before them as in 2D. Every
    token attends to every other, over all three axes.

    - A learned table of positions has a row for each place of the grid ``input_size``; at other
      sizes it is interpolated (bicubic in the plane, linear along depth).
    - Rotary positions (EVA-02, DINOv3) rotate by height and width, and not by depth: so the 2D
      response to equal slices stays exactly what it was, at any depth. Rotating by depth too, or
      splitting the channels among three axes, would give the pre-trained heads angles that they
      never saw. A network without a table (DINOv3) cannot tell the order of planes then; with
      ``depth_embed`` it learns a table of depth alone, which starts at zero.
    - In 2D a class token stands against one plane of patches, in 3D against several. With
      ``balance_prefix`` each class or register token counts as often as there are planes, by
      adding the logarithm of their number to its logits. Attention over equal planes then is
      exactly that over one of them.

    Source: arXiv:2010.11929 (ViT); counting a token ``n`` times is a bias of log n in its softmax.
    """

    def __init__(
        self,
        network: Any,
        declaration: Declaration,
        *,
        in_channels: int,
        patch: Size3,
        grid: Size3,
        balance_prefix: bool,
        depth_embed: bool = False,
        rotation: AxialRotation | None = None,
        interpolation: Interpolation = "bicubic",
    ) -> None:
        """Adopt the modules and tensors of timm's network; new are the patches and positions.

        Args:
            network: A ``VisionTransformer`` or ``Eva`` of timm, without classifier.
            declaration: What the network is.
            in_channels: Channels of the volumes.
            patch: Size of a patch in voxels.
            grid: Grid of the learned table of positions, in tokens.
            balance_prefix: Whether class and register tokens count once a plane.
            depth_embed: Whether there is a learned table of depth alone.
            rotation: Rotary positions along three axes, in place of the network's own.
            interpolation: How the table of positions is interpolated in the plane.
        """
        super().__init__(declaration, in_channels=in_channels)
        self.grid = grid
        self.balance_prefix = balance_prefix
        self._interpolation: Interpolation = interpolation
        self._prefix = int(network.num_prefix_tokens)
        self._apart = bool(network.no_embed_class)
        self._pooling = str(network.global_pool)
        self._eva = isinstance(network, Eva)
        self._pools_prefix = self._eva or bool(network.pool_include_prefix)
        self.depth_embed: nn.Parameter | None
        self.cls_token: nn.Parameter | None
        self.reg_token: nn.Parameter | None
        self.pos_embed: nn.Parameter | None
        for name in ("cls_token", "reg_token"):
            self.register_parameter(name, getattr(network, name))
        self.register_parameter("pos_embed", _table(network.pos_embed, grid, self._rows_before))
        depth = torch.zeros(1, grid[0], network.embed_dim) if depth_embed else None
        self.register_parameter("depth_embed", None if depth is None else nn.Parameter(depth))
        embed = network.patch_embed
        self.patch_embed = PatchEmbed3d(
            in_channels,
            network.embed_dim,
            patch,
            bias=embed.proj.bias is not None,
            norm=embed.norm,
        )
        for name, child in network.named_children():
            if name not in _HEADS:
                self.add_module(name, child)
        if rotation is not None:
            self.add_module("rope", rotation)

    @property
    def _rotary(self) -> Any:
        return self._modules.get("rope")

    @property
    def _attention_pool(self) -> Any:
        return self._modules.get("attn_pool")

    @property
    def _rows_before(self) -> int:
        """Rows of the table of positions before those of the patches."""
        return 0 if self._apart else self._prefix

    def build_reference(self) -> nn.Module:
        """Build timm's 2D network with this encoder's channels, patches and grid of the plane.

        Raises:
            ModelError: If this network is not a twin.
        """
        if self.declaration.twin_of is None:
            return super().build_reference()
        _, height, width = self.declaration.strides[0]
        return build_image_reference(
            self.declaration.twin_of,
            in_channels=self.in_channels,
            patch_size=(height, width),
            img_size=(self.grid[1] * height, self.grid[2] * width),
        )

    def forward_features(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Return the final tokens of the patches on their grid.

        Volumes that are no multiple of the patch are extended, see :class:`PatchEmbed3d`.

        Raises:
            ModelError: If ``x`` does not have five axes, the encoder's channels and a voxel.
        """
        tokens, grid = self._run(x, [])
        return self._map(tokens, grid)

    def forward_stages(self, x: Float[Tensor, "b c d h w"]) -> list[Tensor]:
        """Return the tokens after four blocks, evenly spaced to the last, each on the grid.

        They are not normalized, as timm's intermediate features are not.

        Raises:
            ModelError: As ``forward_features``.
        """
        stages: list[Tensor] = []
        _, grid = self._run(x, stages)
        return [self._map(tokens, grid) for tokens in stages]

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b n"]:
        """Return the pooled features that the 2D classifier takes.

        Raises:
            ModelError: As ``forward_features``.
        """
        tokens, grid = self._run(x, [])
        if self._attention_pool is not None:
            tokens = tokens if self._pools_prefix else tokens[:, self._prefix :]
            bias = self._bias(tokens, grid) if self._pools_prefix else None
            pooled: Tensor = self._attention_pool(tokens, attn_mask=bias)
        else:
            pooled = global_pool_nlc(
                tokens, pool_type=self._pooling, num_prefix_tokens=self._prefix
            )
        norm: nn.Module = self.get_submodule("fc_norm")
        vector: Tensor = norm(pooled)
        return vector

    def pool(self, features: Float[Tensor, "b f e i j"]) -> Float[Tensor, "b n"]:
        """Make a vector of the final feature map, where the original pools its patches.

        Raises:
            ModelError: If the original pools its class token, which a map does not have.
        """
        whole = self._attention_pool is not None and self._pools_prefix and self._prefix > 0
        if self._pooling == "token" or whole:
            raise ModelError(
                f"this {self.declaration.family} network pools its class token, which a feature "
                "map does not have. Call the encoder itself."
            )
        patches = features.flatten(2).transpose(1, 2)
        if self._attention_pool is not None:
            pooled: Tensor = self._attention_pool(patches)
        else:
            pooled = global_pool_nlc(patches, pool_type=self._pooling, num_prefix_tokens=0)
        vector: Tensor = self.get_submodule("fc_norm")(pooled)
        return vector

    def _map(self, tokens: Tensor, grid: Size3) -> Tensor:
        patches = tokens[:, self._prefix :]
        return patches.transpose(1, 2).reshape(len(tokens), -1, *grid)

    def _run(self, x: Tensor, stages: list[Tensor]) -> tuple[Tensor, Size3]:
        """Run all blocks; what leaves the stages' last blocks is added to ``stages``."""
        self.check_input(x)
        patches: Tensor = self.patch_embed(x)
        depth, height, width = patches.shape[1:4]
        grid = (depth, height, width)
        tokens = self._positioned(patches.flatten(1, 3), grid)
        tokens = self.get_submodule("norm_pre")(tokens)
        bias, angles = self._bias(tokens, grid), self._angles(grid, tokens)
        blocks: Any = self.get_submodule("blocks")
        last = {len(blocks) * (stage + 1) // 4 - 1 for stage in range(4)}
        for index, block in enumerate(blocks):
            inputs = [tokens, *([angles[index]] if self._eva else []), bias]
            tokens = self.run_block(f"blocks.{index}", block, *inputs)
            if index in last:
                stages.append(tokens)
        return self.get_submodule("norm")(tokens), grid

    def _positioned(self, patches: Tensor, grid: Size3) -> Tensor:
        """Add positions to the patches, and class and register tokens before them."""
        if self.depth_embed is not None:
            rows: Tensor = resize_table(self.depth_embed[0], (self.grid[0], 1, 1), (grid[0], 1, 1))
            patches = patches + rows.repeat_interleave(grid[1] * grid[2], dim=0).to(patches.dtype)
        before = [
            token.expand(len(patches), -1, -1)
            for token in (self.cls_token, self.reg_token)
            if token is not None
        ]
        table = self._table_for(grid)
        if table is not None and self._apart:
            patches = patches + table
        tokens = torch.cat([*before, patches], dim=1)
        if table is not None and not self._apart:
            tokens = tokens + table
        positioned: Tensor = self.get_submodule("pos_drop")(tokens)
        return positioned

    def _table_for(self, grid: Size3) -> Tensor | None:
        if self.pos_embed is None or grid == self.grid:
            return self.pos_embed
        rows = self.pos_embed[0]
        places = resize_table(rows[self._rows_before :], self.grid, grid, self._interpolation)
        return torch.cat([rows[: self._rows_before], places]).unsqueeze(0)

    def _bias(self, tokens: Tensor, grid: Size3) -> Tensor | None:
        """Return what is added to the logits of each token as a key."""
        if not self.balance_prefix or self._prefix == 0 or grid[0] == 1:
            return None
        bias = tokens.new_zeros(1, 1, 1, tokens.shape[1])
        bias[..., : self._prefix] = math.log(grid[0])
        return bias

    def _angles(self, grid: Size3, tokens: Tensor) -> list[Tensor | None]:
        """Return the rotation of each patch, for each block; the same in every plane."""
        count = len(list(self.get_submodule("blocks").children()))
        if self._rotary is None:
            return [None] * count
        if isinstance(self._rotary, AxialRotation):
            return [self._rotary.get_embed(grid).to(tokens.device)] * count
        plane: Tensor = self._rotary.get_embed(shape=list(grid[1:]))
        repeats = [1] * plane.ndim
        repeats[-2] = grid[0]
        volume = plane.to(tokens.device).repeat(repeats)
        # "Mixed" rotations are learned, for each block and head.
        return list(volume) if volume.ndim == 4 else [volume] * count


def _table(given: Tensor | None, grid: Size3, before: int) -> nn.Parameter | None:
    if given is None:
        return None
    table = torch.empty(1, before + math.prod(grid), given.shape[-1])
    return nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
