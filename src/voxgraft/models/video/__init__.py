"""Networks that were made for video: time becomes depth."""

from voxgraft.models.video.entries import ENTRIES

__all__ = ["ENTRIES"]
