"""Networks trained on CT and MRI."""

from __future__ import annotations

from voxgraft.weights.source import Source

SOURCES: tuple[Source, ...] = ()
