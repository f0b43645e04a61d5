"""How public files of MONAI's networks and of Models Genesis' U-Net name their tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from voxgraft.errors import SourceError
from voxgraft.weights.convert.rules import Drop, Rename, Rule

_SELF_SUPERVISED = "head of a self-supervised task"
_UNUSED = (
    "cross-attention, which some versions of MONAI build into every transformer block and this "
    "network never uses"
)
_WRAPPED = Rename(r"^(?:module\.|backbone\.)+", "")
"""DataParallel, and the Universal Model's and SuPreM's class around a network."""

_UNIVERSAL = (
    Drop("organ_embedding", "the Universal Model's embedding of organ names"),
    Drop(
        r"(?:precls_conv|GAP|controller|text_to_vision|organ_embedding)\..*",
        "the Universal Model's head, made of organ names; the task brings its own",
    ),
)


def _segresnet(architecture: str) -> tuple[Rule, ...]:
    return (_WRAPPED,)


def _segresnet_ds(architecture: str) -> tuple[Rule, ...]:
    return (_WRAPPED, Rename(r"^encoder\.", ""))


def _vista3d(architecture: str) -> tuple[Rule, ...]:
    return (
        Drop(r"(?:module\.)?image_encoder\.up_layers\..*", "decoder of the branch for points"),
        Drop(r"(?:module\.)?(?:point|class)_head\..*", "VISTA3D's head"),
        Rename(r"^(?:module\.)?image_encoder\.", ""),
        Rename(r"^encoder\.", ""),
        # Of the two decoders this is the one for classes.
        Rename(r"^up_layers_auto\.", "up_layers."),
    )


def _swin_unetr(architecture: str) -> tuple[Rule, ...]:
    return (
        _WRAPPED,
        *_UNIVERSAL,
        Rename(r"^swin_vit\.", "swinViT."),
        # Pre-trained on 50,000 scans: the transformer is called encoder, its stages nest once more.
        Rename(r"^encoder\.", "swinViT."),
        # Pre-trained on 5,050 scans: the transformer alone.
        Rename(r"^(?=(?:patch_embed|layers[1-4]c?|norm)\.)", "swinViT."),
        Rename(r"^(swinViT\.layers[1-4]\.0)\.0\.(?=blocks\.|downsample\.)", r"\1."),
        Rename(r"\.mlp\.fc([12])\.", r".mlp.linear\1."),
        Drop(r"swinViT\.mask_token", "stands for masked patches in the pre-training"),
        Drop(r"swinViT\.norm\..*", "normalization after the transformer, which Swin UNETR lacks"),
        Drop(r"(?:rotation|contrastive)_(?:pre|head)\..*", _SELF_SUPERVISED),
        Drop(r"conv\.\d+\..*", f"{_SELF_SUPERVISED} (reconstruction)"),
        Drop(r"(?:student|teacher|proj_head)\..*", _SELF_SUPERVISED),
    )


def _monai_vit(architecture: str) -> tuple[Rule, ...]:
    return (
        _WRAPPED,
        Rename(r"^vit\.", ""),
        Drop(r"blocks\.\d+\.(?:norm_)?cross_attn\..*", _UNUSED),
    )


def _brainiac(architecture: str) -> tuple[Rule, ...]:
    return (
        Drop(r"(?!(?:backbone\.)?(?:patch_embedding|blocks|norm)\.).*", _SELF_SUPERVISED),
        *_monai_vit(architecture),
    )


def _genesis(architecture: str) -> tuple[Rule, ...]:
    return (_WRAPPED, *_UNIVERSAL)


_RESIDUAL_UNET_STAGES = {"residual_unet_256": 5, "residual_unet_512": 6}


def _monai_unet(architecture: str) -> tuple[Rule, ...]:
    if architecture not in _RESIDUAL_UNET_STAGES:
        raise SourceError(
            f"the key layout 'monai-unet' names tensors of {' and '.join(_RESIDUAL_UNET_STAGES)}, "
            f"not of {architecture!r}. Give the architecture that the file is of."
        )
    count = _RESIDUAL_UNET_STAGES[architecture]
    nested = [r"^model" + r"\.1\.submodule" * stage for stage in range(count)]
    rules: list[Rule] = [_WRAPPED]
    for stage, start in enumerate(nested[:-1]):
        rules.append(Rename(rf"{start}\.0\.", f"down.{stage}."))
        rules.append(Rename(rf"{start}\.2\.", f"up.{stage}."))
    return (*rules, Rename(rf"{nested[-1]}\.(?=conv|residual)", f"down.{count - 1}."))


LAYOUTS: Mapping[str, Callable[[str], tuple[Rule, ...]]] = {
    "segresnet": _segresnet,
    "segresnet-ds": _segresnet_ds,
    "vista3d": _vista3d,
    "swin-unetr": _swin_unetr,
    "monai-vit": _monai_vit,
    "brainiac": _brainiac,
    "genesis-unet": _genesis,
    "monai-unet": _monai_unet,
}


def _any(pattern: str) -> Callable[[Collection[str]], bool]:
    sign = re.compile(pattern)
    return lambda names: any(sign.search(name) for name in names)


SIGNS: tuple[tuple[str, Callable[[Collection[str]], bool]], ...] = (
    ("vista3d", _any(r"image_encoder\.encoder\.conv_init\.weight$")),
    ("segresnet-ds", _any(r"(?:^|\.)conv_init\.weight$")),
    ("segresnet", _any(r"(?:^|\.)convInit\.conv\.weight$")),
    (
        "swin-unetr",
        _any(r"(?:^|\.)layers1\.0\.(?:0\.)?blocks\.0\.attn\.relative_position_bias_table$"),
    ),
    ("monai-vit", _any(r"(?:^|\.)patch_embedding\.position_embeddings$")),
    ("genesis-unet", _any(r"(?:^|\.)down_tr64\.ops\.0\.conv1\.weight$")),
    ("monai-unet", _any(r"(?:^|\.)model\.0\.conv\.unit0\.conv\.weight$")),
)
"""What tensor names speak for a layout: the first that holds counts."""
