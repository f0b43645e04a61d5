"""Networks trained on video."""

from __future__ import annotations

from voxgraft.weights.source import Source

SOURCES: tuple[Source, ...] = ()
