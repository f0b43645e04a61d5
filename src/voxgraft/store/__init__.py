"""Preprocessed volumes on disk."""

from voxgraft.store.prepared import Prepared
from voxgraft.store.volume_store import VolumeStore

__all__ = ["Prepared", "VolumeStore"]
