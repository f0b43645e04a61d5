"""Unknown checkpoints compared with every network of the registry."""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Collection, Mapping
from functools import cache
from importlib import resources
from pathlib import Path

import torch

from voxgraft.files import content_key
from voxgraft.models import MODELS, build_encoder
from voxgraft.models.decoders.build import usual_decoder
from voxgraft.models.decoders.native import native_decoder
from voxgraft.types import Json
from voxgraft.weights.anatomies import kept_anatomy
from voxgraft.weights.likeness import Anatomy
from voxgraft.weights.recognize import inspect_file as _inspect_file
from voxgraft.weights.resolve import resolve_source as _resolve_source
from voxgraft.weights.source import Source

_LIBRARIES = ("torch", "timm", "torchvision", "monai", "voxgraft")


class RegistryNetworks:
    """The registry's networks, as the weights' room asks for them.

    A network is built without memory for its weights, once; the shapes are kept in the cache folder
    until the networks' code or a library that they are made with changes.
    """

    def names(self) -> Collection[str]:
        """Return the networks for video and volumes."""
        return _native_names()

    def anatomy(self, name: str) -> Anatomy:
        """Return the tensors of one of them, for one channel of input.

        Raises:
            RegistryError: If no network has that name.
        """
        return _anatomy(name)

    def size(self, name: str) -> int:
        """Return the number of values in one of them, about: of those that came with the package.

        It says which networks a file is compared with first; others are built to know it.

        Raises:
            RegistryError: If no network has that name.
        """
        sizes = _sizes()
        if name not in sizes:
            return sum(math.prod(shape) for shape in _anatomy(name).shapes.values())
        return sizes[name]

    def models_of(self, architecture: str) -> list[str]:
        """Return the networks that take the weights of an architecture."""
        if architecture in _native_names():
            return [architecture]
        twins = [entry.name for entry in MODELS if entry.twin_of == architecture]
        return twins or [f"{architecture}_3d"]


NETWORKS = RegistryNetworks()

_OWN_FAMILIES = frozenset({"plain_resnet"})
"""Networks of Voxgraft's own, which no image network stands behind."""


@cache
def _native_names() -> tuple[str, ...]:
    """Return the networks whose weights are 3D: no twins, and none that run a 2D one on slices."""
    return tuple(
        entry.name for entry in MODELS if entry.native != "image" or entry.family in _OWN_FAMILIES
    )


@cache
def _sizes() -> Mapping[str, int]:
    text = (resources.files("voxgraft.grafting") / "data" / "network_sizes.json").read_text("utf-8")
    sizes: dict[str, int] = json.loads(text)
    return sizes


@cache
def _anatomy(name: str) -> Anatomy:
    return kept_anatomy(name, _fingerprint(), lambda: _built(name))


def _built(name: str) -> Anatomy:
    with torch.device("meta"):
        encoder = build_encoder(name)
        published = usual_decoder(encoder) == "native"
        decoder = native_decoder(encoder) if published else None
    declared = encoder.declaration
    return Anatomy(
        name=name,
        shapes={key: tuple(tensor.shape) for key, tensor in encoder.state_dict().items()},
        heads=(declared.head,) if declared.head else (),
        stems=frozenset(declared.stems),
        positions=frozenset(table.name for table in declared.positions),
        decoder=() if decoder is None else tuple(part for part, _ in decoder.named_children()),
        decoder_head="" if decoder is None else decoder.original_head,
    )


@cache
def _fingerprint() -> str:
    """Return a key of the code that makes the networks."""
    import voxgraft.models

    folder = Path(voxgraft.models.__file__).parent
    files = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.rglob("*.py"))]
    versions = [importlib.metadata.version(name) for name in _LIBRARIES]
    return content_key([[list(entry) for entry in files], versions])


def inspect_file(path: str | Path, *, key: str | None = None) -> Json:
    """Say what a checkpoint holds, and which networks it fits; ``voxgraft inspect``.

    See :func:`voxgraft.weights.inspect_file`; ``likely`` also names networks for video and volumes,
    and each entry's ``models`` the networks of the registry that take such weights.

    Raises:
        SourceError: If it cannot be read.
    """
    return _inspect_file(path, NETWORKS, key=key)


def find_source(
    text: str | Path, architecture: str | None = None, *, key: str | None = None
) -> Source:
    """Return the Source that a text means; knows the networks for video and volumes too.

    See :func:`voxgraft.weights.resolve_source`.

    Raises:
        SourceError: If it means nothing that is known; near ids are named.
        FetchError: If it is a place on the hub that cannot be asked.
    """
    return _resolve_source(text, architecture, key=key, networks=NETWORKS)
