"""How torchvision's image networks name the tensors that timm's have too."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from voxgraft.errors import SourceError
from voxgraft.weights.convert.epsilon import ShiftVariance
from voxgraft.weights.convert.rules import Drop, Rename, Rule, UnitAxes
from voxgraft.weights.layouts.image import numbered_blocks, parts

_EPSILON = 1e-3 - 1e-5
"""torchvision's epsilon of EfficientNetV2 and MobileNetV3, less timm's."""

_MOBILENETV3_BLOCKS: Mapping[str, Sequence[int]] = {
    "small": (1, 2, 3, 2, 3),
    "large": (1, 2, 3, 4, 2, 3),
}
_SEPARABLE = {"0.0": "conv_dw", "0.1": "bn1", "1.0": "conv_pw", "1.1": "bn2"}
_SEPARABLE_SE = {
    "0.0": "conv_dw",
    "0.1": "bn1",
    "1.fc1": "se.conv_reduce",
    "1.fc2": "se.conv_expand",
    "2.0": "conv_pw",
    "2.1": "bn2",
}
_INVERTED = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2"}
_INVERTED_PLAIN = {**_INVERTED, "2.0": "conv_pwl", "2.1": "bn3"}
_INVERTED_SE = {
    **_INVERTED,
    "2.fc1": "se.conv_reduce",
    "2.fc2": "se.conv_expand",
    "3.0": "conv_pwl",
    "3.1": "bn3",
}
_FUSED = {"0.0": "conv_exp", "0.1": "bn1", "1.0": "conv_pwl", "1.1": "bn2"}


def _unchanged(architecture: str) -> list[Rule]:
    return []


def _densenet(architecture: str) -> list[Rule]:
    # The published files have "norm.1", which torchvision itself renames when it loads them.
    return [Rename(r"(denselayer\d+)\.(norm|relu|conv)\.([12])\.", r"\1.\2\3.")]


def _stem_and_head(last: int) -> list[Rule]:
    return [
        Rename(r"^features\.0\.0\.", "conv_stem."),
        Rename(r"^features\.0\.1\.", "bn1."),
        Rename(rf"^features\.{last}\.0\.", "conv_head."),
        Rename(rf"^features\.{last}\.1\.", "bn2."),
        Rename(r"^classifier\.1\.", "classifier."),
    ]


def _inside(where: str, names: Mapping[str, str]) -> list[Rule]:
    return [*parts(where, {rf"block\.{re.escape(old)}": new for old, new in names.items()})]


def _stages(count: int) -> list[Rule]:
    return [
        Rename(rf"^features\.{n}\.(\d+)\.", rf"blocks.{n - 1}.\1.") for n in range(1, count + 1)
    ]


def _efficientnet(architecture: str) -> list[Rule]:
    return [
        *_stem_and_head(8),
        *_stages(7),
        *_inside(r"blocks\.0\.\d+\.", _SEPARABLE_SE),
        *_inside(r"blocks\.[1-6]\.\d+\.", _INVERTED_SE),
    ]


def _efficientnetv2(architecture: str) -> list[Rule]:
    return [
        *_stem_and_head(7),
        *_stages(6),
        *_inside(r"blocks\.0\.\d+\.", {"0.0": "conv", "0.1": "bn1"}),
        *_inside(r"blocks\.[12]\.\d+\.", _FUSED),
        *_inside(r"blocks\.[3-5]\.\d+\.", _INVERTED_SE),
        ShiftVariance(r"(.*\.)?bn\d\.running_var", _EPSILON),
    ]


def _mobilenetv2(architecture: str) -> list[Rule]:
    separable = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
    inverted = {**_INVERTED, "2": "conv_pwl", "3": "bn3"}

    def inside(where: str, names: Mapping[str, str]) -> list[Rule]:
        return [*parts(where, {rf"conv\.{re.escape(old)}": new for old, new in names.items()})]

    return [
        *_stem_and_head(18),
        *numbered_blocks("features", 1, (1, 2, 3, 4, 3, 3, 1)),
        *inside(r"blocks\.0\.0\.", separable),
        *inside(r"blocks\.[1-6]\.\d+\.", inverted),
    ]


def _mobilenetv3(architecture: str) -> list[Rule]:
    kind = "small" if "small" in architecture else "large"
    blocks = _MOBILENETV3_BLOCKS[kind]
    last, stage = sum(blocks) + 1, len(blocks)
    first = _SEPARABLE_SE if kind == "small" else _SEPARABLE
    return [
        Rename(r"^features\.0\.0\.", "conv_stem."),
        Rename(r"^features\.0\.1\.", "bn1."),
        Rename(rf"^features\.{last}\.0\.", f"blocks.{stage}.0.conv."),
        Rename(rf"^features\.{last}\.1\.", f"blocks.{stage}.0.bn1."),
        *numbered_blocks("features", 1, blocks),
        *_inside(r"blocks\.0\.0\.", first),
        *_inside(r"blocks\.[1-5]\.\d+\.", _INVERTED_SE),
        *_inside(r"blocks\.[1-5]\.\d+\.", {"2.0": "conv_pwl", "2.1": "bn3"}),
        Rename(r"^classifier\.0\.", "conv_head."),
        Rename(r"^classifier\.3\.", "classifier."),
        UnitAxes(r"conv_head\.weight"),
        ShiftVariance(r"(.*\.)?bn\d\.running_var", _EPSILON),
    ]


def _convnext(architecture: str) -> list[Rule]:
    block = {
        "block.0": "conv_dw",
        "block.2": "norm",
        "block.3": "mlp.fc1",
        "block.5": "mlp.fc2",
    }
    rules: list[Rule] = [Rename(r"^features\.0\.([01])\.", r"stem.\1.")]
    for stage in range(4):
        rules.append(Rename(rf"^features\.{2 * stage + 1}\.(\d+)\.", rf"stages.{stage}.blocks.\1."))
        if stage:
            rules.append(
                Rename(rf"^features\.{2 * stage}\.([01])\.", rf"stages.{stage}.downsample.\1.")
            )
    named = {re.escape(old): new for old, new in block.items()}
    return [
        *rules,
        *parts(r"stages\.\d\.blocks\.\d+\.", named),
        Rename(r"\.layer_scale$", ".gamma"),
        UnitAxes(r".*\.gamma"),
        Rename(r"^classifier\.0\.", "head.norm."),
        Rename(r"^classifier\.2\.", "head.fc."),
    ]


def _regnet(architecture: str) -> list[Rule]:
    inside = {"f.a": "conv1", "f.b": "conv2", "f.c": "conv3", "proj": "downsample"}
    return [
        Rename(r"^stem\.0\.", "stem.conv."),
        Rename(r"^stem\.1\.", "stem.bn."),
        # Blocks are numbered from 0 there, from 1 in timm.
        *(
            Rename(rf"^trunk_output\.block(\d+)\.block\1-{n}\.", rf"s\1.b{n + 1}.")
            for n in range(32)
        ),
        *(
            Rename(rf"^(s\d\.b\d+)\.{re.escape(old)}\.{n}\.", rf"\1.{new}.{part}.")
            for old, new in inside.items()
            for n, part in ((0, "conv"), (1, "bn"))
        ),
        Rename(r"^(s\d\.b\d+)\.f\.se\.", r"\1.se."),
        Rename(r"^fc\.", "head.fc."),
    ]


def _vit(architecture: str) -> list[Rule]:
    inside = {
        "ln_1": "norm1",
        "self_attention.out_proj": "attn.proj",
        "ln_2": "norm2",
        "mlp.0": "mlp.fc1",
        "mlp.3": "mlp.fc2",
        "mlp.linear_1": "mlp.fc1",
        "mlp.linear_2": "mlp.fc2",
    }
    return [
        Rename(r"^class_token$", "cls_token"),
        Rename(r"^encoder\.pos_embedding$", "pos_embed"),
        Rename(r"^conv_proj\.", "patch_embed.proj."),
        Rename(r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
        Rename(r"^(blocks\.\d+)\.self_attention\.in_proj_", r"\1.attn.qkv."),
        *parts(r"blocks\.\d+\.", {re.escape(old): new for old, new in inside.items()}),
        Rename(r"^encoder\.ln\.", "norm."),
        Rename(r"^heads\.head\.", "head."),
    ]


def _swin(architecture: str) -> list[Rule]:
    rules: list[Rule] = [
        Drop(r".*\.relative_position_index", "computed from the window, not learned"),
        Rename(r"^features\.0\.0\.", "patch_embed.proj."),
        Rename(r"^features\.0\.2\.", "patch_embed.norm."),
    ]
    for stage in range(4):
        rules.append(Rename(rf"^features\.{2 * stage + 1}\.(\d+)\.", rf"layers.{stage}.blocks.\1."))
        if stage:
            rules.append(Rename(rf"^features\.{2 * stage}\.", f"layers.{stage}.downsample."))
    return [
        *rules,
        *parts(r"layers\.\d\.blocks\.\d+\.", {r"mlp\.0": "mlp.fc1", r"mlp\.3": "mlp.fc2"}),
        Rename(r"^head\.", "head.fc."),
    ]


_FAMILIES: Mapping[str, Callable[[str], list[Rule]]] = {
    "resnet": _unchanged,
    "resnext": _unchanged,
    "wide_resnet": _unchanged,
    "densenet": _densenet,
    "efficientnetv2": _efficientnetv2,
    "efficientnet_b": _efficientnet,
    "mobilenetv2": _mobilenetv2,
    "mobilenetv3": _mobilenetv3,
    "convnext_": _convnext,
    "regnet": _regnet,
    "vit_": _vit,
    "swin_": _swin,
}
"""Beginning of timm's name of a network, and what makes its rules."""


def _torchvision(architecture: str) -> tuple[Rule, ...]:
    for start, rules in _FAMILIES.items():
        if architecture.startswith(start):
            return tuple(rules(architecture))
    raise SourceError(
        f"the key layout 'torchvision' knows {', '.join(_FAMILIES)}, not {architecture!r}. "
        "Give the architecture that the file is of."
    )


LAYOUTS: Mapping[str, Callable[[str], tuple[Rule, ...]]] = {"torchvision": _torchvision}

_TELLING = (
    "features.denseblock1.denselayer1.norm.1.weight",
    "features.1.0.block.0.0.weight",
    "features.1.conv.0.0.weight",
    "features.1.block.0.0.weight",
    "features.1.0.layer_scale",
    "trunk_output.block1.block1-0.f.a.0.weight",
    "encoder.layers.encoder_layer_0.self_attention.in_proj_weight",
)


def _named_by_torchvision(names: Collection[str]) -> bool:
    swin = "features.0.0.weight" in names and "features.1.0.attn.qkv.weight" in names
    return swin or any(name in names for name in _TELLING)


SIGNS: tuple[tuple[str, Callable[[Collection[str]], bool]], ...] = (
    ("torchvision", _named_by_torchvision),
)
