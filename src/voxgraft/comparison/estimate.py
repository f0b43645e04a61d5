"""What a comparison would cost, measured from a few steps of each start."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import time
from pathlib import Path

from voxgraft.comparison.audit import input_audit, overlap_audit
from voxgraft.comparison.grafts import audit_grafts
from voxgraft.comparison.matrix import Arm, Study
from voxgraft.comparison.plan import Plan
from voxgraft.comparison.stages import StageRuns, stage_runs
from voxgraft.comparison.study import (
    channels_of,
    check_sizes,
    open_study,
    prepare_cases,
)
from voxgraft.datasets import read_table
from voxgraft.progress import progress_bar
from voxgraft.recipes import write_recipe
from voxgraft.runs import execute_run, planned_optimizations
from voxgraft.training import Optimization
from voxgraft.types import Json

_STEPS = 4


def estimate_comparison(plan: Plan, *, jobs: int = 1) -> Json:
    """Measure a few steps of each start on each model, and count what the plan would take.

    Data, split and grafts are checked as for the comparison itself. Volumes are prepared and stay
    in the store; nothing else is kept.

    Args:
        plan: The plan.
        jobs: Runs side by side.

    Returns:
        ``rows`` (one an arm), ``runs``, ``trials``, ``hours``, a sentence ``text``, ``overlap``
        (of each pre-trained start: ``start, flag, text``) and ``input`` (where the volumes are not
        what the weights were trained on).

    Raises:
        VoxgraftError: If data, starts or plan are at fault.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        study = open_study(plan, folder, jobs)
        prepared = prepare_cases(study, jobs)
        check_sizes(study, prepared)
        channels = channels_of(prepared)
        grafts = audit_grafts(study, folder, channels)
        staged = stage_runs(study, folder, jobs, channels)
        overlap = overlap_audit(study, read_table(study.table))
        measured: dict[tuple[str, str], tuple[float, float]] = {}
        arms = list(study.arms())
        smallest = [arm for arm in arms if arm.train_size == study.sizes[0]]
        with progress_bar(len(smallest), "measuring a few steps") as bar:
            for arm in smallest:
                key = (arm.model.name, arm.start.name)
                measured[key] = _measure(study, arm, folder / arm.id)
                bar.advance(1, arm.start.name)
        seed, rate = plan.seeds[0], plan.learning_rate.grid[0]
        planned = planned_optimizations([study.run(arm, seed, rate) for arm in arms])
        tried = planned_optimizations([study.trial(arm, rate) for arm in arms])
        rows = [
            _row(study, arm, run, trial, *measured[arm.model.name, arm.start.name])
            for arm, run, trial in zip(arms, planned, tried, strict=True)
        ]
        rows = [*_stage_rows(study, staged, measured), *rows]
    seconds = sum(row["minutes"] for row in rows) * 60
    hours = seconds / 3600 / jobs
    runs = len(arms) * len(plan.seeds)
    trials = sum(row["trials"] for row in rows)
    chained = sum(len(wanted) for wanted in staged.values())
    told = f"{hours * 60:.0f} min" if hours < 2 else f"{hours:.1f} h"
    told = f"about {told}" if hours * 60 >= 1 else "less than a minute"
    return {
        "rows": rows,
        "runs": runs,
        "trials": trials,
        "hours": hours,
        "jobs": jobs,
        "overlap": overlap,
        "input": input_audit(grafts),
        "text": (
            f"{runs} runs{f', {chained} runs before them' if chained else ''} and {trials} trials "
            f"of learning rates: {told} with --jobs {jobs}, "
            f"without early stopping (measured over {_STEPS} steps of each start)"
        ),
    }


def _measure(study: Study, arm: Arm, folder: Path) -> tuple[float, float]:
    """Return the seconds of a step and of an evaluation; a probe counts as one evaluation."""
    recipe = study.run(arm, study.plan.seeds[0], None)
    recipe = dataclasses.replace(
        recipe,
        optimization=recipe.optimization.replace(
            steps=_STEPS, epochs=None, eval_every=_STEPS, eval_every_epochs=None
        ),
        score_splits=("validation",),
    )
    write_recipe(recipe, folder / "recipe.yaml")
    ticks: list[float] = []
    result = execute_run(
        folder,
        on_steps=lambda steps, note: ticks.append(time.perf_counter()),
        check_parity=False,
    )
    total = float(result["fit"]["seconds"])
    if len(ticks) < _STEPS:
        return 0.0, total
    step = (ticks[_STEPS - 2] - ticks[0]) / (_STEPS - 2)
    return step, max(0.0, total - _STEPS * step)


def _stage_rows(
    study: Study, staged: StageRuns, measured: dict[tuple[str, str], tuple[float, float]]
) -> list[Json]:
    """Return what the trainings before the comparison take, a row a start and network."""
    rows = []
    for key, wanted in staged.items():
        model, _, start = key.partition("__")
        step_s, evaluation_s = measured[model, start]
        recipes = [recipe for _, recipe in wanted]
        planned = planned_optimizations(recipes)
        seconds = sum(
            one.steps * step_s + math.ceil(one.steps / one.eval_every) * evaluation_s
            for one in planned
        )
        patients = recipes[0].train_size
        if patients is None:
            patients = len(read_table(Path(recipes[0].table)).split("train").patients)
        rows.append(
            {
                "model": model,
                "start": f"{start}, on {study.plan.chained[start]}",
                "patients": patients,
                "seeds": 1,
                "trials": len(wanted) if len(wanted) > 1 else 0,
                "steps": planned[0].steps,
                "step (s)": round(step_s, 3),
                "minutes": round(seconds / 60, 2),
            }
        )
    return rows


def _row(
    study: Study,
    arm: Arm,
    run: Optimization,
    trial: Optimization,
    step_s: float,
    evaluation_s: float,
) -> Json:
    """Return what an arm takes; ``run`` and ``trial`` have their steps counted."""
    grid = study.plan.learning_rate.grid
    trials = len(grid) if arm.searches and len(grid) > 1 else 0
    seeds = len(study.plan.seeds)

    def seconds(planned: Optimization) -> float:
        if not arm.searches:
            return evaluation_s
        evaluations = math.ceil(planned.steps / planned.eval_every)
        return planned.steps * step_s + evaluations * evaluation_s

    total = seeds * seconds(run) + trials * seconds(trial)
    return {
        "model": arm.model.name,
        "start": arm.start.name,
        "patients": arm.train_size,
        "seeds": seeds,
        "trials": trials,
        "steps": run.steps if arm.searches else 0,
        "step (s)": round(step_s, 3),
        "minutes": round(total / 60, 2),
    }
