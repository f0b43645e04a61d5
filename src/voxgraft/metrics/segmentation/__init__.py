"""Label maps against references: overlap, surfaces, lesions; arrays in, numbers out."""

from voxgraft.metrics.segmentation.absence import DISTANCES, OVERLAPS, SCORES, VOLUMES, Presence
from voxgraft.metrics.segmentation.cases import ClassRow, score_case, write_records
from voxgraft.metrics.segmentation.components import (
    Connectivity,
    label_components,
    largest_component,
)
from voxgraft.metrics.segmentation.elements import Convention
from voxgraft.metrics.segmentation.lesions import (
    LesionCounts,
    LesionRules,
    count_lesions,
    pool_lesions,
)
from voxgraft.metrics.segmentation.masks import MaskScores, score_masks
from voxgraft.metrics.segmentation.matrix import score_matrix
from voxgraft.metrics.segmentation.pancreas import (
    PHASE_TUMORS,
    PancreasRules,
    PancreasScan,
    clean_masks,
    clean_pancreas,
    judge_cleaned,
    judge_scan,
    score_patients,
)
from voxgraft.metrics.segmentation.rates import ratio_of_sums
from voxgraft.metrics.segmentation.roc import RocPoint, roc_points
from voxgraft.metrics.segmentation.summary import ClassSummary, summarize
from voxgraft.metrics.segmentation.surfaces import SurfaceDistances, surface_distances
from voxgraft.metrics.structures import SCORED

__all__ = [
    "DISTANCES",
    "OVERLAPS",
    "PHASE_TUMORS",
    "SCORED",
    "SCORES",
    "VOLUMES",
    "ClassRow",
    "ClassSummary",
    "Connectivity",
    "Convention",
    "LesionCounts",
    "LesionRules",
    "MaskScores",
    "PancreasRules",
    "PancreasScan",
    "Presence",
    "RocPoint",
    "SurfaceDistances",
    "clean_masks",
    "clean_pancreas",
    "count_lesions",
    "judge_cleaned",
    "judge_scan",
    "label_components",
    "largest_component",
    "pool_lesions",
    "ratio_of_sums",
    "roc_points",
    "score_case",
    "score_masks",
    "score_matrix",
    "score_patients",
    "summarize",
    "surface_distances",
    "write_records",
]
