"""What the registry says of the video transformers."""

from __future__ import annotations

from functools import partial

from voxgraft.models.entry import ModelEntry
from voxgraft.models.tokens.mvit import CONFIGS as MVIT_CONFIGS
from voxgraft.models.tokens.mvit import MViTConfig, build_mvit
from voxgraft.models.tokens.video_swin import CONFIGS as SWIN_CONFIGS
from voxgraft.models.tokens.video_swin import VideoSwinConfig, build_video_swin
from voxgraft.models.tokens.video_vit import VideoViTConfig, build_video_vit
from voxgraft.models.tokens.video_vit_configs import CONFIGS as VIT_CONFIGS

_OPTIONS = frozenset({"drop_path", "seed"})

_KINDS = {
    "videomae": "VideoMAE: joint attention, sinusoidal positions",
    "timesformer": "TimeSformer: divided attention over depth and plane, class token",
    "vivit": "ViViT (model 1): joint attention, learned positions, class token",
    "vjepa2": "V-JEPA 2: joint attention, rotary positions",
}


def _vit(name: str, config: VideoViTConfig) -> ModelEntry:
    size = "×".join(map(str, config.tubelet))
    tables = config.positions in ("learned", "separate")
    pooled = ", normalizes the mean of the tokens" if config.norm == "pooled" else ""
    return ModelEntry(
        name=name,
        description=(
            f"{_KINDS[config.family]}; {config.depth} blocks of {config.width} channels, patches "
            f"of {size}{pooled}"
        ),
        family=config.family,
        build=partial(build_video_vit, config),
        options=_OPTIONS | ({"input_size"} if tables else set()),
        native="video",
        reference=config.reference,
    )


def _swin(name: str, config: VideoSwinConfig) -> ModelEntry:
    window = "×".join(map(str, config.window))
    return ModelEntry(
        name=name,
        description=(
            f"Video Swin: blocks {config.depths} from {config.width} channels, windows of {window}"
        ),
        family="video_swin",
        build=partial(build_video_swin, config),
        options=_OPTIONS,
        native="video",
        reference=config.reference,
    )


def _mvit(name: str, config: MViTConfig) -> ModelEntry:
    depth = config.input_size[0]
    positions = "relative positions" if config.version == 2 else "positions of plane and of depth"
    return ModelEntry(
        name=name,
        description=(
            f"MViT V{config.version}: {config.blocks} blocks that pool, from {config.width} "
            f"channels, {positions} ({depth} slices); as {config.reference}"
        ),
        family="mvit",
        build=partial(build_mvit, config),
        options=_OPTIONS | {"input_size"},
        native="video",
        reference=config.reference,
    )


ENTRIES: tuple[ModelEntry, ...] = (
    *(_mvit(name, config) for name, config in MVIT_CONFIGS.items()),
    *(_swin(name, config) for name, config in SWIN_CONFIGS.items()),
    *(_vit(name, config) for name, config in VIT_CONFIGS.items()),
)
