"""The matrix of runs: its plan, its execution, its conclusions."""

from voxgraft.comparison.conduct import run_comparison, usable_cores
from voxgraft.comparison.demo import demo_plan
from voxgraft.comparison.estimate import estimate_comparison
from voxgraft.comparison.ke2023_plan import ke2023
from voxgraft.comparison.missing import without_missing
from voxgraft.comparison.plan import Plan
from voxgraft.comparison.plan_file import plan_from_dict, read_plan
from voxgraft.comparison.suprem_plan import suprem

__all__ = [
    "Plan",
    "demo_plan",
    "estimate_comparison",
    "ke2023",
    "plan_from_dict",
    "read_plan",
    "run_comparison",
    "suprem",
    "usable_cores",
    "without_missing",
]
