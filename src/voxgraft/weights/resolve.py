"""What a person writes for a start, and the Source that it means."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from voxgraft.errors import SourceError
from voxgraft.weights.card import CARD_FILE, card_source
from voxgraft.weights.catalog import SOURCES
from voxgraft.weights.convert.rules import Rename
from voxgraft.weights.layouts import key_layout, naming_rules
from voxgraft.weights.read import read_state_dict
from voxgraft.weights.recognize import recognized_source
from voxgraft.weights.source import InputContract, LocalFile, Source
from voxgraft.weights.timm_entries import architecture_facts, timm_source

_FORMS = (
    "Give a start as a catalogue id (`voxgraft sources` lists them), `ID@FILE`, "
    "`timm:NAME[.TAG]`, `timm:NAME[.TAG]@FILE`, the path of a checkpoint, or the folder of a run."
)
_SUFFIXES = (".pth", ".pt", ".pyth", ".tar", ".bin", ".ckpt", ".safetensors")


def resolve_source(text: str | Path, architecture: str | None = None) -> Source:
    """Return the Source that a text means.

    - ``ID``: an entry of the catalogue.
    - ``ID@FILE``: that entry, with a file that you already have.
    - ``timm:NAME`` or ``timm:NAME.TAG``: a timm checkpoint from the hub's cache, or downloaded.
    - ``timm:NAME@FILE``: a file with the tensors of a timm architecture, of whatever origin.
    - the path of a checkpoint: recognised by its tensors (see
      :func:`voxgraft.weights.recognize.recognized_source`), unless ``architecture`` is given.
    - the folder of a run, or of a saved graft.

    Args:
        text: One of these.
        architecture: timm's name of the network whose tensors a file holds.

    Raises:
        SourceError: If it means nothing that is known; near ids are named.
    """
    text = str(text).strip()
    if not text:
        raise SourceError(f"the start is empty. {_FORMS}")
    name, at, file = text.partition("@")
    if name.startswith("timm:"):
        return _timm(name.removeprefix("timm:"), file if at else None)
    if text in SOURCES:
        return SOURCES.get(text)
    if at and name in SOURCES:
        entry = SOURCES.get(name)
        return replace(entry, file=LocalFile(path=_existing(file)))
    path = Path(text).expanduser()
    if path.is_dir() or path.name == CARD_FILE:
        return card_source(path)
    if path.is_file():
        return _checkpoint(path, architecture)
    if path.suffix.lower() in _SUFFIXES or "/" in text or "\\" in text:
        raise SourceError(f"{text} does not exist. {_FORMS}")
    near = difflib.get_close_matches(name, SOURCES.names(), n=3, cutoff=0.4)
    hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
    raise SourceError(f"no start is called {text!r}.{hint} {_FORMS}")


def _existing(file: str) -> str:
    path = Path(file).expanduser()
    if not path.is_file():
        raise SourceError(f"{file or 'the file after @'} does not exist. {_FORMS}")
    return str(path)


def _timm(name: str, file: str | None) -> Source:
    if not name:
        raise SourceError(f"'timm:' has no name after it. {_FORMS}")
    if file is None:
        return SOURCES.get(name) if name in SOURCES else timm_source(name)
    path = _existing(file)
    architecture, _, tag = name.partition(".")
    if tag:
        entry = SOURCES.get(name) if name in SOURCES else timm_source(name)
        return replace(entry, file=LocalFile(path=path))
    return _file_of(Path(path), architecture)


def _file_of(path: Path, architecture: str) -> Source:
    facts: dict[str, Any] = architecture_facts(architecture)
    state = read_state_dict(path)
    layout = key_layout(state.keys())
    source = Source(
        id=f"timm:{architecture}@{path.name}",
        file=LocalFile(path=str(path)),
        sha256=None,
        key_layout=layout,
        **facts,
    )
    return replace(source, input=_own_channels(source, {n: t.shape for n, t in state.items()}))


def _own_channels(source: Source, shapes: Mapping[str, Sequence[int]]) -> InputContract:
    """Return the architecture's input contract, for as many channels as the file's stem has."""
    stem = f"{source.stem[0]}.weight" if source.stem else ""
    for old, shape in shapes.items():
        name = old
        for rule in naming_rules(source):
            name = rule.rename(name) if isinstance(rule, Rename) else name
        if name == stem and len(shape) == 4 and shape[1] != source.input.channels:
            channels = int(shape[1])
            mean, sd = source.input.carried_to(channels)
            return replace(source.input, channels=channels, mean=mean, sd=sd)
    return source.input


def _checkpoint(path: Path, architecture: str | None) -> Source:
    if path.with_name(CARD_FILE).is_file() and path.suffix == ".safetensors":
        return card_source(path)
    if architecture is not None:
        return _file_of(path, architecture)
    return recognized_source(path)
