"""``voxgraft plan``: what a segmentation is to be trained with, and why."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from voxgraft.cli.lists import listed
from voxgraft.cli.output import JSON_OPTION, emit_json, emit_table, say
from voxgraft.errors import UsageError

if TYPE_CHECKING:
    from voxgraft.planning import DataFingerprint, SegmentationPlan


def plan(
    table: Path = typer.Argument(..., metavar="TABLE", help="Scans with masks."),
    model: str | None = typer.Option(
        None, help="A network; `voxgraft models` lists. Default: the one that --source belongs in."
    ),
    source: str | None = typer.Option(
        None, help="A start: catalogue id, file, run folder. Default: from scratch."
    ),
    classes: str | None = typer.Option(
        None, help="Structures, with commas between them; default: all of the table."
    ),
    memory_gib: float | None = typer.Option(
        None, help="Memory of the training's device, if it is another machine (24: its GPU's)."
    ),
    device: Literal["cuda", "cpu"] | None = typer.Option(
        None, help="Default: this machine's GPU, if any; with --memory-gib, a GPU."
    ),
    out: Path | None = typer.Option(
        None, "--out", help="Where the recipe goes (`voxgraft finetune` runs it)."
    ),
    fingerprint: Path | None = typer.Option(
        None, help="Where the data's fingerprint goes, as JSON."
    ),
    jobs: int = typer.Option(2, min=1, help="Scans read side by side."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Decide spacing, window, crops, batch and schedule of a segmentation from its training data.

    Measures the training cases of TABLE (once; it is remembered), asks the start what its weights
    expect, and finds the largest crops that fit the memory. Says what it decided, and why: lines
    with a ! are those where data and start disagree.
    """
    from voxgraft.datasets import SPLITS, read_table
    from voxgraft.planning import check_split, plan_segmentation, table_from
    from voxgraft.progress import progress_bar
    from voxgraft.recipes import write_recipe

    cases = read_table(table)
    for option, path in (("--out", out), ("--fingerprint", fingerprint)):
        if path is not None and path.is_dir():
            raise UsageError(f"{option} {path} is a folder; expected the name of a file.")
    if out is not None:
        check_split(cases)
    measured = cases.split(SPLITS[0]) if SPLITS[0] in cases.splits else cases
    with progress_bar(len(measured) + 1, "planning") as bar:  # each scan, then the crops
        found = plan_segmentation(
            cases,
            listed(classes),
            model=model,
            source=source,
            memory_gib=memory_gib,
            device=device,
            jobs=jobs,
            on_progress=lambda: bar.advance(1, "scans"),
            on_measure=lambda step: bar.advance(0, step),
        )
        bar.advance(1, "crops chosen")
    if fingerprint is not None:
        _write_fingerprint(found, fingerprint)
    if as_json:
        recipe = found.to_recipe(str(table if out is None else table_from(table, out)))
        emit_json({**found.to_dict(), "recipe": recipe.to_dict()})
    else:
        _print(found)
    if out is not None:
        write_recipe(found.to_recipe(table_from(table, out)), out)
        say(f"wrote {out}: read it, then `voxgraft finetune {out}`")


def _write_fingerprint(found: SegmentationPlan, path: Path) -> None:
    from voxgraft.files import write_json

    write_json(path, found.fingerprint.to_dict())
    say(f"wrote {path}")


def _print(found: SegmentationPlan) -> None:
    from voxgraft.planning.decision import times

    data = found.fingerprint
    emit_table(["data (depth × height × width)", "found"], _facts(data))
    typer.echo("")
    emit_table(
        ["structure", "cases", "has it", "volume ml", "extent mm", "thickness mm", "voxels across"],
        [
            [
                name,
                structure.annotated,
                structure.present,
                *(
                    [
                        f"{structure.volume_ml:.3g}",
                        times(structure.extent_mm),
                        times(structure.chord_mm),
                        f"{structure.across(found.spacing_mm):.1f}",
                    ]
                    if structure.present
                    else [""] * 4
                ),
            ]
            for name, structure in data.structures.items()
        ],
    )
    typer.echo("")
    emit_table(
        ["", "decision", "value", "why", "data", "start"],
        [
            [mark, one.what, one.value, one.why, one.from_data, one.from_start]
            for mark, one in (("!" if each.differs else "", each) for each in found.decisions)
        ],
    )


def _facts(data: DataFingerprint) -> list[list[Any]]:
    from voxgraft.planning.decision import times

    def spread(name: str) -> str:
        found = getattr(data, name)
        if found.smallest == found.largest:
            return times(found.median)
        return f"{times(found.median)} (from {times(found.smallest)} to {times(found.largest)})"

    rows: list[list[Any]] = [
        ["cases", f"{data.cases} of {data.patients} patients"],
        ["spacing mm", spread("spacing_mm")],
        ["shape voxels", spread("shape_voxels")],
        ["field of view mm", spread("field_of_view_mm")],
        ["anisotropy", f"{data.anisotropy:.2g}"],
        ["channels", data.channels],
        ["modality", f"{data.modality.kind} ({data.modality.sure}): {data.modality.why}"],
    ]
    for number, values in enumerate(data.values):
        rows.append(
            [
                f"values within structures, channel {number}",
                f"{values.percentile(0.5):.4g} to {values.percentile(99.5):.4g} (0.5 and 99.5 "
                f"percentiles), mean {values.mean:.4g}, sd {values.sd:.4g}",
            ]
        )
    return rows
