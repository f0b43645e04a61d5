"""What a person writes for a start, and the Source that it means."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

from voxgraft.errors import SourceError
from voxgraft.weights.card import CARD_FILE, card_source
from voxgraft.weights.catalog import SOURCES
from voxgraft.weights.hub import PREFIX as HUB
from voxgraft.weights.hub_source import hub_source
from voxgraft.weights.likeness import Networks
from voxgraft.weights.read import read_checkpoint, read_state_dict
from voxgraft.weights.recognize import recognized_source
from voxgraft.weights.recognized import image_source, native_source
from voxgraft.weights.source import LocalFile, Source
from voxgraft.weights.timm_entries import timm_source

_FORMS = (
    "Give a start as a catalogue id (`voxgraft sources` lists them), `ID@FILE`, "
    "`timm:NAME[.TAG]`, `timm:NAME[.TAG]@FILE`, `NETWORK@FILE`, `hf-hub:ORG/NAME`, the path of a "
    "checkpoint, or the folder of a run."
)
_SUFFIXES = (
    ".pth",
    ".pt",
    ".pyth",
    ".tar",
    ".bin",
    ".ckpt",
    ".safetensors",
    ".npz",
    ".json",
    ".pb",
)


def resolve_source(
    text: str | Path,
    architecture: str | None = None,
    *,
    key: str | None = None,
    networks: Networks | None = None,
) -> Source:
    """Return the Source that a text means.

    - ``ID``: an entry of the catalogue.
    - ``ID@FILE``: that entry, with a file that you already have.
    - ``timm:NAME`` or ``timm:NAME.TAG``: a timm checkpoint from the hub's cache, or downloaded.
    - ``timm:NAME@FILE``: a file with the tensors of a timm architecture, of whatever origin.
    - ``NETWORK@FILE``: a file with the tensors of one of the registry's networks for video or
      volumes, of whatever origin.
    - ``hf-hub:ORGANIZATION/NAME[@REVISION][:FILE]``: a repository of the hub.
    - the path of a checkpoint: recognised by its tensors (see
      :func:`voxgraft.weights.recognize.recognized_source`), unless ``architecture`` is given.
    - the folder of a run, or of a saved graft.

    Args:
        text: One of these.
        architecture: timm's name of the network whose tensors a file holds.
        key: Key of the network in the file, where there are several.
        networks: The registry's networks for video and volumes; None knows image networks only.

    Raises:
        SourceError: If it means nothing that is known; near ids are named.
    """
    source = _resolved(str(text).strip(), architecture, key, networks)
    return source if key is None else replace(source, key=key)


def _resolved(
    text: str, architecture: str | None, key: str | None, networks: Networks | None
) -> Source:
    if not text:
        raise SourceError(f"the start is empty. {_FORMS}")
    if text.startswith(HUB):
        return hub_source(text, networks)
    name, at, file = text.partition("@")
    if name.startswith("timm:"):
        return _timm(name.removeprefix("timm:"), file if at else None, key)
    if text in SOURCES:
        return SOURCES.get(text)
    if at and name in SOURCES:
        entry = SOURCES.get(name)
        return replace(entry, file=LocalFile(path=_existing(file)))
    if at and networks is not None and name in networks.names():
        path = Path(_existing(file))
        read = read_checkpoint(path, key=key)
        shapes = {n: tuple(t.shape) for n, t in read.state.items()}
        return native_source(path, name, shapes, networks, read.settings)
    if "://" in text:
        raise SourceError(
            f"{text} is an address. Download the file and give its path; a file of the Hugging "
            "Face hub is hf-hub:ORG/NAME:FILE."
        )
    path = Path(text).expanduser()
    folder, file_there = _there(path)
    if folder or path.name == CARD_FILE:
        return card_source(path)
    if file_there:
        return _checkpoint(path, architecture, key, networks)
    if path.suffix.lower() in _SUFFIXES or "/" in text or "\\" in text:
        raise SourceError(f"{text} does not exist. {_FORMS}")
    near = difflib.get_close_matches(name, SOURCES.names(), n=3, cutoff=0.4)
    hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
    raise SourceError(f"no start is called {text!r}.{hint} {_FORMS}")


def _existing(file: str) -> str:
    path = Path(file).expanduser()
    if not _there(path)[1]:
        raise SourceError(f"{file or 'the file after @'} does not exist. {_FORMS}")
    return str(path)


def _there(path: Path) -> tuple[bool, bool]:
    """Say whether a path is a folder, and whether it is a file."""
    try:
        return path.is_dir(), path.is_file()
    except OSError as fault:
        raise SourceError(f"{path!s:.100} cannot be looked for: {fault.strerror}. {_FORMS}") from (
            fault
        )


def _timm(name: str, file: str | None, key: str | None) -> Source:
    if not name:
        raise SourceError(f"'timm:' has no name after it. {_FORMS}")
    if file is None:
        return SOURCES.get(name) if name in SOURCES else timm_source(name)
    path = _existing(file)
    architecture, _, tag = name.partition(".")
    if tag:
        entry = SOURCES.get(name) if name in SOURCES else timm_source(name)
        return replace(entry, file=LocalFile(path=path))
    return _file_of(Path(path), architecture, key)


def _file_of(path: Path, architecture: str, key: str | None) -> Source:
    state = read_state_dict(path, key=key)
    return image_source(path, architecture, {n: tuple(t.shape) for n, t in state.items()})


def _checkpoint(
    path: Path, architecture: str | None, key: str | None, networks: Networks | None
) -> Source:
    if path.with_name(CARD_FILE).is_file() and path.suffix == ".safetensors":
        return card_source(path)
    if architecture is not None:
        return _file_of(path, architecture, key)
    return recognized_source(path, networks, key=key)
