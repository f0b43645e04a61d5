"""``voxgraft report``: the page of a comparison, again, from disk."""

from __future__ import annotations

from pathlib import Path

import typer

from voxgraft.cli.output import JSON_OPTION, emit_json


def report(
    folder: Path = typer.Argument(..., metavar="DIR", help="The folder of a comparison."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Write the report page, its figures and its tables again."""
    from voxgraft.reports import write_report

    page = write_report(folder)
    if as_json:
        emit_json({"report": str(page)})
    else:
        typer.echo(page)
