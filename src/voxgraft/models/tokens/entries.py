"""What the registry says of these networks."""

from __future__ import annotations

from voxgraft.models.entry import ModelEntry
from voxgraft.models.tokens import entries_image, entries_video, entries_volume

ENTRIES: tuple[ModelEntry, ...] = (
    *entries_image.ENTRIES,
    *entries_video.ENTRIES,
    *entries_volume.ENTRIES,
)
