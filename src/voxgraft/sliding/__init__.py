"""A segmentation network over whole scans, window by window, in bounded memory."""

from voxgraft.sliding.on_scan import labels_on_scan, masks_on_scan
from voxgraft.sliding.scan_labels import (
    PackedMasks,
    scores,
    segment_label_map,
    segment_multilabel,
)
from voxgraft.sliding.sliding_window import Sliding, sliding_window

__all__ = [
    "PackedMasks",
    "Sliding",
    "labels_on_scan",
    "masks_on_scan",
    "scores",
    "segment_label_map",
    "segment_multilabel",
    "sliding_window",
]
