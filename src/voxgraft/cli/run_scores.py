"""A training's scores as rows, with how many cases they are of and what each metric is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxgraft.types import Json

if TYPE_CHECKING:
    from voxgraft.recipes import Recipe

SCORE_COLUMNS = ["split", "cases", "per", "metric", "value", "what", "note"]
STRUCTURE_COLUMNS = ["split", "structure", "cases with a Dice", "mean Dice"]


def score_rows(result: Json, recipe: Recipe) -> list[list[Any]]:
    """Return a row for each split, level and metric of a run's result.

    Results of older runs do not say how many cases were scored; the cell is empty there.
    """
    counted = result.get("scored_cases", {})
    return [
        [
            *(split, counted.get(split), level, name, scored["value"], _what(name, recipe)),
            scored.get("reason") or scored.get("note") or "",
        ]
        for split, levels in result.get("metrics", {}).items()
        for level, metrics in levels.items()
        for name, scored in metrics.items()
    ]


def structure_rows(path: Path) -> list[list[Any]]:
    """Return each structure's cases with a Dice, and their mean, by split."""
    import pandas as pd

    frame = pd.read_csv(path)
    return [
        [split, name, int(own["dice"].count()), float(own["dice"].mean())]
        for (split, name), own in frame.groupby(["split", "class"], sort=False)
    ]


def rounded(rows: list[list[Any]]) -> list[list[Any]]:
    """Return rows for the eye: four decimals, nothing where a number is missing."""
    return [[_shown(cell) for cell in row] for row in rows]


def _shown(cell: Any) -> Any:
    if not isinstance(cell, float):
        return cell
    return f"{cell:.4f}" if cell == cell else ""  # NaN is not itself


def _what(name: str, recipe: Recipe) -> str:
    """Say what a metric is, with its unit."""
    from voxgraft.metrics import METRICS

    metric = METRICS.get(name)
    if metric is None:
        return ""
    if name == "surface_dice" and recipe.segmentation is not None:
        return f"{metric.label} within {recipe.segmentation.surface_tolerance_mm:g} mm"
    if name == "volume_error":
        return f"{metric.label} (1 is 100%)"
    unit = recipe.target.unit if metric.unit == "target" else metric.unit
    return f"{metric.label}, {unit}" if unit else metric.label
