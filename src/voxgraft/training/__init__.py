"""One training: the loop, how a start is used, BatchNorm, checkpoints, the learning rate."""

from voxgraft.training.adapt import Adapt
from voxgraft.training.batchnorm import (
    Reestimation,
    batchnorm_layers,
    measure_disagreement,
    reestimate,
)
from voxgraft.training.evaluation import compute_features, predict_scores
from voxgraft.training.feed import CaseFeed
from voxgraft.training.loop import MemoryFormat, fit
from voxgraft.training.optimization import Optimization
from voxgraft.training.result import FitResult, StepReport

__all__ = [
    "Adapt",
    "CaseFeed",
    "FitResult",
    "MemoryFormat",
    "Optimization",
    "Reestimation",
    "StepReport",
    "batchnorm_layers",
    "compute_features",
    "fit",
    "measure_disagreement",
    "predict_scores",
    "reestimate",
]
