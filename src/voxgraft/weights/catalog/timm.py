"""Checkpoints that timm publishes on the hub; their facts are timm's."""

from __future__ import annotations

import json
from importlib import resources

from voxgraft.weights.source import Source, source_from_dict


def _read() -> list[Source]:
    text = (resources.files("voxgraft.weights") / "data" / "timm_sources.json").read_text("utf-8")
    return [source_from_dict(entry) for entry in json.loads(text)]


SOURCES: tuple[Source, ...] = tuple(_read())
