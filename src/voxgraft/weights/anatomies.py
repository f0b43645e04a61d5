"""The tensors of networks, kept in the cache folder: a network is built once to know its shapes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from voxgraft.files import cache_folder, read_json, write_json
from voxgraft.weights.likeness import Anatomy


def kept_anatomy(name: str, fingerprint: str, make: Callable[[], Anatomy]) -> Anatomy:
    """Return a network's tensors from the cache folder, or make and keep them.

    Args:
        name: Name of the network; part of a file's name.
        fingerprint: Key of the code that makes it; another key, another folder.
        make: Builds the network and returns its tensors.
    """
    path = cache_folder() / "anatomies" / fingerprint / f"{name}.json"
    kept = _read(path, name)
    if kept is not None:
        return kept
    anatomy = make()
    plain = {
        "shapes": {key: list(shape) for key, shape in anatomy.shapes.items()},
        "heads": list(anatomy.heads),
        "stems": sorted(anatomy.stems),
        "positions": sorted(anatomy.positions),
        "decoder": list(anatomy.decoder),
        "decoder_head": anatomy.decoder_head,
    }
    try:
        write_json(path, plain)
    except OSError:
        # A cache that cannot be written costs time, no more: `voxgraft doctor` names it.
        return anatomy
    return anatomy


def _read(path: Path, name: str) -> Anatomy | None:
    """Return what is kept of a network; None if there is nothing, or nothing that can be read."""
    try:
        content = read_json(path)
        return Anatomy(
            name=name,
            shapes={key: tuple(map(int, shape)) for key, shape in content["shapes"].items()},
            heads=tuple(map(str, content["heads"])),
            stems=frozenset(map(str, content["stems"])),
            positions=frozenset(map(str, content["positions"])),
            decoder=tuple(map(str, content["decoder"])),
            decoder_head=str(content["decoder_head"]),
        )
    except (OSError, json.JSONDecodeError, UnicodeDecodeError, LookupError, TypeError, ValueError):
        return None
    except AttributeError:
        return None
