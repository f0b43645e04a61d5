"""One training from the command line: what ``finetune`` and ``pretrain`` have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from voxgraft.cli.output import emit_json, emit_record, emit_table, say
from voxgraft.cli.run_scores import (
    SCORE_COLUMNS,
    STRUCTURE_COLUMNS,
    rounded,
    score_rows,
    structure_rows,
)
from voxgraft.errors import UsageError

if TYPE_CHECKING:
    from voxgraft.recipes import Recipe


def read_with_overrides(path: Path, overrides: list[str] | None) -> Recipe:
    """Read a recipe with ``--set`` values; its table is relative to its folder."""
    from voxgraft.recipes import read_yaml, recipe_from_dict, set_path

    data = read_yaml(path)
    for assignment in overrides or ():
        set_path(data, assignment)
    if isinstance(data.get("table"), str):
        data["table"] = str((path.parent / data["table"]).resolve())
    return recipe_from_dict(data, str(path))


def folder_for(recipe: Path, out: Path | None) -> Path:
    """Return a training's folder: that of ``--out``, of the run whose recipe it is, or a new one.

    The ``recipe.yaml`` of a run that has begun resumes it. Any other recipe, such as one that
    ``voxgraft plan`` wrote, gets ``runs/NAME``.
    """
    from voxgraft.runs import RunFolder

    if out is not None:
        return out
    if recipe.name == "recipe.yaml" and RunFolder(recipe.parent).begun:
        return recipe.parent
    return Path("runs") / recipe.stem


def train_one(chosen: Recipe, folder: Path, *, dry_run: bool, as_json: bool) -> None:
    """Train what a recipe describes, or with ``dry_run`` print it and its graft."""
    from voxgraft.progress import progress_bar
    from voxgraft.runs import (
        SCORES_FILE,
        begin_run,
        build_segmenter,
        execute_run,
        graft_start,
        planned_optimizations,
    )

    if dry_run:
        channels = 1 if chosen.clips is None else 3
        report = None
        if chosen.segmentation is not None:
            _, whole = build_segmenter(chosen, chosen.build_task().outputs, in_channels=channels)
            report = None if whole is None else whole.report
        else:
            grafted = graft_start(chosen.model, chosen.start, in_channels=channels)
            report = None if grafted is None else grafted.report
        if as_json:
            audit = None if report is None else report.to_dict()
            emit_json({"recipe": chosen.to_dict(), "graft": audit})
        else:
            emit_record("setting", chosen.to_dict())
            typer.echo("from scratch: nothing is grafted" if report is None else report.summary())
        return
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {folder} is a file; expected a folder, or a new name.")
    steps = planned_optimizations([chosen])[0].steps  # refused here, a recipe takes no folder
    begin_run(folder, chosen)
    with progress_bar(steps, f"training {folder.name}") as bar:
        result = execute_run(
            folder, on_steps=bar.advance, on_stage=lambda stage: bar.advance(0, stage)
        )
    if as_json:
        emit_json(result)
        return
    emit_table(SCORE_COLUMNS, rounded(score_rows(result, chosen)))
    if (folder / SCORES_FILE).is_file():
        typer.echo("")
        emit_table(STRUCTURE_COLUMNS, rounded(structure_rows(folder / SCORES_FILE)))
    for notice in result.get("notices", ()):
        say(notice)
    say(f"the run is in {folder}")
