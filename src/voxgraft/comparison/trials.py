"""Choose each arm's learning rate from its trials, all with the same budget."""

from __future__ import annotations

from pathlib import Path

from voxgraft.comparison.matrix import Arm, Study, trial_id
from voxgraft.files import read_json
from voxgraft.metrics import get_metric
from voxgraft.runs import RunFolder
from voxgraft.training import FitResult, pick_learning_rate
from voxgraft.types import Json


def choose_rate(study: Study, arm: Arm, folder: Path) -> Json:
    """Return an arm's learning rate and the trials that it was chosen by.

    Returns:
        ``start, model, train_size, grid, values, chosen, flags, steps, seconds, error``.
        ``chosen`` is None for an arm without a learning rate, and where a trial failed (then
        ``error`` says why; the arm's runs are not started).
    """
    grid = study.plan.learning_rate.grid if arm.searches else ()
    row: Json = {
        "start": arm.start.name,
        "model": arm.model.name,
        "train_size": arm.train_size,
        "grid": list(grid),
        "values": [],
        "chosen": grid[0] if len(grid) == 1 else None,
        "flags": [],
        "steps": 0,
        "seconds": 0.0,
        "searched_at": arm.train_size,
        "error": None,
    }
    if len(grid) <= 1:
        return row
    trials: dict[float, FitResult] = {}
    searched = study.searched(arm)
    row["searched_at"] = searched.train_size
    for rate in grid:
        run = RunFolder(folder / "trials" / trial_id(searched, rate))
        if not run.finished:
            failure = run.path / "failure.json"
            reason = read_json(failure)["error"] if failure.is_file() else "it did not finish"
            return row | {"error": f"the trial at learning rate {rate:g} failed: {reason}"}
        trials[rate] = FitResult(**run.result()["fit"])
    higher = get_metric(study.metric).higher_is_better
    choice = pick_learning_rate(trials, higher_is_better=higher)
    at_edge = choice.edge and len(choice.grid) > 2  # of two rates, each is at an edge
    flags = [f"at the {choice.edge} rate of the grid"] if at_edge else []
    if all(choice.diverged):
        flags.append("every rate diverged")
    return (
        row
        | {
            "grid": list(choice.grid),
            "values": list(choice.values),
            "chosen": choice.chosen,
            "flags": flags,
        }
        | (
            {"steps": choice.budget_steps * len(choice.grid), "seconds": choice.seconds}
            if arm.train_size == (study.search_size or arm.train_size)
            or (study.search_size not in study.sizes and arm.train_size == study.sizes[0])
            else {}  # the trials are counted once, where they were made
        )
    )
