"""The published video transformers without stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from voxgraft.models.tokens.video_vit import VideoViTConfig

VIDEOMAE_BASE = VideoViTConfig(
    family="videomae",
    reference="transformers.VideoMAEModel",
    head="head",
    width=768,
    depth=12,
    heads=12,
    hidden=3072,
    tubelet=(2, 16, 16),
    grid=(8, 14, 14),
    positions="sinusoidal",
    bias="query_value",
)
TIMESFORMER_BASE = VideoViTConfig(
    family="timesformer",
    reference="transformers.TimesformerModel",
    head="head",
    width=768,
    depth=12,
    heads=12,
    hidden=3072,
    tubelet=(1, 16, 16),
    grid=(8, 14, 14),
    positions="separate",
    divided=True,
    class_token=True,
)
VIVIT_BASE = VideoViTConfig(
    family="vivit",
    reference="transformers.VivitModel",
    head="head",
    width=768,
    depth=12,
    heads=12,
    hidden=3072,
    tubelet=(2, 16, 16),
    grid=(16, 14, 14),
    positions="learned",
    class_token=True,
    activation="gelu_tanh",
)
VJEPA2_LARGE = VideoViTConfig(
    family="vjepa2",
    reference="transformers.VJEPA2Model",
    head="classifier",
    width=1024,
    depth=24,
    heads=16,
    hidden=4096,
    tubelet=(2, 16, 16),
    grid=(32, 16, 16),
    positions="rotary",
)

_VIDEOMAE_LARGE = replace(VIDEOMAE_BASE, width=1024, depth=24, heads=16, hidden=4096)
_VIDEOMAE_GIANT = replace(
    VIDEOMAE_BASE,
    width=1408,
    depth=40,
    heads=16,
    hidden=6144,
    tubelet=(2, 14, 14),
    grid=(8, 16, 16),
)
_FINETUNED: Mapping[str, VideoViTConfig] = {
    "small": replace(VIDEOMAE_BASE, width=384, heads=6, hidden=1536),
    "base": VIDEOMAE_BASE,
    "large": _VIDEOMAE_LARGE,
    "huge": replace(VIDEOMAE_BASE, width=1280, depth=32, heads=16, hidden=5120),
    "giant": _VIDEOMAE_GIANT,
}

CONFIGS: Mapping[str, VideoViTConfig] = {
    "videomae_base": VIDEOMAE_BASE,
    "videomae_large": _VIDEOMAE_LARGE,
    **{
        f"videomae_{size}_finetuned": replace(config, norm="pooled")
        for size, config in _FINETUNED.items()
    },
    "timesformer_base": TIMESFORMER_BASE,
    "timesformer_hr": replace(TIMESFORMER_BASE, grid=(16, 28, 28)),
    "vivit_b_16x2": VIVIT_BASE,
    "vjepa2_vitl": VJEPA2_LARGE,
    "vjepa2_vith": replace(VJEPA2_LARGE, width=1280, depth=32, hidden=5120),
    "vjepa2_vitg": replace(VJEPA2_LARGE, width=1408, depth=40, heads=22, hidden=6144),
}
"""Configuration of each network, by its name in the registry."""
