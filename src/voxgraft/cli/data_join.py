"""``voxgraft data join``: tables of several data sets become one."""

from __future__ import annotations

from pathlib import Path

import typer

from voxgraft.cli.output import JSON_OPTION, emit_json, emit_table, say


def join(
    tables: list[Path] = typer.Argument(..., metavar="TABLE...", help="Two tables or more."),
    out: Path = typer.Option(..., "--out", help="The table to write."),
    name: list[str] | None = typer.Option(
        None, "--name", help="What a data set is called, once a table, in their order."
    ),
    same_patients: bool = typer.Option(
        False, "--same-patients", help="Equal patient ids of two tables are the same patient."
    ),
    as_json: bool = JSON_OPTION,
) -> None:
    """Join the tables of several, also partially labelled, data sets."""
    from voxgraft.datasets import join_tables, read_table, structure_names

    joined = join_tables(
        [read_table(table) for table in tables],
        out,
        names=name,
        same_patients=same_patients,
        on_notice=say,
    )
    rows = []
    for data_set in dict.fromkeys(joined.frame["dataset"]):
        part = joined.where(joined.frame["dataset"] == data_set)
        structures = structure_names(part) if "masks" in part.frame else ()
        rows.append([data_set, len(part), len(part.patients), " ".join(structures)])
    columns = ["dataset", "cases", "patients", "structures"]
    if as_json:
        sets = [dict(zip(columns, row, strict=True)) for row in rows]
        emit_json({"table": str(out), "cases": len(joined), "datasets": sets})
    else:
        emit_table(columns, rows)
        say(f"wrote {out}: {len(joined)} cases of {len(joined.patients)} patients")
