"""``voxgraft pretrain``: make a start, from labelled videos, another table, or scans with masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from voxgraft.cli.lists import listed
from voxgraft.cli.one_run import folder_for, read_with_overrides, train_one
from voxgraft.cli.output import JSON_OPTION, SET_OPTION, say
from voxgraft.errors import UsageError


def pretrain(
    recipe: Path | None = typer.Argument(None, metavar="[RECIPE]", help="A recipe, as YAML."),
    videos: Path | None = typer.Option(
        None, help="Without a recipe: a folder of labelled videos (Kinetics layout), or its table."
    ),
    table: Path | None = typer.Option(
        None,
        help="Without a recipe: another table of cases (several data sets: `voxgraft data join`).",
    ),
    target: list[str] | None = typer.Option(None, "--target", help="Target column(s)."),
    segmentation: bool = typer.Option(
        False, "--segmentation", help="Train on the table's masks, with the settings of SuPreM."
    ),
    classes: str | None = typer.Option(
        None,
        "--classes",
        help="With --segmentation: structures, with commas between them; default: all there are.",
    ),
    model: str | None = typer.Option(None, help="Without a recipe: the network."),
    start: str | None = typer.Option(
        None, help="Without a recipe: a source to go on from; by default from scratch."
    ),
    out: Path | None = typer.Option(None, "--out", help="Folder of the run; resumes there."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print recipe and graft; do not train."),
    overrides: list[str] | None = SET_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Train a network whose run is a start: for `graft`, `finetune` and `compare` alike."""
    from voxgraft.recipes import (
        recipe_from_dict,
        segmentation_recipe,
        set_path,
        table_recipe,
        video_recipe,
    )

    if classes and not segmentation:
        raise UsageError("--classes names structures to segment; it needs --segmentation.")
    if recipe is not None:
        if videos or table or target or model or start or segmentation:
            raise UsageError(
                "give either a recipe or --videos or --table with --model; with a recipe, change "
                "single settings with --set PATH=VALUE."
            )
        chosen = read_with_overrides(recipe, overrides)
        folder = folder_for(recipe, out)
    else:
        if model is None or out is None or (videos is None) == (table is None):
            raise UsageError(
                "give a recipe; or --videos FOLDER or --table TABLE (scans with masks: "
                "--segmentation too), with --model NAME and --out FOLDER. docs/video.md and "
                "docs/segmentation.md show them."
            )
        folder = out
        data: dict[str, Any]
        if segmentation:
            if table is None or target:
                raise UsageError(
                    "--segmentation needs --table, a table with masks, and no --target: name "
                    "structures with --classes, or leave it out for all."
                )
            data = segmentation_recipe(str(table.resolve()), model, classes=listed(classes))
        elif videos is not None:
            cases = _video_table(videos, out)
            data = video_recipe(str(cases.resolve()), model, target=(target or ["label"])[0])
        else:
            if table is None or not target:
                raise UsageError(
                    "--table needs --target, the column(s) to train for, or --segmentation."
                )
            data = table_recipe(str(table.resolve()), model, target=target)
        if start is not None:
            data["start"] = start
        for assignment in overrides or ():
            set_path(data, assignment)
        chosen = recipe_from_dict(data, "the command line")
    train_one(chosen, folder, dry_run=dry_run, as_json=as_json)


def _video_table(videos: Path, out: Path) -> Path:
    """Return the table of a folder of videos; it is made once, in the run's folder."""
    from voxgraft.datasets import import_videos, split_table, write_table
    from voxgraft.recipes.pretraining import class_target

    if videos.is_file():
        return videos
    path = out / "videos.csv"
    if path.is_file():
        return path
    made = import_videos(videos, out / "videos_imported.csv")
    say(f"{len(made.frame)} videos of {len(made.patients)} sources")
    if "split" not in made.frame:
        target = class_target(made.frame, "label")
        made = split_table(made, fractions=(0.9, 0.1, 0.0), seed=0, target=target)
    write_table(made, path)  # the last thing: a table that is there is whole
    return path
