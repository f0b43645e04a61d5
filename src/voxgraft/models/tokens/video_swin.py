"""Video Swin transformers: attention in shifted windows of a volume, in four stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.models.declaration import Declaration, Positions
from voxgraft.models.encoder import Encoder
from voxgraft.models.initialization import seeded
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.types import Size3


@dataclass(frozen=True, kw_only=True)
class VideoSwinConfig:
    """What distinguishes one Video Swin transformer from another."""

    width: int
    """Channels of the first stage; each further stage has twice as many."""
    depths: tuple[int, int, int, int]
    heads: tuple[int, int, int, int]
    window: Size3 = (8, 7, 7)
    """Tokens of a window (depth, height, width)."""
    reference: str


CONFIGS = {
    "swin3d_t": VideoSwinConfig(
        width=96,
        depths=(2, 2, 6, 2),
        heads=(3, 6, 12, 24),
        reference="torchvision.models.video.swin3d_t",
    ),
    "swin3d_s": VideoSwinConfig(
        width=96,
        depths=(2, 2, 18, 2),
        heads=(3, 6, 12, 24),
        reference="torchvision.models.video.swin3d_s",
    ),
    "swin3d_b": VideoSwinConfig(
        width=128,
        depths=(2, 2, 18, 2),
        heads=(4, 8, 16, 32),
        reference="torchvision.models.video.swin3d_b",
    ),
    "swin3d_b_window16": VideoSwinConfig(
        width=128,
        depths=(2, 2, 18, 2),
        heads=(4, 8, 16, 32),
        window=(16, 7, 7),
        reference="torchvision.models.video.SwinTransformer3d",
    ),
}
"""Configuration of each network, by its name in the registry."""

_PATCH: Size3 = (2, 4, 4)


class VideoSwin(Encoder):
    """A Video Swin transformer; what was time is depth.

    Takes volumes of any size: they are filled up with zeros at their end to whole patches, and
    each stage to whole windows, as in the original. Depth is halved once, at the patches. Its
    feature map is that of the last stage, normalized; its stages are those before the next one
    merges patches, not normalized.
    """

    def __init__(self, reference: Any, declaration: Declaration, *, in_channels: int) -> None:
        """Take the modules of torchvision's network over.

        Args:
            reference: torchvision's ``SwinTransformer3d``.
            declaration: What the network is.
            in_channels: Channels of the volumes.
        """
        super().__init__(declaration, in_channels=in_channels)
        self.patch_embed = reference.patch_embed
        stem = self.patch_embed.proj
        self.patch_embed.proj = nn.Conv3d(
            in_channels, stem.out_channels, stem.kernel_size, stride=stem.stride
        )
        self.features: nn.Sequential = reference.features
        self.norm: nn.LayerNorm = reference.norm
        for module in self.modules():
            index = dict(module.named_buffers(recurse=False)).get("relative_position_index")
            if index is not None:
                # Computed from the window's size: no weight, and not in every public file.
                module.register_buffer("relative_position_index", index, persistent=False)

    def forward_features(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Return the last stage's feature map, normalized.

        Raises:
            ModelError: If ``x`` does not have five axes and the encoder's channels.
        """
        return _channels_first(self.norm(self._run(x)[-1]))

    def forward_stages(self, x: Float[Tensor, "b c d h w"]) -> list[Tensor]:
        """Return the feature map of each stage, shallowest first.

        Raises:
            ModelError: As ``forward_features``.
        """
        return [_channels_first(stage) for stage in self._run(x)]

    def pool(self, features: Float[Tensor, "b f e i j"]) -> Float[Tensor, "b n"]:
        """Return the mean over all places."""
        return features.flatten(2).mean(dim=2)

    def _run(self, x: Float[Tensor, "b c d h w"]) -> list[Float[Tensor, "b d h w f"]]:
        self.check_input(x)
        x = self.run_block("patch_embed", self.patch_embed, x)
        stages = []
        for index, part in enumerate(self.features):
            if not isinstance(part, nn.Sequential):
                x = self.run_block(f"features.{index}", part, x)
                continue
            for number, block in enumerate(part):
                x = self.run_block(f"features.{index}.{number}", block, x)
            stages.append(x)
        return stages


def _channels_first(x: Float[Tensor, "b d h w f"]) -> Float[Tensor, "b f d h w"]:
    return x.permute(0, 4, 1, 2, 3)


def build_video_swin(
    config: VideoSwinConfig,
    *,
    in_channels: int = 1,
    drop_path: float = 0.0,
    seed: int | None = None,
) -> VideoSwin:
    """Build a Video Swin transformer with random weights.

    Args:
        config: Which network.
        in_channels: Channels of the volumes.
        drop_path: Probability of stochastic depth in the deepest block.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.

    Source:
        arXiv:2106.13230. A map smaller than the window along an axis is one window there; its
        relative positions are then read from the corner of the index, as the public code does.
    """
    from torchvision.models.video import SwinTransformer3d

    check_options(in_channels, drop_path)
    with seeded(seed):
        original = SwinTransformer3d(
            patch_size=list(_PATCH),
            embed_dim=config.width,
            depths=list(config.depths),
            num_heads=list(config.heads),
            window_size=list(config.window),
            stochastic_depth_prob=drop_path,
            num_classes=1,
        )
        return VideoSwin(original, _declare(config), in_channels=in_channels)


def _declare(config: VideoSwinConfig) -> Declaration:
    deep, high, wide = _PATCH
    strides = tuple((deep, high << stage, wide << stage) for stage in range(4))
    tables = tuple(
        Positions(
            name=f"features.{2 * stage}.{block}.attn.relative_position_bias_table",
            kind="relative",
            grid=config.window,
        )
        for stage, depth in enumerate(config.depths)
        for block in range(depth)
    )
    return Declaration(
        family="video_swin",
        stem="patch_embed.proj.weight",
        head="head",
        feature_channels=tuple(config.width << stage for stage in range(4)),
        strides=strides,
        num_features=config.width << 3,
        min_size=(1, 1, 1),
        preferred_size=preferred_size(strides[-1]),
        twin_of=None,
        native="video",
        reference=config.reference,
        positions=tables,
    )
