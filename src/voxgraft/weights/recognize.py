"""What an unknown checkpoint is, by the names, shapes and values of its tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from voxgraft.errors import SourceError, raise_faults
from voxgraft.files import file_sha256
from voxgraft.types import Json
from voxgraft.weights.card import CARD_FILE, load_card
from voxgraft.weights.catalog import SOURCES
from voxgraft.weights.convert.convert import BUFFER_NAMES
from voxgraft.weights.convert.rules import Rename
from voxgraft.weights.digests import digest_faults, tensor_digests
from voxgraft.weights.layouts import KEY_LAYOUTS, key_layout
from voxgraft.weights.read import read_checkpoint
from voxgraft.weights.source import UNSTATED, LocalFile, Source
from voxgraft.weights.timm_entries import architecture_facts, architecture_shapes

_CANDIDATES = 6
"""Architectures of the catalogue that a file is compared with: those nearest in size."""

_NEARLY = 0.5
"""Share of a published source's tensors that make a file a changed copy of it."""


@dataclass(frozen=True)
class Likeness:
    """How well a file's tensors fit an architecture; its classifier is left out of account."""

    architecture: str
    coverage: float
    """Values of the architecture that the file has by name and shape."""
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether every tensor is there, and no other."""
        return not (self.missing or self.misshapen or self.extra)


def likely_architectures(state: Mapping[str, Tensor]) -> list[Likeness]:
    """Compare a file with the architectures of the catalogue, the best first.

    Args:
        state: Tensors by the file's own names.
    """
    layout = key_layout(state.keys())
    nearest: dict[str, float] = {}
    for source in SOURCES:
        for architecture in (source.architecture, *source.also_fits):
            if source.parameters:
                expected = source.parameters - source.head_parameters
                size = _parameters(
                    {
                        n: t
                        for n, t in state.items()
                        if not n.startswith(_head_names(source, layout))
                    }
                )
                apart = abs(math.log(max(size, 1) / expected))
                nearest[architecture] = min(apart, nearest.get(architecture, apart))
    candidates = sorted(nearest, key=lambda name: nearest[name])[:_CANDIDATES]
    likenesses = [_likeness(state, name, layout) for name in candidates]
    likenesses = [likeness for likeness in likenesses if likeness.coverage > 0.0]
    return sorted(likenesses, key=lambda likeness: (not likeness.exact, -likeness.coverage))


def _head_names(source: Source, layout: str) -> tuple[str, ...]:
    if layout == "efficientnet-lite-pytorch":
        return ("_fc.",)
    return tuple(f"{head}." for head in source.head) or ("classifier.",)


def _likeness(state: Mapping[str, Tensor], architecture: str, layout: str) -> Likeness:
    heads = tuple(f"{head}." for head in architecture_facts(architecture)["head"])
    try:
        rules = KEY_LAYOUTS[layout](architecture)
    except SourceError:
        return Likeness(architecture, 0.0, (), (), ())
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in state.items():
        for rule in rules:
            if isinstance(rule, Rename):
                name = rule.rename(name)
        shapes[name] = tuple(tensor.shape)
    wanted = {
        name: shape
        for name, shape in architecture_shapes(architecture).items()
        if not name.startswith(heads) and not name.endswith("num_batches_tracked")
    }
    fits = [name for name, shape in wanted.items() if shapes.get(name) == shape]
    return Likeness(
        architecture,
        sum(math.prod(wanted[name]) for name in fits) / sum(map(math.prod, wanted.values())),
        missing=tuple(name for name in wanted if name not in shapes),
        misshapen=tuple(n for n, shape in wanted.items() if n in shapes and shapes[n] != shape),
        extra=tuple(
            name
            for name in shapes
            if name not in wanted
            and not name.startswith(heads)
            and not name.endswith("num_batches_tracked")
        ),
    )


def recognized_source(path: Path) -> Source:
    """Return the Source that a checkpoint without a card is.

    A file whose tensors are those of a catalogue entry with digests is that entry. A file that
    has more than half of them, by name and value, is a changed copy, and is refused. A file that
    has exactly the tensors of one architecture of the catalogue, by name and shape, is a start of
    that architecture, of unverified origin. Anything else is refused.

    Raises:
        SourceError: If the file cannot be read or recognised, or is a changed copy.
    """
    state = read_checkpoint(path).state
    known = _published(state, path)
    if known is not None:
        return known
    likely = likely_architectures(state)
    exact = [likeness.architecture for likeness in likely if likeness.exact]
    roots = {name.removeprefix("tf_") for name in exact}
    if len(roots) != 1:
        raise SourceError(
            f"{path} is not recognised: {_nearest(likely)} Say what it is: "
            f"`timm:ARCHITECTURE@{path.name}`."
        )
    architecture = next((name for name in exact if name in roots), exact[0])
    facts = architecture_facts(architecture)
    others = tuple(name for name in exact if name != architecture)
    return Source(
        id=f"timm:{architecture}@{path.name}",
        file=LocalFile(path=str(path)),
        sha256=None,
        key_layout=key_layout(state.keys()),
        **{**facts, "also_fits": (*facts["also_fits"], *others)},
        note=f"recognised as {architecture} by the names and shapes of its tensors",
    )


def _nearest(likely: list[Likeness]) -> str:
    exact = [likeness.architecture for likeness in likely if likeness.exact]
    if exact:
        return f"its tensors are those of {' and of '.join(exact)}."
    if not likely:
        return "no architecture of the catalogue has tensors of these names and shapes."
    best = likely[0]
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


def _parameters(state: Mapping[str, Tensor]) -> int:
    return sum(t.numel() for name, t in state.items() if not BUFFER_NAMES.fullmatch(name))


def inspect_file(path: str | Path) -> Json:
    """Say what a checkpoint holds.

    Returns:
        ``path, sha256, layout`` (how its tensors are named), ``tensors``, ``parameters``,
        ``buffers``, ``dtypes`` as read, ``notes``, ``card`` (of a run, else None), ``origin`` (the
        catalogue's source with the same values, or ``"unstated"``), ``likely`` (architectures,
        best first: ``architecture, coverage, exact, missing, misshapen, extra, sources``) and
        ``entries`` (``name, shape, dtype`` of each tensor).

    Raises:
        SourceError: If it cannot be read.
    """
    path = Path(path)
    checkpoint = read_checkpoint(path)
    state = checkpoint.state
    layout = key_layout(state.keys())
    beside = path.with_name(CARD_FILE)
    card = load_card(path) if layout == "voxgraft" and beside.is_file() else None
    digests = tensor_digests(state)
    origins = [s.id for s in SOURCES if s.tensor_digests and dict(s.tensor_digests) == digests]
    dtypes: dict[str, int] = {}
    for tensor in state.values():
        kind = str(tensor.dtype).removeprefix("torch.")
        dtypes[kind] = dtypes.get(kind, 0) + 1
    return {
        "path": str(path),
        "sha256": file_sha256(path),
        "layout": layout,
        "tensors": len(state),
        "parameters": _parameters(state),
        "buffers": sum(BUFFER_NAMES.fullmatch(name) is not None for name in state),
        "dtypes": dtypes,
        "notes": list(checkpoint.notes),
        "card": None if card is None else {"model": card.model, "in_channels": card.in_channels},
        "origin": origins[0] if origins else UNSTATED,
        "likely": [] if layout == "voxgraft" else [_row(x) for x in likely_architectures(state)],
        "entries": [
            {
                "name": name,
                "shape": list(tensor.shape),
                "dtype": str(tensor.dtype).removeprefix("torch."),
            }
            for name, tensor in state.items()
        ],
    }


def _row(likeness: Likeness) -> Json:
    name = likeness.architecture
    return {
        "architecture": name,
        "coverage": likeness.coverage,
        "exact": likeness.exact,
        "missing": list(likeness.missing),
        "misshapen": list(likeness.misshapen),
        "extra": list(likeness.extra),
        "sources": [s.id for s in SOURCES if name in (s.architecture, *s.also_fits)],
    }
