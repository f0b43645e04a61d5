"""``voxgraft finetune``: one training."""

from __future__ import annotations

from pathlib import Path

import typer

from voxgraft.cli.one_run import folder_for, read_with_overrides, train_one
from voxgraft.cli.output import JSON_OPTION, SET_OPTION


def finetune(
    recipe: Path = typer.Argument(..., metavar="RECIPE", help="A recipe, as YAML."),
    out: Path | None = typer.Option(None, "--out", help="Folder of the run; resumes there."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print recipe and graft; do not train."),
    overrides: list[str] | None = SET_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Train one network as RECIPE says, score it, and save it."""
    chosen = read_with_overrides(recipe, overrides)
    train_one(chosen, folder_for(recipe, out), dry_run=dry_run, as_json=as_json)
