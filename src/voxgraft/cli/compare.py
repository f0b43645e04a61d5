"""``voxgraft compare``: the main job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from voxgraft.cli.compare_studies import STUDIES, StudyFlags, read_sizes, study_plan
from voxgraft.cli.lists import listed
from voxgraft.cli.output import JSON_OPTION, SET_OPTION, emit_json, emit_table, say
from voxgraft.errors import UsageError


def compare(
    plan: Path | None = typer.Argument(
        None, metavar="[PLAN]", help="A plan, as YAML; or a study: `ke2023`, `suprem`."
    ),
    out: Path | None = typer.Option(None, "--out", help="Folder of the comparison; resumes there."),
    table: Path | None = typer.Option(None, help="Without a plan: the table of cases."),
    target: list[str] | None = typer.Option(
        None, "--target", help="Without a plan: target column(s)."
    ),
    model: list[str] | None = typer.Option(
        None,
        "--model",
        help="Without a plan: network(s) for all starts; by default each source's own.",
    ),
    start: list[str] | None = typer.Option(
        None, "--start", help="Without a plan: `scratch` or a source; may be repeated."
    ),
    sizes: str | None = typer.Option(
        None, help="Without a plan: training patients, as 50,100,all."
    ),
    seeds: int | None = typer.Option(None, help="Without a plan: how many seeds."),
    dataset: str | None = typer.Option(
        None, help="With `ke2023`: RSNA or LIDC; with `suprem`: the public set of the scans."
    ),
    group: str | None = typer.Option(
        None, help="With `suprem`: organs, vertebrae, cardiac, muscles or ribs."
    ),
    classes: str | None = typer.Option(
        None, help="With `suprem`, in place of a group: structures, with commas between them."
    ),
    pretraining_table: Path | None = typer.Option(
        None, help="With a study: a table of other labelled CT to pre-train on."
    ),
    pretraining_target: str | None = typer.Option(
        None, help="With `ke2023`: its target; by default the same."
    ),
    pretraining_classes: str | None = typer.Option(
        None, help="With `suprem`: structures of it, with commas between them; by default all."
    ),
    pretraining_sizes: str | None = typer.Option(
        None, help="With `suprem`: patients to pre-train on, as 21,256,all; a start each."
    ),
    small: bool = typer.Option(
        False, "--small", help="With a study: a tiny version, to see that everything runs."
    ),
    leave_out_missing: bool = typer.Option(
        False, "--leave-out-missing", help="Go on without starts whose files cannot be had."
    ),
    save_plan: Path | None = typer.Option(None, help="Write the whole plan there, as YAML; stop."),
    jobs: int = typer.Option(1, min=1, help="Runs side by side."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Print the matrix and its cost; stop."),
    overrides: list[str] | None = SET_OPTION,
    as_json: bool = JSON_OPTION,
) -> None:
    """Compare starts on labelled scans: train all, test all on the same patients, report."""
    from voxgraft.comparison import (
        estimate_comparison,
        plan_from_dict,
        read_plan,
        run_comparison,
        without_missing,
    )
    from voxgraft.recipes import set_path, write_yaml

    flags = StudyFlags(
        table=table,
        target=target,
        model=model,
        start=start,
        sizes=None if sizes is None else read_sizes(sizes, "--sizes"),
        dataset=dataset,
        group=group,
        classes=listed(classes),
        pretraining_table=pretraining_table,
        pretraining_target=pretraining_target,
        pretraining_classes=listed(pretraining_classes),
        pretraining_sizes=None
        if pretraining_sizes is None
        else read_sizes(pretraining_sizes, "--pretraining-sizes"),
        small=small,
    )
    if plan is not None and str(plan) in STUDIES and not plan.exists():
        data = study_plan(str(plan), flags)
        if seeds is not None:
            data["seeds"] = seeds
        for assignment in overrides or ():
            set_path(data, assignment)
        chosen = plan_from_dict(data, str(plan))
        command = " ".join(["voxgraft", *sys.argv[1:]])
    elif flags.of_studies():
        raise UsageError(
            f"{', '.join(flags.of_studies())}: for the studies ({', '.join(STUDIES)}); a plan has "
            "these settings itself."
        )
    elif plan is not None:
        if table or target or model or start or sizes or seeds:
            raise UsageError(
                "give either a plan or --table, --target, --model, --start, --sizes, --seeds; "
                "with a plan, change single settings with --set PATH=VALUE."
            )
        chosen = read_plan(plan, tuple(overrides or ()))
        command = f"voxgraft compare {plan}" + "".join(f" --set {item}" for item in overrides or ())
    else:
        data = _plan_from_flags(table, target, model, start, sizes, seeds)
        for assignment in overrides or ():
            set_path(data, assignment)
        chosen = plan_from_dict(data, "the command line")
        command = "voxgraft compare plan.yaml"
    if leave_out_missing:
        chosen, told = without_missing(chosen)
        for line in told:
            say(line)
    if save_plan is not None:
        write_yaml(save_plan, chosen.to_dict())
        say(f"plan: {save_plan}; start it with `voxgraft compare {save_plan}`")
        return
    folder = out or Path("comparisons") / (plan or table or Path("comparison")).stem
    if dry_run:
        estimate = estimate_comparison(chosen, jobs=jobs)
        if as_json:
            emit_json(estimate)
        else:
            emit_table(list(estimate["rows"][0]), [list(row.values()) for row in estimate["rows"]])
            for row in estimate["overlap"]:
                say(f"{'OVERLAP' if row['flag'] else 'overlap'}  {row['text']}")
            for line in estimate["input"]:
                say(f"input    {line}")
            say(estimate["text"])
        return
    comparison = run_comparison(chosen, folder, jobs=jobs, command=command)
    show_comparison(comparison, folder, as_json)


def show_comparison(comparison: dict[str, Any], folder: Path, as_json: bool) -> None:
    """Print the sentence and the table of a finished comparison, and where the page is."""
    from voxgraft.reports import plain_text_summary, write_report

    page = write_report(folder)
    if as_json:
        emit_json(comparison)
    else:
        typer.echo(plain_text_summary(comparison))
    say(f"report: {page}")


def _plan_from_flags(
    table: Path | None,
    target: list[str] | None,
    model: list[str] | None,
    start: list[str] | None,
    sizes: str | None,
    seeds: int | None,
) -> dict[str, Any]:
    missing = [
        flag
        for flag, value in [("--table", table), ("--target", target), ("--start", start)]
        if not value
    ]
    if table is None or missing:
        raise UsageError(
            f"give a plan, or {', '.join(missing)} (and --model, --sizes, --seeds as wished). "
            "docs/compare.md shows both."
        )
    data: dict[str, Any] = {
        "table": str(table.resolve()),
        "target": target,
        "models": model,
        "starts": start,
    }
    if not model:
        data |= _own_networks(start or [])
    if sizes is not None:
        data["sizes"] = read_sizes(sizes, "--sizes")
    if seeds is not None:
        data["seeds"] = seeds
    return data


def _own_networks(starts: list[str]) -> dict[str, Any]:
    """Give each source the network that its weights are of, and scratch all of these."""
    from voxgraft.grafting import find_source, network_of

    own = {text: network_of(find_source(text)) for text in starts if text != "scratch"}
    models = list(dict.fromkeys(own.values())) or ["efficientnet_lite0_3d"]
    if len(models) == 1:
        return {"models": models}
    say(f"networks: {', '.join(f'{name} for {text}' for text, name in own.items())}")
    named = [
        {"name": _folder_name(text), "source": text, "model": own[text]} if text in own else text
        for text in starts
    ]
    return {"models": models, "starts": named}


def _folder_name(text: str) -> str:
    return Path(text).name if "/" in text or "\\" in text else text
