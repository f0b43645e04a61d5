"""The Source of a file whose architecture is known, and of which nothing else is published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from voxgraft.errors import SourceError
from voxgraft.weights.anatomies import kept_anatomy
from voxgraft.weights.catalog import SOURCES
from voxgraft.weights.layouts import KEY_LAYOUTS, key_layout, naming_rules
from voxgraft.weights.likeness import Anatomy, Likeness, Networks, Shapes, compare
from voxgraft.weights.nnunet_lists import LAYOUT, find_nnunet
from voxgraft.weights.nnunet_plans import follow_plans, own_heads
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
    others = (*_other_parts(architecture), *anatomy.decoder, anatomy.decoder_head)
    anatomy = replace(anatomy, heads=(*anatomy.heads, *filter(None, others)))
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


def nnunet_source(
    path: Path, shapes: Shapes, networks: Networks, settings: Mapping[str, Any]
) -> Source | None:
    """Return the Source of a file with an nnU-Net of whatever plan; None if it has none.

    Args:
        path: The file.
        shapes: Name and shape of each of the file's tensors.
        networks: The registry's networks for video and volumes.
        settings: What nnU-Net keeps beside the weights.
    """
    found = find_nnunet(shapes)
    if found is None:
        return None
    name = "nnunet_resenc_3d" if found.residual else "nnunet_3d"
    return native_source(path, name, shapes, networks, settings)


def native_source(
    path: Path,
    architecture: str,
    shapes: Shapes,
    networks: Networks,
    settings: Mapping[str, Any] | None = None,
) -> Source:
    """Return the Source of a file with the tensors of a network for video or volumes.

    Its input contract, head and decoder are those of the catalogue's source of this network that
    leaves the fewest tensors over (of equals, one of as many channels), and the note says so; head
    and decoder are the network's own if they leave fewer. Where there is no source, intensities are
    taken as they are. Nobody says what its classes are.

    Args:
        path: The file.
        architecture: The registry's name of the network.
        shapes: Name and shape of each of the file's tensors.
        networks: The registry's networks for video and volumes.
        settings: What nnU-Net keeps beside the weights: it says the input contract and the classes.
    """
    anatomy = networks.anatomy(architecture)
    likenesses = [
        likeness
        for prefix in ["", *prefix_candidates(shapes)[:_PREFIXES]]
        for likeness in native_likenesses(architecture, shapes, prefix, networks)
    ]
    known = [_as_of(entry, path) for entry in SOURCES if entry.architecture == architecture] or [
        _as_nothing_published(path, anatomy)
    ]
    if anatomy.decoder:
        # As it was published; a file of today's training has the network's own decoder and head.
        known.append(replace(known[0], decoder=anatomy.decoder, head=(anatomy.decoder_head,)))
    made: list[tuple[int, bool, Source]] = []
    for entry in known:
        source = _named(entry, likenesses, shapes)
        left = renamed(shapes, naming_rules(source)).keys() - anatomy.shapes.keys()
        made.append((len(left), source.input.channels != entry.input.channels, source))
    source = min(made, key=lambda each: each[:2])[2]
    return follow_plans(source, settings or {}, shapes)


def _as_of(known: Source, path: Path) -> Source:
    """Return the Source of a file that is of the architecture of a published one."""
    return replace(
        known,
        id=f"{known.architecture}@{path.name}",
        file=LocalFile(path=str(path)),
        sha256=None,
        sha256_begins=None,
        digests=None,
        key=None,
        verified=False,
        licence=UNSTATED,
        trained_on=(),
        # Names of classes are the published file's, not those of any file of its shape.
        classes=(),
        note=f"the input contract is that of {known.id!r}: check that it is this file's",
    )


def _as_nothing_published(path: Path, anatomy: Anatomy) -> Source:
    """Return the Source of a file of an architecture of which nothing is published."""
    return Source(
        id=f"{anatomy.name}@{path.name}",
        file=LocalFile(path=str(path)),
        sha256=None,
        layout="volume",
        input=InputContract(channels=1, mean=(0.0,), sd=(1.0,)),
        architecture=anatomy.name,
        stem=(min(anatomy.stems).removesuffix(".weight"),),
        head=tuple(head for head in anatomy.heads if head),
        parameters=None,
        note="nobody states the input that it was trained on: intensities are taken as they are",
    )


def _named(source: Source, likenesses: list[Likeness], shapes: Shapes) -> Source:
    """Return a source with the names and the channels that its file has."""
    if likenesses:
        best = min(likenesses, key=lambda likeness: likeness.order)
        source = replace(source, key_layout=best.key_layout, prefix=best.prefix)
    if LAYOUT in layouts_of(source.architecture) and (nnunet := find_nnunet(shapes)) is not None:
        # Its plan may be any: few of its shapes need be those of the registry's network.
        source = replace(source, key_layout=LAYOUT, prefix=nnunet.prefix)
        source = own_heads(source, shapes)
    found = renamed(shapes, naming_rules(source))
    for stem in source.stem:
        shape = found.get(f"{stem}.weight", ())
        if len(shape) >= 3 and shape[1] != source.input.channels:
            mean, sd = source.input.carried_to(shape[1])
            contract = replace(source.input, channels=shape[1], mean=mean, sd=sd)
            return replace(source, input=contract)
    return source
