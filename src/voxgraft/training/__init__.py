"""One training: the loop, how a start is used, BatchNorm, checkpoints, the learning rate."""

from voxgraft.training.adapt import Adapt
from voxgraft.training.batchnorm import (
    Reestimation,
    batchnorm_layers,
    measure_disagreement,
    reestimate,
)
from voxgraft.training.evaluation import compute_features, predict_items, predict_scores
from voxgraft.training.loop import fit
from voxgraft.training.lr_search import (
    LearningRateChoice,
    check_grid,
    choose_learning_rate,
    pick_learning_rate,
)
from voxgraft.training.memory_format import MemoryFormat, measured_memory_format
from voxgraft.training.optimization import Optimization
from voxgraft.training.result import FitResult, StepReport
from voxgraft.training.segmentation import SlidCases, dice_of_classes, segment_stored

__all__ = [
    "Adapt",
    "FitResult",
    "LearningRateChoice",
    "MemoryFormat",
    "Optimization",
    "Reestimation",
    "SlidCases",
    "StepReport",
    "batchnorm_layers",
    "check_grid",
    "choose_learning_rate",
    "compute_features",
    "dice_of_classes",
    "fit",
    "measure_disagreement",
    "measured_memory_format",
    "pick_learning_rate",
    "predict_items",
    "predict_scores",
    "reestimate",
    "segment_stored",
]
