"""Begin a run: its recipe in its folder, or the same recipe found there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from voxgraft.errors import RunError
from voxgraft.recipes import Recipe, read_recipe, write_recipe
from voxgraft.runs.folder import RunFolder
from voxgraft.types import Json


def begin_run(folder: Path, recipe: Recipe) -> RunFolder:
    """Write a recipe into a run's folder; a folder that has the same recipe already is resumed.

    A run that ended before its first step, as one whose recipe was refused, leaves its folder to
    a mended recipe.

    Raises:
        RunError: If the folder holds a run of another recipe.
    """
    run = RunFolder(folder)
    if not run.recipe_path.is_file() or run.never_trained:
        write_recipe(recipe, run.recipe_path)
        return run
    before, after = read_recipe(run.recipe_path).to_dict(), recipe.to_dict()
    changed = [
        f"{name} was {old!r}, is now {new!r}"
        for name, old, new in _differences(before, after)
        if name not in ("store", "save_weights")
    ]
    if changed:
        raise RunError(
            f"{folder} holds a run of another recipe: {'; '.join(changed)}. "
            "Choose another folder (--out), or delete that one."
        )
    return run


def _differences(before: Json, after: Json, within: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield each setting that differs, by its path, with both values."""
    for name in {**before, **after}:
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{within}{name}.")
        elif old != new:
            yield f"{within}{name}", old, new
