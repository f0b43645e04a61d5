"""Builds the 3D twins of timm's Swin transformers."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from timm.models.swin_transformer_v2 import SwinTransformerV2

from voxgraft.errors import ModelError
from voxgraft.models.declaration import Declaration, Positions
from voxgraft.models.depth import DepthGeometry
from voxgraft.models.initialization import seeded
from voxgraft.models.tokens.timm_network import WINDOWED, build_image_network
from voxgraft.models.tokens.windowed import SwinTwin3D
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.types import Size3

WINDOWED_OPTIONS = frozenset({"depth_stride", "drop_path", "seed", "window_depth"})
"""Options of the 3D twins of Swin transformers."""


def build_swin(
    architecture: str,
    *,
    in_channels: int = 1,
    window_depth: int | None = None,
    depth_stride: int | None = None,
    drop_path: float = 0.0,
    seed: int | None = None,
    timm_options: dict[str, Any] | None = None,
) -> SwinTwin3D:
    """Build the 3D twin of one of timm's Swin transformers, V1 or V2.

    Args:
        architecture: timm's name of the 2D network.
        in_channels: Channels of the volumes.
        window_depth: Depth of the windows in tokens; by default their height.
        depth_stride: Total reduction along depth; by default that of the plane. Where it is
            smaller, the layers nearest the input do not reduce the depth.
        drop_path: Probability of stochastic depth in the deepest block.
        seed: Seed of the random weights; None draws from PyTorch's global generator.
        timm_options: Options of timm's for the 2D network; the result is then a twin of no
            network of timm's by name.

    Raises:
        ModelError: If timm has no such network, it has no 3D rule, or an option is impossible.
    """
    check_options(in_channels, drop_path)
    with seeded(seed):
        options = {"drop_path_rate": drop_path, **(timm_options or {})}
        network = build_image_network(architecture, in_channels, **options)
        if type(network) not in WINDOWED:
            raise ModelError(f"{architecture} is no Swin transformer.")
        reductions = [int(info["reduction"]) for info in network.feature_info]
        depth = DepthGeometry.resolve("full", "replicate", depth_stride, reductions[-1])
        deep = [depth.reduction(reduction) for reduction in reductions]
        height, width = (int(size) for size in network.patch_embed.patch_size)
        windows = tuple(
            _window_depth(window_depth, int(stage.blocks[0].window_size[0]))
            for stage in network.layers
        )
        strides = tuple((d, r, r) for d, r in zip(deep, reductions, strict=True))
        return SwinTwin3D(
            network,
            _declare(network, strides, windows, None if timm_options else architecture),
            in_channels=in_channels,
            patch=(deep[0], height, width),
            window_depths=windows,
            merges=(
                False,
                *(after > before for before, after in pairwise(deep)),
            ),
        )


def _window_depth(given: int | None, usual: int) -> int:
    if given is None:
        return usual
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise ModelError(
            f"window_depth is {given!r}; expected a whole number of tokens of at least 1. Leave it "
            "out for windows as deep as high."
        )
    return given


def _declare(
    network: Any, strides: tuple[Size3, ...], windows: tuple[int, ...], twin_of: str | None
) -> Declaration:
    second = isinstance(network, SwinTransformerV2)
    tables = [
        Positions(
            name=f"layers.{number}.blocks.{index}.attn."
            + ("cpb_mlp.0.weight" if second else "relative_position_bias_table"),
            kind="coordinates" if second else "relative",
            grid=(depth, int(block.window_size[0]), int(block.window_size[1])),
        )
        for number, (stage, depth) in enumerate(zip(network.layers, windows, strict=True))
        for index, block in enumerate(stage.blocks)
    ]
    return Declaration(
        family="swinv2" if second else "swin",
        stem="patch_embed.proj.weight",
        head=str(network.pretrained_cfg.get("classifier") or "head.fc"),
        feature_channels=tuple(int(info["num_chs"]) for info in network.feature_info),
        strides=strides,
        num_features=int(network.head_hidden_size),
        min_size=(1, 1, 1),
        preferred_size=preferred_size(strides[-1]),
        twin_of=twin_of,
        positions=tuple(tables),
    )
