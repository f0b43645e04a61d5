"""Preprocessed volumes and masks on disk."""

from voxgraft.store.masks import prepare_masks
from voxgraft.store.prepared import Prepared
from voxgraft.store.prepared_masks import PreparedMasks
from voxgraft.store.volume_store import VolumeStore

__all__ = ["Prepared", "PreparedMasks", "VolumeStore", "prepare_masks"]
