"""How verbs speak: data on stdout (plain or JSON), everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from voxgraft.files import plain_json

JSON_OPTION = typer.Option(False, "--json", help="Print JSON on stdout instead of text.")
SET_OPTION = typer.Option(
    None,
    "--set",
    metavar="PATH=VALUE",
    help="Override one setting, for example optimization.steps=200. May be repeated.",
)


def emit_json(value: Any) -> None:
    """Print a value as strict JSON (NaN as null)."""
    typer.echo(json.dumps(plain_json(value), indent=2, ensure_ascii=False, allow_nan=False))


def say(message: str) -> None:
    """Print a line of talk on stderr."""
    typer.echo(message, err=True)


def emit_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table: aligned columns in a terminal, tab-separated values elsewhere."""
    texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in [list(columns), *texts]:
            typer.echo("\t".join(row))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in texts:
        table.add_row(*row)
    Console().print(table, markup=False)


def emit_record(column: str, record: Mapping[str, Any]) -> None:
    """Print nested settings or facts, each by its path (``optimization.steps``), with its value."""
    emit_table([column, "value"], list(_leaves(record, "")))


def _leaves(record: Mapping[str, Any], within: str) -> Iterator[list[str]]:
    for name, value in record.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{within}{name}.")
        else:
            yield [f"{within}{name}", _cell(value)]


def _cell(value: Any) -> str:
    if value is None or value in ((), [], {}, ""):
        return "-"
    if not isinstance(value, list | tuple):
        return str(value)
    parts = [f"({_cell(one)})" if isinstance(one, list | tuple) else str(one) for one in value]
    return ", ".join(parts)
