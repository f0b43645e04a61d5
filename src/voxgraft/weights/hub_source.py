"""A repository of the hub as a start: what its own files say of the weights in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from voxgraft.errors import FetchError, SourceError
from voxgraft.files import read_json
from voxgraft.weights.card import CARD_FILE, WEIGHTS_FILE, card_source
from voxgraft.weights.hub import Place, hub_file, hub_file_if_there, parse_place, weight_files
from voxgraft.weights.likeness import Networks
from voxgraft.weights.recognize import recognized_source
from voxgraft.weights.source import HubFile, InputContract, LocalFile, Source
from voxgraft.weights.timm_entries import architecture_facts

_CONFIG = "config.json"
_USUAL = (WEIGHTS_FILE, "model.safetensors.index.json", "pytorch_model.bin")


def hub_source(text: str, networks: Networks | None = None) -> Source:
    """Return the Source that a place on the hub is.

    - A repository that Voxgraft pushed: by its card.
    - One of timm's kind: by its ``config.json``, which names the architecture, the mean and
      the standard deviation of its images; the weights are fetched when they are grafted.
    - Any other: its file of weights is fetched and recognised by its tensors.

    Args:
        text: ``hf-hub:ORGANIZATION/NAME[@REVISION][:FILE]``.
        networks: The registry's networks for video and volumes, for recognition.

    Raises:
        SourceError: If the place is misspelled, has several files of weights, or is not recognised.
        FetchError: If a file cannot be had.
    """
    place = parse_place(text)
    if place.filename in (None, WEIGHTS_FILE):
        card = hub_file_if_there(place, CARD_FILE)
        if card is not None:
            hub_file(place, WEIGHTS_FILE)
            return replace(card_source(card), id=str(place))
    config = hub_file_if_there(place, _CONFIG)
    facts = None if config is None else _timm_facts(config)
    filename = place.filename or _weights_of(place)
    if facts is not None:
        file = HubFile(repository=place.repository, filename=filename, revision=place.revision)
        return Source(id=str(place), file=file, sha256=None, **facts)
    path = hub_file(place, filename)
    try:
        source = recognized_source(path, networks)
    except SourceError as fault:
        raise SourceError(f"{place}: {fault}") from fault
    file = HubFile(repository=place.repository, filename=filename, revision=place.revision)
    if source.sha256 is None and isinstance(source.file, LocalFile):
        source = replace(source, id=str(place), file=file)
    return source


def _weights_of(place: Place) -> str:
    for name in _USUAL:
        try:
            if hub_file_if_there(place, name) is not None:
                return name
        except FetchError:
            break
    found = weight_files(place)
    if len(found) != 1:
        raise SourceError(
            f"{place} has {len(found) or 'no'} files of weights"
            f"{': ' if found else ''}{', '.join(found[:12])}. Name one: {place}:FILE."
        )
    return found[0]


def _timm_facts(config: Path) -> dict[str, Any] | None:
    """Return what a repository of timm's kind says of its weights; None if it is of another."""
    try:
        content = read_json(config)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise SourceError(f"{config} is no JSON: {fault}. Fetch the repository again.") from fault
    if not isinstance(content, dict) or not isinstance(content.get("architecture"), str):
        return None
    import timm

    name = content["architecture"].partition(".")[0]
    if not timm.is_model(name):
        return None
    facts = architecture_facts(name)
    own = content.get("pretrained_cfg", content)
    own = own if isinstance(own, dict) else {}
    mean, sd = _numbers(own.get("mean")), _numbers(own.get("std"))
    if mean and sd:
        given: InputContract = facts["input"]
        facts["input"] = replace(given, channels=len(mean), mean=mean, sd=sd)
    if content.get("num_classes") == 0:
        facts["head"] = ()
        facts["parameters"] -= facts["head_parameters"]
        facts["head_parameters"] = 0
    if isinstance(own.get("license"), str):
        facts["licence"] = own["license"]
    return facts


def _numbers(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list) or not all(isinstance(item, int | float) for item in value):
        return ()
    return tuple(map(float, value))
