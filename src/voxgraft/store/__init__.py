"""Preprocessed volumes on disk, and the feed that brings them to the training loop.

:class:`Feed` needs torch and is imported on first use, so that preparing processes start quickly.
"""

from typing import TYPE_CHECKING, Any

from voxgraft.store.prepared import Prepared
from voxgraft.store.volume_store import VolumeStore

if TYPE_CHECKING:
    from voxgraft.store.feed import Feed

__all__ = ["Feed", "Prepared", "VolumeStore"]


def __getattr__(name: str) -> Any:
    if name == "Feed":
        from voxgraft.store.feed import Feed

        return Feed
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
