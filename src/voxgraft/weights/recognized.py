"""The Source of a file whose architecture is known, and of which nothing else is published."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from voxgraft.errors import SourceError
from voxgraft.weights.anatomies import kept_anatomy
from voxgraft.weights.catalog import SOURCES
from voxgraft.weights.layouts import KEY_LAYOUTS, key_layout, naming_rules
from voxgraft.weights.likeness import Anatomy, Likeness, Networks, Shapes, compare
from voxgraft.weights.prefixes import prefix_candidates, renamed
from voxgraft.weights.source import UNSTATED, InputContract, LocalFile, Source
from voxgraft.weights.timm_entries import architecture_facts, architecture_shapes

_PREFIXES = 4
"""Prefixes that are tried."""


@cache
def image_anatomy(architecture: str) -> Anatomy:
    """Return the tensors of one of timm's networks.

    Raises:
        SourceError: If timm has no such network.
    """
    import timm

    return kept_anatomy(
        architecture, f"timm-{timm.__version__}", lambda: _built_image(architecture)
    )


def _built_image(architecture: str) -> Anatomy:
    from timm.models import get_pretrained_cfg

    facts = architecture_facts(architecture)
    configured: Any = get_pretrained_cfg(architecture)
    shapes = architecture_shapes(architecture, configured.num_classes)
    return Anatomy(
        name=architecture,
        shapes=shapes,
        heads=facts["head"],
        stems=frozenset(f"{stem}.weight" for stem in facts["stem"]),
        positions=frozenset(name for name in shapes if name.endswith("pos_embed")),
    )


def image_likenesses(architecture: str, shapes: Shapes, prefix: str) -> list[Likeness]:
    """Compare a file with one of timm's networks, by the layout that its names speak for."""
    inside = [name.removeprefix(prefix) for name in shapes if name.startswith(prefix)]
    layout = key_layout(inside)
    try:
        rules = KEY_LAYOUTS[layout](architecture)
    except SourceError:
        return []
    anatomy = image_anatomy(architecture)
    return [compare(shapes, anatomy, rules, key_layout=layout, prefix=prefix)]


@cache
def layouts_of(architecture: str) -> tuple[str, ...]:
    """Return the key layouts in which the catalogue's sources name a network's tensors."""
    own = (s.key_layout for s in SOURCES if s.architecture == architecture)
    return tuple(dict.fromkeys((*own, "timm")))


@cache
def _other_parts(architecture: str) -> tuple[str, ...]:
    parts = ((*s.head, *s.decoder) for s in SOURCES if s.architecture == architecture)
    return tuple(dict.fromkeys(part for each in parts for part in each))


def native_likenesses(
    architecture: str, shapes: Shapes, prefix: str, networks: Networks
) -> list[Likeness]:
    """Compare a file with a network for video or volumes, by each layout of its sources."""
    anatomy = networks.anatomy(architecture)
    anatomy = replace(anatomy, heads=(*anatomy.heads, *_other_parts(architecture)))
    likenesses = []
    for layout in layouts_of(architecture):
        try:
            rules = KEY_LAYOUTS[layout](architecture)
        except SourceError:
            continue
        likenesses.append(compare(shapes, anatomy, rules, key_layout=layout, prefix=prefix))
    return likenesses


def image_source(path: Path, architecture: str, shapes: Shapes) -> Source:
    """Return the Source of a file with the tensors of one of timm's networks.

    Args:
        path: The file.
        architecture: timm's name of the network.
        shapes: Name and shape of each of the file's tensors.

    Raises:
        SourceError: If timm has no such network.
    """
    source = Source(
        id=f"timm:{architecture}@{path.name}",
        file=LocalFile(path=str(path)),
        sha256=None,
        **architecture_facts(architecture),
    )
    likenesses = [
        likeness
        for prefix in ["", *prefix_candidates(shapes)[:_PREFIXES]]
        for likeness in image_likenesses(architecture, shapes, prefix)
    ]
    return _named(source, likenesses, shapes)


def native_source(path: Path, architecture: str, shapes: Shapes, networks: Networks) -> Source:
    """Return the Source of a file with the tensors of a network for video or volumes.

    Its input contract, head and decoder are those of the catalogue's source of this network that
    leaves the fewest tensors over (of equals, one of as many channels), and the note says so;
    where there is none, intensities are taken as they are. Nobody says what its classes are.

    Args:
        path: The file.
        architecture: The registry's name of the network.
        shapes: Name and shape of each of the file's tensors.
        networks: The registry's networks for video and volumes.
    """
    anatomy = networks.anatomy(architecture)
    likenesses = [
        likeness
        for prefix in ["", *prefix_candidates(shapes)[:_PREFIXES]]
        for likeness in native_likenesses(architecture, shapes, prefix, networks)
    ]
    place = LocalFile(path=str(path))
    name = f"{architecture}@{path.name}"
    made: list[tuple[int, bool, Source]] = []
    for known in SOURCES:
        if known.architecture == architecture:
            note = f"the input contract is that of {known.id!r}: check that it is this file's"
            source = replace(known, id=name, file=place, sha256=None, digests=None, note=note)
            source = replace(source, verified=False, licence=UNSTATED, trained_on=(), key=None)
            # Names of classes are the published file's, not those of any file of its shape.
            source = replace(source, sha256_begins=None, classes=())
            source = _named(source, likenesses, shapes)
            left = renamed(shapes, naming_rules(source)).keys() - anatomy.shapes.keys()
            made.append((len(left), source.input.channels != known.input.channels, source))
    if made:
        return min(made, key=lambda each: each[:2])[2]
    stem = min(anatomy.stems)
    source = Source(
        id=name,
        file=place,
        sha256=None,
        layout="volume",
        input=InputContract(channels=1, mean=(0.0,), sd=(1.0,)),
        architecture=architecture,
        stem=(stem.removesuffix(".weight"),),
        head=tuple(head for head in anatomy.heads if head),
        parameters=None,
        note="nobody states the input that it was trained on: intensities are taken as they are",
    )
    return _named(source, likenesses, shapes)


def _named(source: Source, likenesses: list[Likeness], shapes: Shapes) -> Source:
    """Return a source with the names and the channels that its file has."""
    if likenesses:
        best = min(likenesses, key=lambda likeness: likeness.order)
        source = replace(source, key_layout=best.key_layout, prefix=best.prefix)
    found = renamed(shapes, naming_rules(source))
    for stem in source.stem:
        shape = found.get(f"{stem}.weight", ())
        if len(shape) >= 3 and shape[1] != source.input.channels:
            mean, sd = source.input.carried_to(shape[1])
            contract = replace(source.input, channels=shape[1], mean=mean, sd=sd)
            return replace(source, input=contract)
    return source
