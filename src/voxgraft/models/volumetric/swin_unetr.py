"""The Swin transformer of MONAI's Swin UNETR."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.models.declaration import Declaration, Positions
from voxgraft.models.initialization import seeded
from voxgraft.models.orientation import AXES, Oriented
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.models.volumetric.segresnet import doubling_strides
from voxgraft.types import Size3

WINDOW: Size3 = (7, 7, 7)
HEADS = (3, 6, 12, 24)


class _SwinTransformer(nn.Module):
    """MONAI's blocks under MONAI's names.

    Put together here, since MONAI's own class cannot be built without memory.
    """

    def __init__(
        self,
        in_channels: int,
        feature_size: int,
        v2: bool,
        depths: Sequence[int],
        drop_path: float,
    ) -> None:
        from monai.networks.blocks.patchembedding import PatchEmbed
        from monai.networks.blocks.unetr_block import UnetrBasicBlock
        from monai.networks.nets.swin_unetr import BasicLayer, PatchMerging

        super().__init__()
        plain: Any = None  # no normalization; MONAI's annotation leaves that out
        self.patch_embed = PatchEmbed(
            patch_size=(2, 2, 2),
            in_chans=in_channels,
            embed_dim=feature_size,
            norm_layer=plain,
            spatial_dims=3,
        )
        merging: Any = PatchMerging
        last = max(sum(depths) - 1, 1)
        chances = [drop_path * number / last for number in range(sum(depths))]
        for stage, depth in enumerate(depths):
            width = feature_size * 2**stage
            first = sum(depths[:stage])
            layer = BasicLayer(
                dim=width,
                depth=depth,
                num_heads=HEADS[stage],
                window_size=WINDOW,
                drop_path=chances[first : first + depth],
                qkv_bias=True,
                downsample=merging,
            )
            self.add_module(f"layers{stage + 1}", nn.ModuleList([layer]))
            if v2:
                block = UnetrBasicBlock(
                    spatial_dims=3,
                    in_channels=width,
                    out_channels=width,
                    kernel_size=3,
                    stride=1,
                    norm_name="instance",
                    res_block=True,
                )
                self.add_module(f"layers{stage + 1}c", nn.ModuleList([block]))


def _run_stage(layer: Any, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
    """Run a stage's blocks and its merging, as MONAI's ``BasicLayer`` does with another package."""
    from monai.networks.nets import swin_unetr

    untyped: Any = swin_unetr
    size = tuple(x.shape[2:])
    window, shift = untyped.get_window_size(size, layer.window_size, layer.shift_size)
    whole = [-(-edge // step) * step for edge, step in zip(size, window, strict=True)]
    mask = untyped.compute_mask(whole, window, shift, x.device)
    x = x.movedim(1, -1).contiguous()
    for block in layer.blocks:
        x = block(x, mask)
    merged: Tensor = layer.downsample(x)
    return merged.movedim(-1, 1)


def _normalized(x: Tensor) -> Tensor:
    """Normalize each voxel over its channels, without learned scales."""
    last = x.movedim(1, -1)
    return F.layer_norm(last, last.shape[-1:]).movedim(-1, 1)


class SwinUNETREncoder(Oriented):
    """The Swin transformer of Swin UNETR; its tensors have MONAI's names, ``swinViT.*``.

    Five maps: the patch embedding and the four stages, each normalized over its channels without
    learned scales, as MONAI's decoder takes them. The convolutions between these maps and the
    decoder (MONAI's ``encoder1`` to ``encoder10``) belong to the decoder here. The pooled vector
    is the mean of the last map.

    A volume of any size runs: odd sizes are extended by zeros before the patches are cut and
    before each merging, and maps to whole windows, all inside MONAI's modules. A window that is
    larger than the map shrinks to it.

    Source: arXiv:2201.01266; version 2 (a residual convolution block before each stage):
    monai.networks.nets.SwinUNETR(use_v2=True).
    """

    def __init__(
        self,
        *,
        in_channels: int,
        feature_size: int,
        v2: bool,
        depths: Sequence[int],
        drop_path: float,
    ) -> None:
        """Make the network.

        Args:
            in_channels: Channels of the volumes.
            feature_size: Channels of the patch embedding.
            v2: Whether a residual convolution block stands before each stage.
            depths: Transformer blocks of each stage.
            drop_path: Probability of stochastic depth in the deepest block.
        """
        stages = len(depths)
        strides = doubling_strides(stages + 1, first=2)
        channels = tuple(feature_size * 2**stage for stage in range(stages + 1))
        more = strides[-2][0] + 1
        tables = [
            Positions(
                name=f"swinViT.layers{stage + 1}.0.blocks.{block}.attn."
                "relative_position_bias_table",
                kind="relative",
                grid=WINDOW,
            )
            for stage, depth in enumerate(depths)
            for block in range(depth)
        ]
        declaration = Declaration(
            family="swin_unetr",
            stem="swinViT.patch_embed.proj.weight",
            head="out",
            feature_channels=channels,
            strides=strides,
            num_features=channels[-1],
            # The convolution blocks' instance normalization needs two voxels of each map.
            min_size=(more, more, more) if v2 else (1, 1, 1),
            preferred_size=preferred_size(strides[-1]),
            twin_of=None,
            native="volume",
            reference="monai.networks.nets.SwinUNETR",
            positions=tuple(tables),
        )
        super().__init__(declaration, in_channels=in_channels)
        self.v2 = v2
        self.swinViT = _SwinTransformer(in_channels, feature_size, v2, depths, drop_path)

    def forward_features(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Return the final feature map.

        Raises:
            ModelError: If ``x`` does not have five axes, the encoder's channels and at least its
                minimal size.
        """
        return self.forward_stages(x)[-1]

    def forward_stages(self, x: Float[Tensor, "b c d h w"]) -> list[Tensor]:
        """Return the patch embedding and the map of each stage, shallowest first.

        Raises:
            ModelError: As ``forward_features``.
        """
        self.check_input(x)
        swin = self.swinViT
        x = self.run_block("swinViT.patch_embed", swin.patch_embed, self.turned(x))
        maps = [_normalized(x)]
        for stage in range(1, len(self.declaration.strides)):
            if self.v2:
                name = f"swinViT.layers{stage}c.0"
                x = self.run_block(name, self.get_submodule(name), x.contiguous())
            name = f"swinViT.layers{stage}.0"
            x = self.run_block(name, partial(_run_stage, self.get_submodule(name)), x)
            maps.append(_normalized(x))
        return [self.turned_back(stage) for stage in maps]

    def pool(self, features: Float[Tensor, "b f e i j"]) -> Float[Tensor, "b n"]:
        """Return the mean of the map."""
        return features.mean(dim=(2, 3, 4))


def build_swin_unetr(
    feature_size: int,
    v2: bool = False,
    depths: tuple[int, ...] = (2, 2, 2, 2),
    *,
    in_channels: int = 1,
    axes: str = AXES,
    drop_path: float = 0.0,
    seed: int | None = None,
) -> SwinUNETREncoder:
    """Build the Swin transformer of Swin UNETR with random weights.

    Args:
        feature_size: Channels of the patch embedding; a multiple of 12.
        v2: Whether a residual convolution block stands before each stage.
        depths: Transformer blocks of each stage.
        in_channels: Channels of the volumes.
        axes: Directions to which the axes of the volumes ran in training ("RAS"); each volume is
            turned to them.
        drop_path: Probability of stochastic depth in the deepest block.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    check_options(in_channels, drop_path)
    with seeded(seed):
        encoder = SwinUNETREncoder(
            in_channels=in_channels,
            feature_size=feature_size,
            v2=v2,
            depths=depths,
            drop_path=drop_path,
        )
    encoder.set_axes(axes)
    return encoder
