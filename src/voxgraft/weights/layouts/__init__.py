"""The ways in which public files name the tensors of a network that the registry has too.

A layout gives, for an architecture, the rules from its names to the network's own. Each module of
this room has ``LAYOUTS`` (name of the layout, and what makes its rules) and ``SIGNS`` (what tensor
names speak for it).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from voxgraft.errors import SourceError
from voxgraft.weights.convert.rules import Drop, Rename, Rule
from voxgraft.weights.layouts import (
    flax,
    image,
    packages,
    tokens,
    torchvision,
    video,
    video_convolutional,
    video_transformers,
    volume,
    volume_convolutional,
)
from voxgraft.weights.source import Source


def _voxgraft(architecture: str) -> tuple[Rename, ...]:
    return (Rename(r"^encoder\.", ""),)


KEY_LAYOUTS: Mapping[str, Callable[[str], tuple[Rule, ...]]] = {
    **image.LAYOUTS,
    **torchvision.LAYOUTS,
    **flax.LAYOUTS,
    **video.LAYOUTS,
    **video_convolutional.LAYOUTS,
    **video_transformers.LAYOUTS,
    **tokens.LAYOUTS,
    **volume.LAYOUTS,
    **packages.LAYOUTS,
    **volume_convolutional.LAYOUTS,
    "voxgraft": _voxgraft,
}
"""Name of each layout, and the rules from its names to those of an architecture."""

_SIGNS = (
    *packages.SIGNS,
    *flax.SIGNS,
    *image.SIGNS,
    *torchvision.SIGNS,
    *video.SIGNS,
    *video_convolutional.SIGNS,
    *video_transformers.SIGNS,
    *tokens.SIGNS,
    *volume.SIGNS,
    *volume_convolutional.SIGNS,
)


def naming_rules(source: Source) -> tuple[Rule, ...]:
    """Return the rules from a source's own tensor names to its architecture's, without its head.

    Raises:
        SourceError: If the layout is unknown, or is not one of the architecture's.
    """
    if source.key_layout not in KEY_LAYOUTS:
        raise SourceError(
            f"source {source.id!r} has the key layout {source.key_layout!r}, expected one of "
            f"{', '.join(KEY_LAYOUTS)}."
        )
    drops = [
        Drop(rf"{re.escape(head)}\..*", f"the source's own head ({head}); the task brings its own")
        for head in source.head
    ]
    drops += [
        Drop(rf"{re.escape(part)}\..*", f"part of the source's decoder ({part})")
        for part in source.decoder
    ]
    own = prefix_rules(source.prefix) if source.prefix else ()
    return (*own, *KEY_LAYOUTS[source.key_layout](source.architecture), *drops)


def prefix_rules(prefix: str) -> tuple[Drop, Rename]:
    """Return the rules that take a network out of a file where it is one sub-module."""
    start = re.escape(prefix)
    part = prefix.rstrip(".")
    return (
        Drop(rf"(?!{start}).*", f"outside of {part!r}, which holds the whole network"),
        Rename(rf"^{start}", ""),
    )


def key_layout(names: Collection[str]) -> str:
    """Return the layout that a file's tensor names speak for; ``"timm"`` where none is special."""
    own = ("encoder.", "head.", "decoder.", "deep_heads.")
    segments = {"head.weight", "head.bias"} <= set(names) or "head.organ_embedding" in names
    if names and all(name.startswith(own if segments else own[:2]) for name in names):
        return "voxgraft"
    return next((layout for layout, sign in _SIGNS if sign(names)), "timm")
