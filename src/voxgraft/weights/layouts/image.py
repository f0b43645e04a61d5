"""The ways in which public files name the tensors of a network that timm has too."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from voxgraft.errors import SourceError
from voxgraft.weights.convert.rules import Drop, Rename

_LITE_BLOCKS: Mapping[str, Sequence[int]] = {
    "0": (1, 2, 2, 3, 3, 4, 1),
    "1": (1, 3, 3, 4, 4, 5, 1),
    "2": (1, 3, 3, 4, 4, 5, 1),
    "3": (1, 3, 3, 5, 5, 6, 1),
    "4": (1, 4, 4, 6, 6, 8, 1),
}
"""Blocks in each stage of EfficientNet-Lite0 to Lite4."""

_MOBILENETV2_BLOCKS = (1, 2, 3, 4, 3, 3, 1)


_COMPUTED: Mapping[str, tuple[str, str]] = {
    "swin": (
        r"(.*\.)?(attn_mask|relative_position_index|relative_coords_table)",
        "computed from the window, not learned",
    ),
    "eva02": (r"(.*\.)?rope\..*", "rotary positions, computed from the grid"),
    "dinov3": (r"(.*\.)?rope\..*", "rotary positions, computed from the grid"),
}
"""Tensors that older files of some of timm's networks have and newer ones compute."""

_MASK_TOKEN = Drop(r"mask_token", "stands for masked patches in pre-training only")


def _timm(architecture: str) -> tuple[Rename | Drop, ...]:
    drops = [Drop(*rule) for mark, rule in _COMPUTED.items() if mark in architecture]
    masked = architecture.startswith(("vit_", "eva02", "swin"))
    return (*drops, *([_MASK_TOKEN] if masked else []))


def numbered_blocks(prefix: str, first: int, lengths: Sequence[int]) -> list[Rename]:
    """Turn blocks that are numbered through into stages of blocks."""
    rules = []
    number = first
    for stage, length in enumerate(lengths):
        for block in range(length):
            rules.append(Rename(rf"^{prefix}\.{number}\.", f"blocks.{stage}.{block}."))
            number += 1
    return rules


def parts(where: str, names: Mapping[str, str]) -> list[Rename]:
    """Rename parts of a block; ``where`` matches the block's name, dot included."""
    return [Rename(rf"^({where}){old}\.", rf"\g<1>{new}.") for old, new in names.items()]


def _efficientnet_lite_pytorch(architecture: str) -> tuple[Rename, ...]:
    variant = architecture.rpartition("lite")[2]
    if variant not in _LITE_BLOCKS:
        raise SourceError(
            f"the key layout 'efficientnet-lite-pytorch' names tensors of EfficientNet-Lite0 to "
            f"Lite4, not of {architecture!r}. Give the architecture that the file is of."
        )
    separable = {
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn1",
        "_project_conv": "conv_pw",
        "_bn2": "bn2",
    }
    inverted = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    return (
        *numbered_blocks("_blocks", 0, _LITE_BLOCKS[variant]),
        *parts(r"blocks\.0\.0\.", separable),
        *parts(r"blocks\.\d+\.\d+\.", inverted),
        Rename(r"^_conv_stem\.", "conv_stem."),
        Rename(r"^_bn0\.", "bn1."),
        Rename(r"^_conv_head\.", "conv_head."),
        Rename(r"^_bn1\.", "bn2."),
        Rename(r"^_fc\.", "classifier."),
    )


def _mobilenetv2_flat(architecture: str) -> tuple[Rename, ...]:
    separable = {"0": "conv_dw", "1": "bn1", "3": "conv_pw", "4": "bn2"}
    inverted = {
        "0": "conv_pw",
        "1": "bn1",
        "3": "conv_dw",
        "4": "bn2",
        "6": "conv_pwl",
        "7": "bn3",
    }
    return (
        Rename(r"^features\.0\.0\.", "conv_stem."),
        Rename(r"^features\.0\.1\.", "bn1."),
        Rename(r"^features\.18\.0\.", "conv_head."),
        Rename(r"^features\.18\.1\.", "bn2."),
        *numbered_blocks("features", 1, _MOBILENETV2_BLOCKS),
        *parts(r"blocks\.0\.0\.", {rf"conv\.{old}": new for old, new in separable.items()}),
        *parts(r"blocks\.[1-6]\.\d+\.", {rf"conv\.{old}": new for old, new in inverted.items()}),
    )


def _radimagenet(architecture: str) -> tuple[Rename, ...]:
    """Name what a row of the network's children calls by number."""
    if architecture.startswith("densenet"):
        return (Rename(r"^backbone\.0\.", "features."),)
    children = {
        "0": "conv1",
        "1": "bn1",
        "4": "layer1",
        "5": "layer2",
        "6": "layer3",
        "7": "layer4",
    }
    return tuple(Rename(rf"^backbone\.{old}\.", f"{new}.") for old, new in children.items())


LAYOUTS: Mapping[str, Callable[[str], tuple[Rename | Drop, ...]]] = {
    "timm": _timm,
    "efficientnet-lite-pytorch": _efficientnet_lite_pytorch,
    "mobilenetv2-flat": _mobilenetv2_flat,
    "radimagenet": _radimagenet,
}

SIGNS: tuple[tuple[str, Callable[[Collection[str]], bool]], ...] = (
    (
        "efficientnet-lite-pytorch",
        lambda names: "_conv_stem.weight" in names and "_bn0.weight" in names,
    ),
    (
        "mobilenetv2-flat",
        lambda names: "features.0.0.weight" in names and "features.1.conv.0.weight" in names,
    ),
    (
        "radimagenet",
        lambda names: "backbone.4.0.conv1.weight" in names or "backbone.0.conv0.weight" in names,
    ),
)
"""What tensor names speak for a layout: the first that holds counts."""
