"""One folder per training: what stands in it, and how it comes to its result."""

from voxgraft.runs.begin import begin_run
from voxgraft.runs.build import build_network, graft_start
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
from voxgraft.runs.saved import TrainedRun, load_trained

__all__ = [
    "RunCases",
    "RunFolder",
    "TrainedRun",
    "begin_run",
    "build_network",
    "describe_environment",
    "execute_run",
    "gather_cases",
    "graft_start",
    "load_trained",
    "open_run",
    "planned_optimizations",
    "prepare_volumes",
    "push",
    "score_columns",
    "score_frame",
    "scores_of",
    "squeeze",
    "truth_of",
]
