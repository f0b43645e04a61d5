"""Segmentation: losses that know nothing of classes that a case does not annotate."""

from voxgraft.tasks.segmentation.loss import SegmentationLoss

__all__ = ["SegmentationLoss"]
