"""How JAX's vision transformers name their tensors (big_vision, vision_transformer)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from voxgraft.weights.convert.rules import Drop, Join, Naming, Rename

_BLOCK = r"^Transformer\.encoderblock_(\d+)\."
_POOL = r"^MAPHead_0\."


def _join(block: str, parts: tuple[str, ...], replacement: str) -> Join:
    attention = block + r"MultiHeadDotProductAttention_\d\."
    return Join(tuple(rf"{attention}{part}\.(weight|bias)" for part in parts), replacement)


def _flax_vit(architecture: str) -> tuple[Naming, ...]:
    """Return the rules from names as :mod:`voxgraft.weights.jax_arrays` gives them to timm's.

    Source: ``_load_weights`` in timm's ``vision_transformer.py``, which also takes the
    positions from either place.
    """
    return (
        Drop(r"txt\..*", "the text encoder of an image-text model"),
        Drop(r"[tb]", "temperature and bias of the image-text loss"),
        Drop(r"(img\.)?pre_logits\..*", "representation layer, which timm's network has not"),
        Rename(r"^img\.", ""),
        Rename(r"^embedding\.", "patch_embed.proj."),
        Rename(r"^cls$", "cls_token"),
        Rename(r"^(?:Transformer\.posembed_input\.)?pos_embedding$", "pos_embed"),
        Rename(r"^Transformer\.encoder_norm\.", "norm."),
        Rename(_BLOCK + r"LayerNorm_0\.", r"blocks.\1.norm1."),
        Rename(_BLOCK + r"LayerNorm_[12]\.", r"blocks.\1.norm2."),
        _join(_BLOCK, ("query", "key", "value"), r"blocks.\1.attn.qkv.\2"),
        Rename(_BLOCK + r"MultiHeadDotProductAttention_\d\.out\.", r"blocks.\1.attn.proj."),
        Rename(_BLOCK + r"MlpBlock_\d\.Dense_0\.", r"blocks.\1.mlp.fc1."),
        Rename(_BLOCK + r"MlpBlock_\d\.Dense_1\.", r"blocks.\1.mlp.fc2."),
        Rename(_POOL + "probe$", "attn_pool.latent"),
        Rename(_POOL + r"MultiHeadDotProductAttention_0\.query\.", "attn_pool.q."),
        _join(_POOL, ("key", "value"), r"attn_pool.kv.\1"),
        Rename(_POOL + r"MultiHeadDotProductAttention_0\.out\.", "attn_pool.proj."),
        Rename(_POOL + r"LayerNorm_0\.", "attn_pool.norm."),
        Rename(_POOL + r"MlpBlock_0\.Dense_0\.", "attn_pool.mlp.fc1."),
        Rename(_POOL + r"MlpBlock_0\.Dense_1\.", "attn_pool.mlp.fc2."),
    )


LAYOUTS: Mapping[str, Callable[[str], tuple[Naming, ...]]] = {"flax-vit": _flax_vit}


def _is_flax(names: Collection[str]) -> bool:
    return any(name.removeprefix("img.") == "embedding.weight" for name in names) and any(
        "Transformer.encoderblock_0." in name for name in names
    )


SIGNS: tuple[tuple[str, Callable[[Collection[str]], bool]], ...] = (("flax-vit", _is_flax),)
