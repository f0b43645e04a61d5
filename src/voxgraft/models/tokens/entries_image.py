"""What the registry says of 2D transformers made 3D."""

from __future__ import annotations

from functools import partial

from voxgraft.models.entry import ModelEntry
from voxgraft.models.tokens.build_plain import PLAIN_OPTIONS, build_vit
from voxgraft.models.tokens.build_windowed import WINDOWED_OPTIONS, build_swin

_PLAIN = {
    "vit_tiny_patch16_224": "plain ViT, class token",
    "vit_small_patch16_224": "plain ViT, class token",
    "vit_base_patch16_224": "plain ViT, class token",
    "vit_large_patch16_224": "plain ViT, class token",
    "deit3_small_patch16_224": "ViT of DeiT III, layer scale",
    "deit3_base_patch16_224": "ViT of DeiT III, layer scale",
    "vit_small_patch14_dinov2": "ViT of DINOv2",
    "vit_base_patch14_dinov2": "ViT of DINOv2",
    "vit_large_patch14_dinov2": "ViT of DINOv2",
    "vit_small_patch14_reg4_dinov2": "ViT of DINOv2 with four registers",
    "vit_base_patch14_reg4_dinov2": "ViT of DINOv2 with four registers",
    "vit_large_patch14_reg4_dinov2": "ViT of DINOv2 with four registers",
    "vit_base_patch16_clip_224": "vision tower of CLIP",
    "vit_base_patch16_siglip_224": "vision tower of SigLIP, pooled by attention",
}
_EVA = {
    "vit_small_patch16_dinov3": "ViT of DINOv3, rotary positions, four registers",
    "vit_base_patch16_dinov3": "ViT of DINOv3, rotary positions, four registers",
    "vit_large_patch16_dinov3": "ViT of DINOv3, rotary positions, four registers",
    "eva02_small_patch14_224": "EVA-02, rotary positions and a table",
    "eva02_base_patch14_224": "EVA-02, rotary positions and a table",
}
_SWIN = {
    "swin_tiny_patch4_window7_224": "Swin, windows of 7",
    "swin_small_patch4_window7_224": "Swin, windows of 7",
    "swin_base_patch4_window7_224": "Swin, windows of 7",
}
_SWINV2 = {
    "swinv2_tiny_window8_256": "Swin V2, windows of 8",
    "swinv2_small_window8_256": "Swin V2, windows of 8",
}


def _plain(architecture: str, kind: str, family: str) -> ModelEntry:
    return ModelEntry(
        name=f"{architecture}_3d",
        description=f"3D twin of timm's {architecture}: {kind}",
        family=family,
        twin_of=architecture,
        build=partial(build_vit, architecture),
        options=PLAIN_OPTIONS,
    )


def _windowed(architecture: str, kind: str, family: str) -> ModelEntry:
    return ModelEntry(
        name=f"{architecture}_3d",
        description=f"3D twin of timm's {architecture}: {kind}",
        family=family,
        twin_of=architecture,
        build=partial(build_swin, architecture),
        options=WINDOWED_OPTIONS,
    )


ENTRIES: tuple[ModelEntry, ...] = (
    *(_plain(name, kind, "vit") for name, kind in _PLAIN.items()),
    *(_plain(name, kind, "eva") for name, kind in _EVA.items()),
    *(_windowed(name, kind, "swin") for name, kind in _SWIN.items()),
    *(_windowed(name, kind, "swinv2") for name, kind in _SWINV2.items()),
)
