"""Batches for the training loop, made ahead of it: volumes, windows of studies, clips of videos."""

from voxgraft.feeds.prefetch import Batch, Feed, float64_array
from voxgraft.feeds.volumes import VolumeFeed

__all__ = ["Batch", "Feed", "VolumeFeed", "float64_array"]
