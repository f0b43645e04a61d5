"""A comparison whose runs are so many epochs long, whatever the number of patients."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from voxgraft.comparison.estimate import estimate_comparison
from voxgraft.comparison.matrix import Study
from voxgraft.comparison.plan import Plan
from voxgraft.comparison.plan_file import plan_from_dict
from voxgraft.comparison.study import open_study
from voxgraft.datasets import Table, Target
from voxgraft.errors import TaskError
from voxgraft.recipes import TaskSettings


def _plan(table: str, **more: Any) -> Plan:
    data = {
        "table": table,
        "target": "shape",
        "preprocessing": {"intensity": {"kind": "min_max"}},
        "models": ["plain_resnet10_3d"],
        "starts": ["scratch", {"name": "probe", "adapt": "probe"}],
        "sizes": [4, "all"],
        "seeds": 1,
        "optimization": {"epochs": 2, "eval_every_epochs": 1, "batch_size": 4},
        "task": {"class_weights": "balanced"},
        "learning_rate": {"grid": [1e-3]},
        "replicates": 100,
        "threads": 1,
    }
    return plan_from_dict(data | more, "plan")


def _study(plan: Plan) -> Study:
    target = Target(kind="binary", columns=("shape",), classes=("ball", "box"))
    return Study(
        plan=plan, target=target, metric="auroc", sizes=(4,), table=Path("cases.csv"), threads=1
    )


def test_trials_take_the_epochs_of_a_run_or_steps_of_their_own() -> None:
    plan = _plan("cases.csv")
    assert plan_from_dict(plan.to_dict(), "again") == plan
    study = _study(plan)
    arm = next(iter(study.arms()))
    run, trial = study.run(arm, 0, 1e-3), study.trial(arm, 1e-3)
    assert run.task == trial.task == TaskSettings(class_weights="balanced")
    assert trial.optimization == run.optimization
    assert trial.optimization.epochs == 2
    study = _study(_plan("cases.csv", learning_rate={"grid": [1e-3], "steps": 7}))
    own = study.trial(arm, 1e-3).optimization
    assert (own.steps, own.epochs, own.eval_every_epochs) == (7, None, 1)


def test_the_estimate_counts_the_epochs_of_each_size(
    make_shapes: Callable[..., Table], tmp_path: Path
) -> None:
    table = make_shapes(30, size=8)
    plan = _plan(str(table.path), store=str(tmp_path / "store"), learning_rate={"steps": 7})
    rows = estimate_comparison(plan)["rows"]
    everyone = rows[-1]["patients"]
    steps = {(row["start"], row["patients"]): row["steps"] for row in rows}
    assert steps == {
        ("scratch", 4): 2,
        ("scratch", everyone): math.ceil(2 * everyone / 4),
        ("probe", 4): 0,
        ("probe", everyone): 0,
    }


def test_a_loss_that_does_not_fit_the_target_is_refused_before_anything_trains(
    make_shapes: Callable[..., Table], tmp_path: Path
) -> None:
    table = make_shapes(12, size=8)
    plan = _plan(str(table.path), target="radius_mm")
    with pytest.raises(TaskError, match="no meaning for a regression target"):
        open_study(plan, tmp_path, 1)
