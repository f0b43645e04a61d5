"""Networks that were made for CT and MRI."""

from voxgraft.models.volumetric.entries import ENTRIES

__all__ = ["ENTRIES"]
