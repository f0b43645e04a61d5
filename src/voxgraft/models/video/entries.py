"""What the registry says of these networks."""

from __future__ import annotations

from voxgraft.models.entry import ModelEntry
from voxgraft.models.video import entries_convolutional, entries_packages, entries_variants

ENTRIES: tuple[ModelEntry, ...] = (
    *entries_convolutional.ENTRIES,
    *entries_variants.ENTRIES,
    *entries_packages.ENTRIES,
)
