"""Segmentation: losses that know nothing of classes that a case does not annotate."""

from voxgraft.tasks.segmentation.loss import SegmentationLoss
from voxgraft.tasks.segmentation.task import SegmentationTask, build_segmentation_task

__all__ = ["SegmentationLoss", "SegmentationTask", "build_segmentation_task"]
