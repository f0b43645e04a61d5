"""``voxgraft evaluate``: numbers on labelled cases."""

from __future__ import annotations

from pathlib import Path

import typer

from voxgraft.cli.output import JSON_OPTION, emit_json, emit_table, say


def evaluate(
    run: Path = typer.Argument(..., metavar="RUN", help="The folder of a finished run."),
    table: Path = typer.Argument(..., metavar="TABLE", help="Labelled cases."),
    split: str | None = typer.Option(None, help="Only the cases of this split; all by default."),
    out: Path | None = typer.Option(
        None, "--out", help="Folder for metrics.csv and predictions.csv."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Score RUN on the cases of TABLE: all of them, and by site where the table has sites."""
    from voxgraft.datasets import read_table
    from voxgraft.files import atomic_path
    from voxgraft.inference import evaluate as evaluate_run
    from voxgraft.inference import load_trained
    from voxgraft.progress import progress_bar

    trained = load_trained(run)
    cases = read_table(table)
    if split is not None:
        cases = cases.split(split)
    with progress_bar(len(cases.frame), "evaluating") as bar:
        result = evaluate_run(trained, cases, on_case=lambda case: bar.advance(1, case))
    if out is not None:
        for name, frame in [("metrics", result.metrics), ("predictions", result.predictions)]:
            with atomic_path(out / f"{name}.csv") as temporary:
                frame.to_csv(temporary, index=False)
        say(f"wrote {out}/metrics.csv and predictions.csv")
    records = result.metrics.to_dict(orient="records")
    if as_json:
        emit_json({"run": str(run), "table": str(table), "metrics": records})
        return
    rows = [
        [f"{value:.4f}" if isinstance(value, float) else value for value in record.values()]
        for record in records
    ]
    emit_table([str(name) for name in result.metrics.columns], rows)
