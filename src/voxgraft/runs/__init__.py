"""One folder per training: what stands in it, and how it comes to its result."""

from voxgraft.runs.begin import begin_run
from voxgraft.runs.build import build_network, build_segmenter, graft_start, output_classes
from voxgraft.runs.cases import RunCases, gather_cases, prepare_volumes
from voxgraft.runs.environment import describe_environment
from voxgraft.runs.execute import execute_run
from voxgraft.runs.folder import RunFolder, open_run
from voxgraft.runs.planned import planned_optimizations
from voxgraft.runs.predictions import (
    score_columns,
    score_frame,
    scores_of,
    squeeze,
    truth_of,
)
from voxgraft.runs.publish import push
from voxgraft.runs.saved import (
    TrainedRun,
    TrainedSegmentation,
    load_segmentation,
    load_trained,
    segments,
)
from voxgraft.runs.segmentation import SCORES_FILE, score_segmented

__all__ = [
    "SCORES_FILE",
    "RunCases",
    "RunFolder",
    "TrainedRun",
    "TrainedSegmentation",
    "begin_run",
    "build_network",
    "build_segmenter",
    "describe_environment",
    "execute_run",
    "gather_cases",
    "graft_start",
    "load_segmentation",
    "load_trained",
    "open_run",
    "output_classes",
    "planned_optimizations",
    "prepare_volumes",
    "push",
    "score_columns",
    "score_frame",
    "score_segmented",
    "scores_of",
    "segments",
    "squeeze",
    "truth_of",
]
