"""What the registry says of these networks."""

from __future__ import annotations

from voxgraft.models.entry import ModelEntry

ENTRIES: tuple[ModelEntry, ...] = ()
