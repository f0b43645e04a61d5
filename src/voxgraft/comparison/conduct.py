"""Conduct a comparison from plan to conclusions, resuming whatever is already finished."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from voxgraft.comparison.analysis import analyze
from voxgraft.comparison.engine import Event, LocalEngine
from voxgraft.comparison.grafts import audit_grafts
from voxgraft.comparison.matrix import Arm, Study, run_id, trial_id
from voxgraft.comparison.plan import Plan
from voxgraft.comparison.stages import stage_runs, with_stages
from voxgraft.comparison.study import (
    channels_of,
    check_sizes,
    open_study,
    prepare_cases,
)
from voxgraft.comparison.trials import choose_rate
from voxgraft.errors import RunError
from voxgraft.files import write_json
from voxgraft.progress import progress_bar
from voxgraft.recipes import Recipe
from voxgraft.runs import RunFolder, begin_run, planned_optimizations
from voxgraft.types import Json


def run_comparison(plan: Plan, folder: Path, *, jobs: int = 1, command: str = "") -> Json:
    """Train and test every start of a plan, and draw the conclusions.

    A killed comparison goes on where it stopped when called again with the same plan and folder:
    finished runs are not repeated, and on a CPU the numbers are bitwise those of an uninterrupted
    one.

    Args:
        plan: The plan.
        folder: Where everything goes: ``runs/``, ``trials/``, ``comparison.json``.
        jobs: Runs side by side.
        command: The command line, for the record.

    Returns:
        The content of ``comparison.json``.

    Raises:
        VoxgraftError: If data, starts or plan are at fault, before anything trains.
        RunError: If no run of the reference could be finished.
    """
    folder = folder.resolve()
    with _only_here(folder):
        study = open_study(plan, folder, jobs)
        prepared = prepare_cases(study, jobs)
        check_sizes(study, prepared)
        channels = channels_of(prepared)
        grafts = audit_grafts(study, folder, channels)
        engine = LocalEngine(jobs, study.threads, folder / "logs")
        if plan.chained:
            wanted = stage_runs(study, folder, jobs, channels)
            execute(engine, [run for runs in wanted.values() for run in runs], "pre-training")
            study = with_stages(study, folder, wanted)
            grafts |= audit_grafts(study, folder, channels)
        trials = [
            (folder / "trials" / trial_id(arm, rate), study.trial(arm, rate))
            for arm, rate in study.trials()
        ]
        execute(engine, trials, "choosing learning rates")
        choices = {arm.id: choose_rate(study, arm, folder) for arm in study.arms()}
        write_json(folder / "trials.json", choices)
        runs = planned_runs(study, choices, folder)
        execute(engine, runs, "training")
        comparison = analyze(study, folder, prepared, grafts, choices, command)
        write_json(folder / "comparison.json", comparison)
    return comparison


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def planned_runs(study: Study, choices: Json, folder: Path) -> list[tuple[Path, Recipe]]:
    """Return folder and recipe of every run: seed by seed, smallest size first."""
    arms: Sequence[Arm] = list(study.arms())
    return [
        (
            folder / "runs" / run_id(arm, seed),
            study.run(arm, seed, choices[arm.id]["chosen"]),
        )
        for seed in study.plan.seeds
        for arm in arms
        if choices[arm.id]["error"] is None
    ]


def execute(engine: LocalEngine, wanted: list[tuple[Path, Recipe]], description: str) -> None:
    """Execute what is not finished; failures are recorded in ``failures.json``."""
    for path, recipe in wanted:
        begin_run(path, recipe)
    todo = [(path, recipe) for path, recipe in wanted if not RunFolder(path).finished]
    done = len(wanted) - len(todo)
    steps = _steps(wanted)
    total = sum(steps.values())
    steps_left = {path: steps[path] for path, _ in todo}
    finished_steps = total - sum(steps_left.values())
    counts = {"finished": done, "failed": 0}

    with progress_bar(total, description) as bar:
        bar.advance(finished_steps, f"{done}/{len(wanted)} runs")

        def heed(event: Event) -> None:
            made = event.steps
            if event.kind != "steps":
                made = steps_left[event.folder]
                counts[event.kind] += 1
                if event.kind == "failed":
                    write_json(event.folder / "failure.json", {"error": event.note})
            made = min(made, steps_left[event.folder])
            steps_left[event.folder] -= made
            failed = f", {counts['failed']} failed" if counts["failed"] else ""
            note = f"{counts['finished']}/{len(wanted)} runs{failed} {event.note[:60]}"
            bar.advance(made, note)

        for path, _ in todo:
            (path / "failure.json").unlink(missing_ok=True)
        engine.execute([path for path, _ in todo], heed)


def _steps(wanted: list[tuple[Path, Recipe]]) -> dict[Path, int]:
    """Return what each run counts in the bar: a probe trains nothing and is quick."""
    planned = planned_optimizations([recipe for _, recipe in wanted])
    return {
        path: 1 if recipe.start.adapt.method == "probe" else optimization.steps
        for (path, recipe), optimization in zip(wanted, planned, strict=True)
    }


@contextmanager
def _only_here(folder: Path) -> Iterator[None]:
    """Hold a comparison's folder; refuse if another process holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(
                f"another process is running the comparison in {folder}. Wait for it, or end it."
            ) from error
        yield
