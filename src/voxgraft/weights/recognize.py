"""What an unknown checkpoint is, by the names, shapes and values of its tensors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from voxgraft.errors import SourceError, raise_faults
from voxgraft.files import file_sha256
from voxgraft.types import Json
from voxgraft.weights.card import CARD_FILE, Card, load_card
from voxgraft.weights.catalog import SOURCES
from voxgraft.weights.convert.convert import BUFFER_NAMES
from voxgraft.weights.digests import digest_faults, tensor_digests
from voxgraft.weights.layouts import key_layout
from voxgraft.weights.likeness import Likeness, Networks, Shapes, compare_shapes
from voxgraft.weights.prefixes import prefix_candidates
from voxgraft.weights.read import read_checkpoint
from voxgraft.weights.recognized import (
    image_anatomy,
    image_likenesses,
    image_source,
    layouts_of,
    native_likenesses,
    native_source,
    nnunet_source,
)
from voxgraft.weights.source import UNSTATED, LocalFile, Source

_CANDIDATES = 6
"""Architectures that a file is compared with, of each kind: those nearest in size."""

_PREFIXES = 4
"""Prefixes that are tried."""

_ALIKE = 0.05
"""Coverage by names below which names say nothing."""

_NEARLY = 0.5
"""Share of a published source's tensors that make a file a changed copy of it."""


def likely_architectures(
    state: Mapping[str, Tensor], networks: Networks | None = None
) -> list[Likeness]:
    """Compare a file with the architectures of the catalogue and of the registry, the best first.

    Args:
        state: Tensors by the file's own names.
        networks: The registry's networks for video and volumes; None leaves them out.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    axes = {len(shape) for shape in shapes.values()}
    found: dict[str, Likeness] = {}
    for prefix in ["", *prefix_candidates(shapes)[:_PREFIXES]]:
        inside = {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)}
        # Kernels of three axes of space are in no image network.
        likenesses = [] if 5 in axes else _images(inside, shapes, prefix)
        if networks is not None and not any(likeness.exact for likeness in likenesses):
            likenesses += _natives(inside, shapes, prefix, networks)
        for likeness in likenesses:
            name = likeness.architecture
            if likeness.coverage > 0.0 and (
                name not in found or likeness.order < found[name].order
            ):
                found[name] = likeness
        if any(likeness.exact for likeness in likenesses):
            break
    if not any(likeness.coverage >= _ALIKE for likeness in found.values()):
        found = {likeness.architecture: likeness for likeness in _by_shapes(shapes, networks)}
    return sorted(found.values(), key=lambda likeness: likeness.order)


def _by_shapes(shapes: Shapes, networks: Networks | None) -> list[Likeness]:
    """Compare with the networks nearest in size by shapes alone: for names that nothing knows."""
    names = _nearest_images(shapes)
    anatomies = [] if any(len(s) == 5 for s in shapes.values()) else list(map(image_anatomy, names))
    if networks is not None:
        size = _size(shapes)
        apart = {name: _distance(size, networks.size(name)) for name in networks.names()}
        nearest = sorted(apart, key=lambda name: apart[name])[:_CANDIDATES]
        anatomies += [networks.anatomy(name) for name in nearest]
    likenesses = (compare_shapes(shapes, anatomy) for anatomy in anatomies)
    return [likeness for likeness in likenesses if likeness.coverage >= 0.5]


def _images(inside: Shapes, shapes: Shapes, prefix: str) -> list[Likeness]:
    likenesses: list[Likeness] = []
    for architecture in _nearest_images(inside):
        likenesses += image_likenesses(architecture, shapes, prefix)
    return likenesses


def _nearest_images(inside: Shapes) -> list[str]:
    nearest: dict[str, float] = {}
    size = _size(inside)
    for source in SOURCES:
        if source.layout == "image":
            apart = _apart(source, size)
            for architecture in (source.architecture, *source.also_fits):
                nearest[architecture] = min(apart, nearest.get(architecture, apart))
    return sorted(nearest, key=lambda name: nearest[name])[:_CANDIDATES]


def _natives(inside: Shapes, shapes: Shapes, prefix: str, networks: Networks) -> list[Likeness]:
    """Compare with networks for video and volumes, however a source names their tensors."""
    nearest: dict[str, float] = {}
    known = set(networks.names())
    size = _size(inside)
    for source in SOURCES:
        name = source.architecture
        if source.layout != "image" and name in known:
            apart = _apart(source, size, networks)
            nearest[name] = min(apart, nearest.get(name, apart))
    layout = key_layout(inside.keys())
    if layout != "timm" and any(layout in layouts_of(name) for name in nearest):
        nearest = {n: apart for n, apart in nearest.items() if layout in layouts_of(n)}
    likenesses: list[Likeness] = []
    for name in sorted(nearest, key=lambda name: nearest[name])[:_CANDIDATES]:
        likenesses += native_likenesses(name, shapes, prefix, networks)
    if any(likeness.exact for likeness in likenesses):
        return likenesses
    others = {name: networks.size(name) for name in sorted(known - nearest.keys())}
    for name in sorted(others, key=lambda name: _distance(size, others[name]))[:_CANDIDATES]:
        likenesses += native_likenesses(name, shapes, prefix, networks)
    return likenesses


def _apart(source: Source, size: int, networks: Networks | None = None) -> float:
    whole = source.parameters
    if not whole:
        if networks is None:
            return math.inf
        whole = networks.size(source.architecture)
    encoder = max(whole - source.head_parameters, 1)
    return min(_distance(size, whole), _distance(size, encoder))


def _distance(found: int, expected: int) -> float:
    return abs(math.log(max(found, 1) / max(expected, 1)))


def _size(shapes: Shapes) -> int:
    return sum(math.prod(s) for name, s in shapes.items() if not BUFFER_NAMES.fullmatch(name))


def recognized_source(
    path: Path, networks: Networks | None = None, *, key: str | None = None
) -> Source:
    """Return the Source that a checkpoint without a card is.

    A file whose tensors are those of a catalogue entry with digests is that entry. A file that
    has more than half of them, by name and value, is a changed copy, and is refused. A file that
    has exactly the tensors of one architecture of the catalogue or of the registry, by name and
    shape, is a start of that architecture, of unverified origin. Anything else is refused.

    Args:
        path: The file.
        networks: The registry's networks for video and volumes; None leaves them out.
        key: Key of the network in the file, where there are several.

    Raises:
        SourceError: If the file cannot be read or recognised, or is a changed copy.
    """
    checkpoint = read_checkpoint(path, key=key)
    state = checkpoint.state
    known = _published(state, path)
    if known is not None:
        return known
    likely = likely_architectures(state, networks)
    exact = list(
        {likeness.architecture: likeness for likeness in likely if likeness.exact}.values()
    )
    # Of networks that differ in their tables of positions alone, the one with the file's own grid.
    least = min((len(likeness.adapted) for likeness in exact), default=0)
    exact = [likeness for likeness in exact if len(likeness.adapted) == least]
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if not exact and networks is not None:
        nnunet = nnunet_source(path, shapes, networks, checkpoint.settings)
        if nnunet is not None:
            note = f"recognised as an nnU-Net, {nnunet.architecture}, of a plan of its own"
            return replace(nnunet, note="; ".join(filter(None, [note, nnunet.note])))
    roots = {likeness.architecture.removeprefix("tf_") for likeness in exact}
    if len(roots) != 1 and not _one_network({found.architecture for found in exact}):
        raise SourceError(
            f"{path} is not recognised: {_nearest(likely)} Say what it is: "
            f"`timm:ARCHITECTURE@{path.name}`, or `NETWORK@{path.name}` with one of `voxgraft "
            f"models`; `voxgraft graft {path.name} NETWORK --propose` writes rules for it."
        )
    chosen = next((found for found in exact if found.architecture in roots), exact[0])
    others = tuple(found.architecture for found in exact if found is not chosen)
    note = f"recognised as {chosen.architecture} by the names and shapes of its tensors"
    if networks is not None and chosen.architecture in networks.names():
        source = native_source(path, chosen.architecture, shapes, networks, checkpoint.settings)
    else:
        source = image_source(path, chosen.architecture, shapes)
        source = replace(source, also_fits=(*source.also_fits, *others))
    return replace(source, note="; ".join(filter(None, [note, source.note])))


def _one_network(names: set[str]) -> bool:
    """Say whether the catalogue knows networks for video or volumes as one by several names."""
    return len(names) > 1 and any(
        names <= {source.architecture, *source.also_fits}
        for source in SOURCES
        if source.layout != "image"
    )


def _nearest(likely: list[Likeness]) -> str:
    exact = list(dict.fromkeys(likeness.architecture for likeness in likely if likeness.exact))
    if exact:
        return f"its tensors are those of {' and of '.join(exact)}."
    if not likely:
        return "no architecture of the catalogue has tensors of these names and shapes."
    best = likely[0]
    if best.by == "shapes":
        return f"no name in it is known; by shapes it is nearest to {best.architecture}."
    names = (*best.missing, *best.misshapen, *best.extra)
    return (
        f"the nearest architecture is {best.architecture} ({best.coverage:.1%}), with "
        f"{len(best.missing)} tensors missing, {len(best.misshapen)} of another shape and "
        f"{len(best.extra)} extra ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})."
    )


def _published(state: Mapping[str, Tensor], path: Path) -> Source | None:
    found = tensor_digests(state)
    values = set(found.values())
    for source in SOURCES:
        expected = source.tensor_digests
        if not expected:
            continue
        # Counters are alike in many files: they are no sign of a common origin.
        telling = {n: d for n, d in expected.items() if not n.endswith("num_batches_tracked")}
        same = sum(digest in values for digest in telling.values()) / len(telling)
        if found == dict(expected):
            return replace(source, file=LocalFile(path=str(path)))
        if same > _NEARLY:
            raise_faults(
                SourceError,
                f"{path} is a changed copy of source {source.id!r}",
                digest_faults(state, expected),
                "Fetch the published file again. If the changes are meant, it is another start: "
                f"give it as `timm:{source.architecture}@{path.name}`.",
            )
    return None


def inspect_file(
    path: str | Path, networks: Networks | None = None, *, key: str | None = None
) -> Json:
    """Say what a checkpoint holds.

    Args:
        path: The file.
        networks: The registry's networks for video and volumes; None leaves them out.
        key: Key of the network in the file, where there are several.

    Returns:
        ``path, sha256, layout`` (how its tensors are named), ``tensors``, ``parameters``,
        ``buffers``, ``dtypes`` as read, ``notes``, ``card`` (of a run, else None), ``origin`` (the
        catalogue's source with the same values, or ``"unstated"``), ``likely`` (architectures,
        best first: ``architecture, coverage, exact, layout, prefix, missing, misshapen, adapted,
        extra, sources, models``), and ``entries`` (``name, shape, dtype`` of each tensor).

    Raises:
        SourceError: If it cannot be read.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path, key=key)
    state = checkpoint.state
    layout = key_layout(state.keys())
    beside = path.with_name(CARD_FILE)
    card = load_card(path) if layout == "voxgraft" and beside.is_file() else None
    digests = tensor_digests(state)
    origins = [s.id for s in SOURCES if s.tensor_digests and dict(s.tensor_digests) == digests]
    likely = [] if card is not None else likely_architectures(state, networks)
    if likely and (likely[0].exact or layout == "timm"):
        layout = likely[0].key_layout
    return {
        "path": str(path),
        "sha256": file_sha256(path),
        "layout": layout,
        "tensors": len(state),
        "parameters": _size({name: tuple(tensor.shape) for name, tensor in state.items()}),
        "buffers": sum(BUFFER_NAMES.fullmatch(name) is not None for name in state),
        "dtypes": dict(Counter(_kind(tensor) for tensor in state.values())),
        "notes": list(checkpoint.notes),
        "card": None if card is None else _card_words(card),
        "origin": origins[0] if origins else UNSTATED,
        "likely": [likeness.to_dict(networks) for likeness in likely],
        "entries": [
            {"name": name, "shape": list(tensor.shape), "dtype": _kind(tensor)}
            for name, tensor in state.items()
        ],
    }


def _card_words(card: Card) -> Json:
    """Return what a card says of its network; decoder and classes where there are any."""
    words: Json = {"model": card.model, "in_channels": card.in_channels}
    if card.decoder is not None:
        words |= {"decoder": card.decoder, **card.decoder_options}
    if card.classes:
        words["classes"] = list(card.classes)
    return words


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
