"""Begin a run: its recipe in its folder, or the same recipe found there."""

from __future__ import annotations

from pathlib import Path

from voxgraft.errors import RunError
from voxgraft.recipes import Recipe, read_recipe, write_recipe
from voxgraft.runs.folder import RunFolder


def begin_run(folder: Path, recipe: Recipe) -> RunFolder:
    """Write a recipe into a run's folder; a folder that has the same recipe already is resumed.

    Raises:
        RunError: If the folder holds a run of another recipe.
    """
    run = RunFolder(folder)
    if not run.recipe_path.is_file():
        write_recipe(recipe, run.recipe_path)
        return run
    before, after = read_recipe(run.recipe_path).to_dict(), recipe.to_dict()
    changed = [
        f"{name} was {before[name]!r}, is now {after[name]!r}"
        for name in after
        if before[name] != after[name] and name not in ("store", "save_weights")
    ]
    if changed:
        raise RunError(
            f"{folder} holds a run of another recipe: {'; '.join(changed)}. "
            "Choose another folder (--out), or delete that one."
        )
    return run
