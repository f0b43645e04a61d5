"""The 3D twin of timm's Swin transformers."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from timm.models.swin_transformer_v2 import SwinTransformerV2
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.models.declaration import Declaration
from voxgraft.models.encoder import Encoder
from voxgraft.models.layers.padding import pad_depth
from voxgraft.models.tokens.patch_embedding import PatchEmbed3d
from voxgraft.models.tokens.timm_network import build_image_reference
from voxgraft.models.tokens.window_attention import BiasFromCoordinates, BiasFromTable
from voxgraft.models.tokens.windows import foreign_pairs, merge, partition
from voxgraft.types import Size3


class SwinBlock3d(nn.Module):
    """A block of Swin on volumes: attention within windows, in every other block shifted.

    In the plane, windows, shifts and the zeros that fill the last windows are timm's. A map that
    is shallower than the window is one window deep and not shifted along depth.
    """

    def __init__(self, block: Any, window_depth: int, *, shifted: bool, after: bool) -> None:
        """Adopt timm's block.

        Args:
            block: timm's block.
            window_depth: Depth of the windows in tokens.
            shifted: Whether windows are shifted by half along depth.
            after: Whether norms come after what they normalize (V2), not before.
        """
        super().__init__()
        height, width = (int(size) for size in block.window_size)
        self.window: Size3 = (window_depth, height, width)
        down, right = (int(size) for size in block.shift_size)
        self.shift: Size3 = (window_depth // 2 if shifted else 0, down, right)
        self._after = after
        kind = BiasFromCoordinates if after else BiasFromTable
        attention = kind(block.attn, self.window)
        # In the order of timm's own tensors.
        order = ("attn", "norm1", "mlp", "norm2") if after else ("norm1", "attn", "norm2", "mlp")
        for name in order:
            self.add_module(name, attention if name == "attn" else getattr(block, name))
        self.drop_path1 = block.drop_path1
        self.drop_path2 = block.drop_path2

    def forward(self, x: Float[Tensor, "b d h w c"]) -> Float[Tensor, "b d h w c"]:
        """Attend within windows, then run the network of each token."""
        norm1, norm2 = self.get_submodule("norm1"), self.get_submodule("norm2")
        mlp = self.get_submodule("mlp")
        if self._after:
            x = x + self.drop_path1(norm1(self._attend(x)))
            x = x + self.drop_path2(norm2(mlp(x)))
        else:
            x = x + self.drop_path1(self._attend(norm1(x)))
            x = x + self.drop_path2(mlp(norm2(x)))
        return x

    def _attend(self, x: Tensor) -> Tensor:
        depth, height, width = x.shape[1:4]
        shallow = depth <= self.window[0]
        window = (depth if shallow else self.window[0], *self.window[1:])
        shift = (0 if shallow else self.shift[0], *self.shift[1:])
        if any(shift):
            x = x.roll([-step for step in shift], dims=(1, 2, 3))
        fill = [-n % step for n, step in zip((depth, height, width), window, strict=True)]
        if any(fill):
            x = F.pad(x, (0, 0, 0, fill[2], 0, fill[1], 0, fill[0]))
        size = (x.shape[1], x.shape[2], x.shape[3])
        foreign = foreign_pairs(size, window, shift, depth, x.device)
        attended = self.get_submodule("attn")(partition(x, window), window, foreign)
        x = merge(attended, window, size)[:, :depth, :height, :width]
        return x.roll(shift, dims=(1, 2, 3)) if any(shift) else x


class PatchMerging3d(nn.Module):
    """Four tokens of the plane become one, as in timm; along depth, two planes their mean.

    The mean needs no weights that the 2D network lacks, and of equal planes it is that plane. Odd
    sizes are extended: the plane by zeros, as in timm, the depth by repeating the last plane.
    """

    def __init__(self, merging: Any, *, depth: bool, after: bool) -> None:
        """Adopt timm's layer.

        Args:
            merging: timm's layer.
            depth: Whether pairs of planes become one.
            after: Whether the norm comes after the reduction (V2).
        """
        super().__init__()
        self.depth = depth
        self._after = after
        for name in ("reduction", "norm") if after else ("norm", "reduction"):
            self.add_module(name, getattr(merging, name))

    def forward(self, x: Float[Tensor, "b d h w c"]) -> Float[Tensor, "b e i j f"]:
        """Return half as many tokens along each axis that is merged, rounded up."""
        if self.depth:
            x = pad_depth(x.movedim(-1, 1), 0, x.shape[1] % 2, "replicate").movedim(1, -1)
            x = (x[:, 0::2] + x[:, 1::2]) / 2
        batch, planes, height, width, channels = x.shape
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))
        x = x.reshape(batch, planes, -(-height // 2), 2, -(-width // 2), 2, channels)
        x = x.permute(0, 1, 2, 4, 5, 3, 6).flatten(4)
        norm, reduction = self.get_submodule("norm"), self.get_submodule("reduction")
        merged: Tensor = norm(reduction(x)) if self._after else reduction(norm(x))
        return merged


class SwinStage3d(nn.Module):
    """A stage of Swin: merging of tokens, but for the first, then blocks."""

    def __init__(self, stage: Any, window_depth: int, *, merge_depth: bool, after: bool) -> None:
        """Adopt timm's stage.

        Args:
            stage: timm's stage.
            window_depth: Depth of the windows in tokens.
            merge_depth: Whether the stage halves the depth too.
            after: Whether norms come after what they normalize (V2).
        """
        super().__init__()
        merging = stage.downsample
        self.downsample: nn.Module = (
            merging
            if isinstance(merging, nn.Identity)
            else PatchMerging3d(merging, depth=merge_depth, after=after)
        )
        blocks = [
            SwinBlock3d(block, window_depth, shifted=index % 2 == 1, after=after)
            for index, block in enumerate(stage.blocks)
        ]
        self.blocks = nn.ModuleList(blocks)


class SwinTwin3D(Encoder):
    """A Swin transformer on volumes, with the layers and names of timm's 2D network.

    On a volume of equal planes, every plane has the features of the 2D network, whatever the depth
    of the volume and of the windows: biases are those of the plane for every offset along depth,
    every place of the plane is seen equally often (see
    :func:`voxgraft.models.tokens.windows.foreign_pairs`), and planes are merged by their mean.

    Source: arXiv:2103.14030 (Swin), arXiv:2111.09883 (Swin V2), arXiv:2106.13230 (Video Swin:
    windows and shifts in 3D). Unlike Video Swin, this network can reduce the depth.
    """

    def __init__(
        self,
        network: Any,
        declaration: Declaration,
        *,
        in_channels: int,
        patch: Size3,
        window_depths: tuple[int, ...],
        merges: tuple[bool, ...],
    ) -> None:
        """Adopt the modules of timm's network.

        Args:
            network: A ``SwinTransformer`` or ``SwinTransformerV2`` of timm, without classifier.
            declaration: What the network is.
            in_channels: Channels of the volumes.
            patch: Size of a patch in voxels.
            window_depths: Depth of the windows of each stage, in tokens.
            merges: For each stage, whether it halves the depth.
        """
        super().__init__(declaration, in_channels=in_channels)
        after = isinstance(network, SwinTransformerV2)
        embed = network.patch_embed
        self.patch_embed = PatchEmbed3d(
            in_channels,
            embed.proj.out_channels,
            patch,
            bias=embed.proj.bias is not None,
            norm=embed.norm,
        )
        self.layers = nn.Sequential(
            *(
                SwinStage3d(stage, depth, merge_depth=merged, after=after)
                for stage, depth, merged in zip(network.layers, window_depths, merges, strict=True)
            )
        )
        self.norm = network.norm
        self._pooling = str(network.global_pool)

    def build_reference(self) -> nn.Module:
        """Build timm's 2D network with this encoder's channels, for a parity check."""
        assert self.declaration.twin_of is not None
        return build_image_reference(self.declaration.twin_of, in_channels=self.in_channels)

    def forward_features(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Return the final feature map.

        Sizes that are no multiple of patches or of merged tokens are extended, see
        :class:`PatchEmbed3d` and :class:`PatchMerging3d`; windows that the map does not fill are
        filled by zeros in the plane, and left alone along depth.

        Raises:
            ModelError: If ``x`` does not have five axes, the encoder's channels and a voxel.
        """
        return self._channels_first(self.norm(self._run(x)[-1]))

    def forward_stages(self, x: Float[Tensor, "b c d h w"]) -> list[Tensor]:
        """Return the feature map of each stage, not normalized, shallowest first.

        Raises:
            ModelError: As ``forward_features``.
        """
        return [self._channels_first(stage) for stage in self._run(x)]

    def pool(self, features: Float[Tensor, "b f e i j"]) -> Float[Tensor, "b n"]:
        """Make a vector of the final feature map, as timm does."""
        if self._pooling == "max":
            return features.amax(dim=(2, 3, 4))
        return features.mean(dim=(2, 3, 4))

    def _run(self, x: Tensor) -> list[Tensor]:
        self.check_input(x)
        tokens: Tensor = self.patch_embed(x)
        stages = []
        for number, stage in enumerate(self.layers):
            assert isinstance(stage, SwinStage3d)
            tokens = stage.downsample(tokens)
            for index, block in enumerate(stage.blocks):
                tokens = self.run_block(f"layers.{number}.blocks.{index}", block, tokens)
            stages.append(tokens)
        return stages

    @staticmethod
    def _channels_first(tokens: Tensor) -> Tensor:
        return torch.movedim(tokens, -1, 1)
