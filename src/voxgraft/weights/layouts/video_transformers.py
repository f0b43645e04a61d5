"""How public files of video transformers name their tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from voxgraft.weights.convert.rules import Drop, Join, Naming, Rename

_FIXED = Drop("pos_embed", "a fixed table of sines, which the network computes itself")
_MASK = Drop("mask_token", "stands for hidden tokens in pre-training; part of the decoder")
_INDEX = Drop(
    r".*relative_position_index", "computed from the window's size, not learned: no weight"
)


def _torchvision_swin(architecture: str) -> tuple[Naming, ...]:
    return (_INDEX,)


def _torchvision_mvit(architecture: str) -> tuple[Naming, ...]:
    return ()


def _video_swin(architecture: str) -> tuple[Naming, ...]:
    blocks = [
        Rename(rf"^layers\.{stage}\.blocks\.", f"features.{2 * stage}.") for stage in range(4)
    ]
    merging = [
        Rename(rf"^layers\.{stage}\.downsample\.", f"features.{2 * stage + 1}.")
        for stage in range(4)
    ]
    return (
        Rename(r"^backbone\.", ""),
        Rename(r"^cls_head\.fc_cls\.", "head."),
        *blocks,
        *merging,
        Rename(r"\.mlp\.fc1\.", ".mlp.0."),
        Rename(r"\.mlp\.fc2\.", ".mlp.3."),
        _INDEX,
    )


def _pytorchvideo_mvit(architecture: str) -> tuple[Naming, ...]:
    parts = tuple(rf"(.*\.attn)\.{part}\.(weight|bias)" for part in "qkv")
    return (
        Rename(r"^patch_embed\.patch_model\.", "conv_proj."),
        Rename(r"^cls_positional_encoding\.cls_token$", "pos_encoding.class_token"),
        Rename(r"^cls_positional_encoding\.pos_embed_spatial$", "pos_encoding.spatial_pos"),
        Rename(r"^cls_positional_encoding\.pos_embed_temporal$", "pos_encoding.temporal_pos"),
        Rename(r"^cls_positional_encoding\.pos_embed_class$", "pos_encoding.class_pos"),
        Rename(r"\.attn\.pool_([qkv])\.weight$", r".attn.pool_\1.pool.weight"),
        Rename(r"\.attn\.norm_([qkv])\.", r".attn.pool_\1.norm_act.0."),
        Rename(r"\.attn\.proj\.", ".attn.project.0."),
        Join(parts, r"\1.qkv.\2"),
        Rename(r"\.mlp\.fc1\.", ".mlp.0."),
        Rename(r"\.mlp\.fc2\.", ".mlp.3."),
        Rename(r"^(blocks\.\d+)\.proj\.", r"\1.project."),
        Rename(r"^norm_embed\.", "norm."),
        Rename(r"^head\.proj\.", "head.1."),
    )


def _videomae(architecture: str) -> tuple[Naming, ...]:
    """Name the tensors as the authors' files do: those of this package, behind prefixes."""
    return (
        Rename(r"^(model|backbone|encoder)\.", ""),
        _FIXED,
        _MASK,
    )


def _split(attention: str) -> Join:
    """Stack query, key and value of transformers' modules, after ``attention`` (a pattern)."""
    parts = tuple(
        rf"(.*?)\.{attention}\.({part})\.(weight|bias)"
        for part in ("query|q_proj", "key|k_proj", "value|v_proj")
    )
    return Join(parts, r"\1.attn.qkv.\3")


def _layers(prefix: str, temporal: bool = False) -> tuple[Naming, ...]:
    """Rename the parts of a layer that transformers copied from its ViT."""
    attention = (
        Rename(r"\.temporal_attention\.attention\.qkv\.", ".temporal_attn.qkv."),
        Rename(r"\.temporal_attention\.output\.dense\.", ".temporal_attn.proj."),
        Rename(r"\.temporal_layernorm\.", ".temporal_norm1."),
        Rename(r"\.temporal_dense\.", ".temporal_fc."),
    )
    return (
        Rename(rf"^{prefix}\.", ""),
        Rename(r"^encoder\.layer\.|^layers\.", "blocks."),
        *(attention if temporal else ()),
        Rename(r"\.attention\.attention\.qkv\.", ".attn.qkv."),
        Rename(r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
        Rename(r"\.layernorm_before\.", ".norm1."),
        Rename(r"\.layernorm_after\.", ".norm2."),
        Rename(r"\.intermediate\.dense\.", ".mlp.fc1."),
        Rename(r"^(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
        Rename(r"^layernorm\.", "norm."),
        Rename(r"^classifier\.", "head."),
        Rename(r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
        Rename(r"^embeddings\.cls_token$", "cls_token"),
        Rename(r"^embeddings\.position_embeddings$", "pos_embed"),
        Rename(r"^embeddings\.time_embeddings$", "time_embed"),
    )


def _transformers_videomae(architecture: str) -> tuple[Naming, ...]:
    return (
        *_layers("videomae"),
        # The files name the two biases by themselves; transformers 5 by the layers.
        Rename(r"\.attention\.attention\.(q_bias|query\.bias)$", ".attn.q_bias"),
        Rename(r"\.attention\.attention\.(v_bias|value\.bias)$", ".attn.v_bias"),
        _split(r"attention\.attention"),
        _FIXED,
        _MASK,
    )


def _timesformer(architecture: str) -> tuple[Naming, ...]:
    return (Rename(r"^(model|backbone)\.", ""),)


def _transformers_timesformer(architecture: str) -> tuple[Naming, ...]:
    return _layers("timesformer", temporal=True)


def _transformers_vivit(architecture: str) -> tuple[Naming, ...]:
    pooler = Drop(
        r"pooler\..*", "a layer on the class token that pre-training never used: random in the file"
    )
    return (*_layers("vivit"), _split(r"attention(?:\.attention)?"), pooler)


def _transformers_vjepa2(architecture: str) -> tuple[Naming, ...]:
    return (
        Rename(r"^vjepa2\.", ""),
        Rename(r"^encoder\.", ""),
        Rename(r"^layer\.", "blocks."),
        Rename(r"^embeddings\.patch_embeddings\.proj\.", "patch_embed.proj."),
        Rename(r"^(blocks\.\d+)\.attention\.proj\.", r"\1.attn.proj."),
        _split(r"attention"),
        Rename(r"^layernorm\.", "norm."),
    )


def _vjepa2(architecture: str) -> tuple[Naming, ...]:
    """Name the tensors as the authors' files do: those of this package, behind prefixes."""
    return (
        Rename(r"^(?:module\.)?backbone\.", ""),
        Drop(
            "pos_embed", "a fixed table of sines; the network has rotary positions and no use of it"
        ),
    )


LAYOUTS: Mapping[str, Callable[[str], tuple[Naming, ...]]] = {
    "torchvision-swin3d": _torchvision_swin,
    "torchvision-mvit": _torchvision_mvit,
    "video-swin": _video_swin,
    "pytorchvideo-mvit": _pytorchvideo_mvit,
    "videomae": _videomae,
    "transformers-videomae": _transformers_videomae,
    "timesformer": _timesformer,
    "transformers-timesformer": _transformers_timesformer,
    "transformers-vivit": _transformers_vivit,
    "transformers-vjepa2": _transformers_vjepa2,
    "vjepa2": _vjepa2,
}


_OWN_VJEPA2 = re.compile(r"(?:module\.)?backbone\.(?:patch_embed\.proj|blocks\.\d+|norm)\.[\w.]+")


def _is_vjepa2(names: Collection[str]) -> bool:
    """Say whether names are V-JEPA 2's: a transformer's blocks, and no table of positions.

    V-JEPA's first version has the same names and a table.
    """
    blocks = any(name.endswith("backbone.blocks.0.attn.qkv.bias") for name in names)
    return blocks and all(map(_OWN_VJEPA2.fullmatch, names))


def _is_videomae(names: Collection[str]) -> bool:
    """Say whether names are VideoMAE's, and not those of EVA-02, BEiT or Swin V2 in timm."""
    biased = _any("", "blocks.0.attn.q_bias", "blocks.0.attn.v_bias")(names)
    return biased and not any("cls_token" in name or "layers." in name for name in names)


def _any(start: str, *has: str) -> Callable[[Collection[str]], bool]:
    """Return the sign that some name starts so, and that each of ``has`` is part of some name."""

    def sign(names: Collection[str]) -> bool:
        return any(name.startswith(start) for name in names) and all(
            any(part in name for name in names) for part in has
        )

    return sign


SIGNS: tuple[tuple[str, Callable[[Collection[str]], bool]], ...] = (
    ("pytorchvideo-mvit", _any("cls_positional_encoding.", "patch_embed.patch_model.")),
    ("torchvision-mvit", _any("pos_encoding.class_token", "conv_proj.")),
    ("video-swin", _any("backbone.layers.", "relative_position_bias_table")),
    (
        "torchvision-swin3d",
        lambda names: (
            "patch_embed.proj.weight" in names
            and "features.0.0.attn.relative_position_bias_table" in names
        ),
    ),
    ("transformers-timesformer", _any("", "temporal_attention.attention.qkv.")),
    ("timesformer", _any("", "temporal_attn.qkv.", "temporal_fc.")),
    ("transformers-videomae", _any("videomae.", "attention.attention.")),
    ("transformers-vivit", _any("vivit.", "embeddings.position_embeddings")),
    ("transformers-vjepa2", _any("", "embeddings.patch_embeddings.proj.", "layer.0.norm1.")),
    ("videomae", _is_videomae),
    ("vjepa2", _is_vjepa2),
)
"""What tensor names speak for a layout: the first that holds counts."""
