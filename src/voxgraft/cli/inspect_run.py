"""What stands in the folder of a training or a comparison, in a few lines."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from voxgraft.cli.run_scores import SCORE_COLUMNS, STRUCTURE_COLUMNS, score_rows, structure_rows
from voxgraft.errors import VoxgraftError
from voxgraft.files import read_json
from voxgraft.types import Json

if TYPE_CHECKING:
    from voxgraft.recipes import Recipe
    from voxgraft.weights import Card


@dataclass(frozen=True)
class Found:
    """What is told of a path."""

    facts: Json
    """In the order in which they are printed; the first is ``kind``."""
    tables: list[tuple[str, list[str], list[list[Any]]]] = field(default_factory=list)
    """A key for JSON, columns and rows of each table that is printed after them."""
    hint: str = ""
    """What can be done with it."""

    def to_dict(self) -> Json:
        """Return it as JSON."""
        tables = {
            key: [dict(zip(columns, row, strict=True)) for row in rows]
            for key, columns, rows in self.tables
        }
        return self.facts | tables


def inspect_run(folder: Path) -> Found:
    """Say what a training's folder holds, finished or not.

    Raises:
        VoxgraftError: If its recipe, card or result is damaged.
    """
    from voxgraft.recipes import read_recipe
    from voxgraft.runs import SCORES_FILE, RunFolder
    from voxgraft.weights import load_card

    run = RunFolder(folder)
    recipe = read_recipe(run.recipe_path)
    result = run.result() if run.finished else {}
    card = load_card(folder) if (folder / "card.json").is_file() else None
    weights = run.weights_path.is_file() and card is not None
    facts: Json = {
        "kind": "a training" if run.finished else "a training that has not come to its end",
        "task": recipe.target.describe(),
        "status": result.get("status", "") if run.finished else _progress(folder, recipe),
        "network": recipe.model.name,
        "parameters": None if card is None else card.parameters,
        "start": _start(recipe),
        "graft": _graft(run.graft()),
        "trained on": _cases(recipe, result),
        "seed": recipe.seed,
        "preprocessing": recipe.preprocessing.describe().splitlines()
        if recipe.clips is None
        else "clips of videos",
        "seen as": _seen(recipe),
        "segmentation": None if recipe.segmentation is None else _segmentation(recipe, card),
        "best step": _best(result),
        "weights": run.weights_path.name
        if weights
        else ("not kept (save_weights: false)" if run.finished else "none yet"),
        "licence of the start": None
        if card is None or recipe.start.source is None
        else card.licence,
        "files": sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")),
    }
    rows = score_rows(result, recipe)
    tables = [("scores", SCORE_COLUMNS, rows)] if rows else []
    if (folder / SCORES_FILE).is_file():
        tables.append(("structures", STRUCTURE_COLUMNS, structure_rows(folder / SCORES_FILE)))
    facts = {key: value for key, value in facts.items() if value is not None}
    if not run.finished:
        return Found(
            facts, tables, f"`voxgraft finetune {quote(str(run.recipe_path))}` goes on with it"
        )
    predict = f"voxgraft predict {quote(str(folder))} SCAN"
    hint = f"`{predict}` predicts scans"
    if recipe.segmentation is not None:
        hint = f"`{predict} --out FOLDER` segments scans"
    return Found(facts, tables, hint if weights else "")


def inspect_comparison(folder: Path) -> Found:
    """Say what a comparison's folder holds, finished or not.

    Raises:
        VoxgraftError: If ``plan.yaml`` or ``comparison.json`` is damaged.
    """
    runs = [path for path in (folder / "runs").glob("*") if (path / "recipe.yaml").is_file()]
    done = sum((path / "result.json").is_file() for path in runs)
    if not (folder / "comparison.json").is_file():
        return Found(
            {
                "kind": "a comparison that has not come to its end",
                "runs": f"{done} finished, {len(runs) - done} begun",
            },
            hint=f"`voxgraft compare {quote(str(folder / 'plan.yaml'))}` goes on with it",
        )
    found = _object(folder / "comparison.json")
    task, data = found["task"], found["data"]
    kind = f"{task['kind']} {', '.join(task['columns'])}"
    splits = ", ".join(
        f"{name} {counts['patients']} patients ({counts['cases']} cases)"
        for name, counts in data["splits"].items()
    )
    facts = {
        "kind": "a comparison",
        "title": found["title"],
        "answer": found["answer"],
        "task": f"{kind}: {', '.join(task['classes'])}" if task["classes"] else kind,
        "metric": f"{task['metric_label']}, per {task['level']}",
        "table": f"{data['table']}: {splits}",
        "networks": found["models"],
        "starts": [one["name"] for one in found["starts"]],
        "training patients": found["sizes"],
        "seeds": found["seeds"],
        "runs": f"{done} finished, of {len(found['runs'])} in the matrix",
        "preprocessing": data["preprocessing"],
        "made": f"{found['created']}, voxgraft {found['voxgraft']}, `{found['command']}`",
        "files": sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")),
    }
    rows = [
        [
            *(curve["model"], curve["start"]),
            *(point[key] for key in ("train_size", "n_seeds", "estimate", "low", "high")),
        ]
        for curve in found["curves"]
        for point in curve["points"]
    ]
    columns = ["network", "start", "training patients", "seeds", task["metric"], "low", "high"]
    hint = f"{folder / 'report.html'} shows it; the runs are in {folder / 'runs'}"
    return Found(facts, [("scores", columns, rows)], hint)


def _progress(folder: Path, recipe: Recipe) -> str:
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    steps = 0
    for line in lines:
        try:
            steps = int(json.loads(line).get("step", steps))
        except (ValueError, AttributeError):  # the line that was being written
            continue
    return f"step {steps} of {recipe.optimization.steps}" if steps else "begun"


def _start(recipe: Recipe) -> str:
    start = recipe.start
    if start.source is None:
        return "scratch"
    how = f"{start.name}: {start.source}" if start.source != start.name else start.source
    parts = f", {start.parts}" if recipe.segmentation is not None else ""
    return f"{how}{parts}, {start.adapt.method}"


def _graft(report: Json | None) -> str | None:
    if report is None:
        return None
    counts = report["parameters"]
    return (
        f"{counts['loaded'] + counts['adapted']:,} of {counts['model']:,} values from "
        f"{report['source']}, {counts['fresh']:,} fresh"
    )


def _cases(recipe: Recipe, result: Json) -> str:
    if result:
        patients, cases = result.get("train_patients"), result.get("train_cases")
        return f"{patients} patients ({cases} cases) of {recipe.table}"
    size = "all" if recipe.train_size is None else str(recipe.train_size)
    return f"{size} training patients of {recipe.table}"


def _seen(recipe: Recipe) -> str:
    if recipe.clips is not None:
        return "clips"
    windows = recipe.seen_windows
    if windows is not None:
        return f"windows of {_by(windows.size_voxels)} voxels, joined by {windows.aggregate}"
    if recipe.crop_size_voxels is not None:
        return f"crops of {_by(recipe.crop_size_voxels)} voxels"
    return "whole volumes"


def _segmentation(recipe: Recipe, card: Card | None) -> Json:
    settings = recipe.segmentation
    if settings is None:
        raise AssertionError("asked of segmentations only")
    spacing = recipe.preprocessing.fixed_spacing_mm
    decoder = settings.decoder if card is None or card.decoder is None else card.decoder
    classes = list(recipe.target.classes) if card is None else list(card.classes)
    return {
        "decoder": decoder,
        "outputs": classes,
        "form": "a sigmoid each, may overlap" if settings.overlapping else "softmax",
        "spacing_mm": "each scan's own" if spacing is None else _by(spacing),
        "overlap of windows": settings.overlap,
        "mirrored along": list(settings.mirror),
        "loss": settings.loss,
    }


def _best(result: Json) -> str | None:
    fit = result.get("fit") or {}
    if fit.get("best_step") is None:
        return None
    said = f"{fit['best_step']} of {fit['steps_done']}"
    value = fit.get("best_value")
    return said if value is None else f"{said} (validation {fit['metric']} {value:.4f})"


def _by(values: Any) -> str:
    return " × ".join(f"{value:g}" for value in values)


def _object(path: Path) -> Json:
    try:
        found = read_json(path)
    except ValueError as error:
        raise VoxgraftError(f"{path} is no JSON ({error}). Run the comparison again.") from error
    wanted = ("task", "data", "curves", "runs", "starts")
    if not isinstance(found, dict) or any(key not in found for key in wanted):
        raise VoxgraftError(f"{path} is not what a comparison writes. Run the comparison again.")
    return found
