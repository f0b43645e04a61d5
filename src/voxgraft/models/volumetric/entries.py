"""What the registry says of these networks."""

from __future__ import annotations

from voxgraft.models.entry import ModelEntry
from voxgraft.models.volumetric import entries_convolutional, entries_monai, entries_packages

ENTRIES: tuple[ModelEntry, ...] = (
    *entries_convolutional.ENTRIES,
    *entries_monai.ENTRIES,
    *entries_packages.ENTRIES,
)
