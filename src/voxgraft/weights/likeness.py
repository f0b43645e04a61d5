"""How well the tensors of a file fit a network, by their names and shapes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from voxgraft.types import Json
from voxgraft.weights.catalog import SOURCES
from voxgraft.weights.prefixes import COUNTER, renamed

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A network as recognition sees it: the tensors of an encoder, and what may differ in them."""

    name: str
    shapes: Shapes
    """Name and shape of each tensor, without the classifier."""
    heads: tuple[str, ...] = ()
    """Modules of the classifier and of a decoder, which a file may have."""
    stems: frozenset[str] = frozenset()
    """Kernels that take the input: a file's may have other channels."""
    positions: frozenset[str] = frozenset()
    """Tables of positions: a file's may be of another grid."""
    decoder: tuple[str, ...] = ()
    """Modules of the decoder that the network was published with; empty if with none."""
    decoder_head: str = ""
    """The layer after it that gives the classes."""


class Networks(Protocol):
    """The networks of the registry that are no twins of image networks, as recognition asks."""

    def names(self) -> Collection[str]:
        """Return their names."""

    def anatomy(self, name: str) -> Anatomy:
        """Return the tensors of one of them."""

    def size(self, name: str) -> int:
        """Return the number of values in one of them, about."""

    def models_of(self, architecture: str) -> list[str]:
        """Return the networks that take the weights of an architecture."""


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """How well a file's tensors fit an architecture; its classifier is left out of account."""

    architecture: str
    key_layout: str
    prefix: str
    """What stands before the network's names in the file."""
    coverage: float
    """Values of the architecture that the file has by name and shape."""
    missing: tuple[str, ...]
    misshapen: tuple[str, ...]
    """Of another shape, beyond other input channels and other grids of positions."""
    adapted: tuple[str, ...]
    """With other input channels, or of another grid of positions."""
    extra: tuple[str, ...]
    by: Literal["names", "shapes"] = "names"
    """``"shapes"``: no name is known, and the coverage is of equal shapes, wherever they are."""

    @property
    def exact(self) -> bool:
        """Whether every tensor is there, and no other."""
        return self.by == "names" and not (self.missing or self.misshapen or self.extra)

    @property
    def order(self) -> tuple[bool, float, int, int]:
        """What the best likeness has least of."""
        return (
            not self.exact,
            -round(self.coverage, 6),
            len(self.extra),
            self.prefix.count("."),
        )

    def to_dict(self, networks: Networks | None) -> Json:
        """Return the likeness as JSON, with the sources and networks of the architecture."""
        name = self.architecture
        return {
            "architecture": name,
            "coverage": self.coverage,
            "exact": self.exact,
            "layout": self.key_layout,
            "prefix": self.prefix,
            "by": self.by,
            "missing": list(self.missing),
            "misshapen": list(self.misshapen),
            "adapted": list(self.adapted),
            "extra": list(self.extra),
            "sources": [s.id for s in SOURCES if name in (s.architecture, *s.also_fits)],
            "models": [] if networks is None else networks.models_of(name),
        }


def compare(
    shapes: Shapes, anatomy: Anatomy, rules: Sequence[object], *, key_layout: str, prefix: str
) -> Likeness:
    """Compare a file's tensors with a network's.

    Args:
        shapes: The file's, by its own names.
        anatomy: The network.
        rules: From the file's names, without the prefix, to the network's.
        key_layout: Name of these rules.
        prefix: What stands before the network's names; others are left out of account.
    """
    inside = {n.removeprefix(prefix): s for n, s in shapes.items() if n.startswith(prefix)}
    found = renamed(inside, rules)
    heads = tuple(f"{head}." for head in anatomy.heads)
    wanted = {name: shape for name, shape in anatomy.shapes.items() if not _passed(name, heads)}
    fits: list[str] = []
    adapted: list[str] = []
    misshapen: list[str] = []
    for name, shape in wanted.items():
        if name not in found:
            continue
        if _squeezed(found[name]) == _squeezed(shape):
            fits.append(name)
        elif _adaptable(name, found[name], shape, anatomy):
            adapted.append(name)
        else:
            misshapen.append(name)
    whole = sum(math.prod(shape) for shape in wanted.values())
    had = sum(math.prod(wanted[name]) for name in (*fits, *adapted))
    return Likeness(
        architecture=anatomy.name,
        key_layout=key_layout,
        prefix=prefix,
        coverage=had / whole if whole else 0.0,
        missing=tuple(name for name in wanted if name not in found),
        misshapen=tuple(misshapen),
        adapted=tuple(adapted),
        extra=tuple(n for n in found if n not in wanted and not _passed(n, heads)),
    )


def compare_shapes(shapes: Shapes, anatomy: Anatomy) -> Likeness:
    """Compare a file's tensors with a network's by their shapes alone."""
    heads = tuple(f"{head}." for head in anatomy.heads)
    wanted = Counter(_squeezed(s) for n, s in anatomy.shapes.items() if not _passed(n, heads))
    found = Counter(_squeezed(s) for n, s in shapes.items() if not _passed(n, ()))
    whole = sum(math.prod(shape) * count for shape, count in wanted.items())
    had = sum(math.prod(shape) * count for shape, count in (wanted & found).items())
    return Likeness(
        architecture=anatomy.name,
        key_layout="unknown",
        prefix="",
        coverage=had / whole if whole else 0.0,
        missing=(),
        misshapen=(),
        adapted=(),
        extra=(),
        by="shapes",
    )


def _passed(name: str, heads: tuple[str, ...]) -> bool:
    return name.startswith(heads) or name.rpartition(".")[2] == COUNTER


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _adaptable(
    name: str, found: tuple[int, ...], wanted: tuple[int, ...], anatomy: Anatomy
) -> bool:
    if name in anatomy.stems and min(len(found), len(wanted)) > 2:
        # A 2D kernel that runs slice by slice is a 3D kernel of depth 1.
        return (found[0], *_squeezed(found[2:])) == (wanted[0], *_squeezed(wanted[2:]))
    return name in anatomy.positions and bool(found) and found[-1:] == wanted[-1:]
