"""``voxgraft finetune``: one training."""

from __future__ import annotations

from pathlib import Path

import typer

from voxgraft.cli.output import JSON_OPTION, SET_OPTION, emit_json, emit_table, say


def finetune(
    recipe: Path = typer.Argument(..., metavar="RECIPE", help="A recipe, as YAML."),
    out: Path | None = typer.Option(None, "--out", help="Folder of the run; resumes there."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print recipe and graft; do not train."),
    overrides: list[str] | None = SET_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Train one network as RECIPE says, score it, and save it."""
    from voxgraft.progress import progress_bar
    from voxgraft.recipes import read_yaml, recipe_from_dict, set_path
    from voxgraft.runs import begin_run, execute_run, graft_start, planned_optimizations

    data = read_yaml(recipe)
    for assignment in overrides or ():
        set_path(data, assignment)
    if isinstance(data.get("table"), str):
        data["table"] = str((recipe.parent / data["table"]).resolve())
    chosen = recipe_from_dict(data, str(recipe))
    if dry_run:
        grafted = graft_start(chosen.model, chosen.start)
        report = None if grafted is None else grafted.report
        if as_json:
            audit = None if report is None else report.to_dict()
            emit_json({"recipe": chosen.to_dict(), "graft": audit})
        else:
            emit_table(["setting", "value"], list(chosen.to_dict().items()))
            typer.echo("from scratch: nothing is grafted" if report is None else report.summary())
        return
    folder = out or (recipe.parent if recipe.name == "recipe.yaml" else Path("runs") / recipe.stem)
    begin_run(folder, chosen)
    steps = planned_optimizations([chosen])[0].steps
    with progress_bar(steps, f"training {folder.name}") as bar:
        result = execute_run(folder, on_steps=bar.advance)
    if as_json:
        emit_json(result)
        return
    rows = [
        [split, name, "" if scored["value"] is None else f"{scored['value']:.4f}", scored["reason"]]
        for split, levels in result["metrics"].items()
        for name, scored in levels["case"].items()
    ]
    emit_table(["split", "metric", "value", "reason"], rows)
    say(f"the run is in {folder}")
