"""How public files of transformers for volumes name their tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from voxgraft.weights.convert.rules import Drop, Rename, Rule

_MASK = Drop(r"mask_token", "what stands for hidden patches in the pre-training")


def _primus(architecture: str) -> tuple[Rule, ...]:
    """Name the tensors of nnssl's and nnU-Net's Primus as timm's Eva does."""
    return (
        Rename(r"^module\.", ""),
        Rename(r"^_orig_mod\.", ""),
        Rename(r"^encoder\.", ""),
        Rename(r"^down_projection\.", "patch_embed."),
        Rename(r"^eva\.", ""),
        _MASK,
    )


def _dinov2_chunked(architecture: str) -> tuple[Rule, ...]:
    """Name the tensors of DINOv2's training code, whose blocks lie in chunks, as timm does."""
    return (
        Rename(r"^(?:module\.)?(?:teacher\.)?backbone\.", ""),
        Rename(r"^blocks\.\d+\.(?=\d+\.)", "blocks."),
        _MASK,
    )


LAYOUTS: Mapping[str, Callable[[str], tuple[Rule, ...]]] = {
    "primus": _primus,
    "dinov2-chunked": _dinov2_chunked,
}


def _all(*patterns: str) -> Callable[[Collection[str]], bool]:
    signs = [re.compile(pattern) for pattern in patterns]
    return lambda names: all(any(sign.search(name) for name in names) for sign in signs)


SIGNS: tuple[tuple[str, Callable[[Collection[str]], bool]], ...] = (
    ("primus", _all(r"(?:^|\.)down_projection\.proj\.weight$", r"(?:^|\.)eva\.blocks\.0\.")),
    (
        "dinov2-chunked",
        _all(
            r"(?:^|\.)mask_token$",
            r"(?:^|\.)cls_token$",
            r"(?:^|\.)blocks\.0\.0\.ls1\.gamma$",
        ),
    ),
)
