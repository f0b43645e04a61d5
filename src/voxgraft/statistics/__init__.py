"""Statistics: numbers in, conclusions out. Imports no torch, and no metric: they come as calls."""

from voxgraft.statistics.bootstrap import bootstrap, hierarchical_bootstrap
from voxgraft.statistics.differences import Difference, adjust, holm, paired_difference
from voxgraft.statistics.intervals import Interval, performance_interval

__all__ = [
    "Difference",
    "Interval",
    "adjust",
    "bootstrap",
    "hierarchical_bootstrap",
    "holm",
    "paired_difference",
    "performance_interval",
]
