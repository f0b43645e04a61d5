"""What the registry says of these networks."""

from __future__ import annotations

from functools import partial

from timm.models import model_entrypoint

from voxgraft.models.entry import ModelEntry
from voxgraft.models.slicewise.encoder import SLICEWISE_OPTIONS, build_slicewise

_KINDS: dict[str, str] = {
    "resnet18": "residual network",
    "resnet50": "residual network",
    "resnext101_32x8d": "grouped residual network",
    "densenet121": "densely connected network",
    "efficientnet_lite0": "inverted residuals, no squeeze-and-excitation",
    "efficientnet_b0": "inverted residuals with squeeze-and-excitation",
    "tf_efficientnetv2_s": "inverted residuals, fused where shallow",
    "mobilenetv2_100": "inverted residuals with linear bottlenecks",
    "mobilenetv3_large_100": "inverted residuals, pooled early",
    "convnext_tiny": "depthwise convolutions, layer normalization",
    "convnextv2_tiny": "depthwise convolutions, global response normalization",
    "regnety_008": "grouped residual network with squeeze-and-excitation",
    "swin_tiny_patch4_window7_224": "shifted windows",
    "swinv2_tiny_window8_256": "shifted windows, V2",
    "deit_small_patch16_224": "vision transformer",
    "vit_small_patch16_224": "vision transformer",
    "vit_base_patch16_224": "vision transformer",
    "vit_small_patch14_dinov2": "vision transformer, DINOv2",
    "vit_base_patch14_dinov2": "vision transformer, DINOv2",
    "vit_small_patch14_reg4_dinov2": "vision transformer with registers, DINOv2",
    "vit_base_patch14_reg4_dinov2": "vision transformer with registers, DINOv2",
    "vit_small_patch16_dinov3": "vision transformer with rotary positions, DINOv3",
    "vit_base_patch16_dinov3": "vision transformer with rotary positions, DINOv3",
    "vit_base_patch16_clip_224": "vision transformer, CLIP's image tower",
    "vit_base_patch16_siglip_224": "vision transformer, SigLIP's image tower",
    "eva02_small_patch14_224": "vision transformer with rotary positions, EVA-02",
}
"""timm's name of a network, and what it is."""


def _entry(architecture: str, kind: str) -> ModelEntry:
    return ModelEntry(
        name=f"slicewise_{architecture}",
        description=f"timm's {architecture} on each slice: {kind}",
        family="slicewise",
        build=partial(build_slicewise, architecture),
        options=SLICEWISE_OPTIONS,
        reference=f"{model_entrypoint(architecture).__module__}.{architecture}",
    )


_LRCN = "resnext101_32x8d"

ENTRIES: tuple[ModelEntry, ...] = (
    *(_entry(name, kind) for name, kind in _KINDS.items()),
    ModelEntry(
        name=f"lrcn_{_LRCN}",
        description=f"timm's {_LRCN} on each slice, differences to both neighbors, recurrent",
        family="slicewise",
        build=partial(build_slicewise, _LRCN, join="lrcn"),
        options=SLICEWISE_OPTIONS,
        reference=f"{model_entrypoint(_LRCN).__module__}.{_LRCN}",
    ),
)
