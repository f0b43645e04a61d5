"""Statistics: numbers in, conclusions out. Imports no torch, and no metric: they come as calls."""

from voxgraft.statistics.baselines import covariate_baseline, majority_baseline
from voxgraft.statistics.bootstrap import bootstrap, hierarchical_bootstrap
from voxgraft.statistics.curves import LearningCurve, isotonic, learning_curve
from voxgraft.statistics.delong import (
    DeLong,
    DeLongTest,
    delong,
    delong_covariance,
    delong_test,
)
from voxgraft.statistics.differences import Difference, adjust, holm, paired_difference
from voxgraft.statistics.flags import (
    CONSTANT,
    DIVERGED,
    WORSE_THAN_CHANCE,
    describe_flags,
    flag_run,
    usable,
)
from voxgraft.statistics.intervals import Interval, performance_interval
from voxgraft.statistics.networks import NetworkDifference, mean_difference_over_networks
from voxgraft.statistics.obuchowski_rockette import interval_from_differences
from voxgraft.statistics.savings import LabelSavings, label_savings
from voxgraft.statistics.selection import BestAgainstBest, BestOnTest, best_against_best
from voxgraft.statistics.verdict import (
    Compared,
    answer,
    format_difference,
    format_p,
    sentence,
    verdict,
)

__all__ = [
    "CONSTANT",
    "DIVERGED",
    "WORSE_THAN_CHANCE",
    "BestAgainstBest",
    "BestOnTest",
    "Compared",
    "DeLong",
    "DeLongTest",
    "Difference",
    "Interval",
    "LabelSavings",
    "LearningCurve",
    "NetworkDifference",
    "adjust",
    "answer",
    "best_against_best",
    "bootstrap",
    "covariate_baseline",
    "delong",
    "delong_covariance",
    "delong_test",
    "describe_flags",
    "flag_run",
    "format_difference",
    "format_p",
    "hierarchical_bootstrap",
    "holm",
    "interval_from_differences",
    "isotonic",
    "label_savings",
    "learning_curve",
    "majority_baseline",
    "mean_difference_over_networks",
    "paired_difference",
    "performance_interval",
    "sentence",
    "usable",
    "verdict",
]
