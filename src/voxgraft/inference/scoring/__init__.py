"""Segmentations of a table's cases scored against its masks: a run's, or files of any tool."""

from voxgraft.inference.scoring.class_names import PredictedClasses, match_names, parse_classes
from voxgraft.inference.scoring.evaluate import (
    TOLERANCE_MM,
    evaluate_predictions,
    evaluate_segmentation,
)
from voxgraft.inference.scoring.evaluation import SegmentationEvaluation
from voxgraft.inference.scoring.lesions import PANCREAS, LesionQuestion
from voxgraft.inference.scoring.predicted_files import PredictedFolder
from voxgraft.inference.scoring.summary import ALL_CLASSES, ALL_SITES

__all__ = [
    "ALL_CLASSES",
    "ALL_SITES",
    "PANCREAS",
    "TOLERANCE_MM",
    "LesionQuestion",
    "PredictedClasses",
    "PredictedFolder",
    "SegmentationEvaluation",
    "evaluate_predictions",
    "evaluate_segmentation",
    "match_names",
    "parse_classes",
]
