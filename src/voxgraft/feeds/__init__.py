"""Batches for the training loop, made ahead of it: volumes, windows, crops, clips."""

from voxgraft.feeds.clips import ClipFeed
from voxgraft.feeds.crops import CropFeed, WholeCases
from voxgraft.feeds.prefetch import Batch, Feed, float64_array
from voxgraft.feeds.volumes import VolumeFeed
from voxgraft.feeds.windows import WindowFeed, cut_windows, stored_slice_labels

__all__ = [
    "Batch",
    "ClipFeed",
    "CropFeed",
    "Feed",
    "VolumeFeed",
    "WholeCases",
    "WindowFeed",
    "cut_windows",
    "float64_array",
    "stored_slice_labels",
]
