"""``voxgraft inspect``: what a checkpoint holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from voxgraft.cli.output import JSON_OPTION, emit_json, emit_table, say


def inspect(
    file: Path = typer.Argument(..., metavar="FILE", help="A checkpoint."),
    tensors: bool = typer.Option(False, "--tensors", help="List every tensor."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Say what a checkpoint holds: layout, tensors, likely architecture."""
    from voxgraft.weights import inspect_file

    found = inspect_file(file)
    if as_json:
        emit_json(found if tensors else {k: v for k, v in found.items() if k != "entries"})
        return
    entries = found.pop("entries")
    likely = found.pop("likely")
    found["tensors"] = len(entries)
    emit_table(["what", "found"], [[key, _words(value)] for key, value in found.items()])
    if likely:
        columns = ["likely architecture", "coverage", "exact", "missing", "misshapen", "extra"]
        rows = [
            [item["architecture"], f"{item['coverage']:.1%}", "yes" if item["exact"] else "no"]
            + [len(item[name]) for name in ("missing", "misshapen", "extra")]
            for item in likely
        ]
        emit_table(columns, rows)
    else:
        say("no architecture of the catalogue has these tensors")
    if tensors:
        emit_table(
            ["tensor", "shape", "dtype"],
            [[entry["name"], entry["shape"], entry["dtype"]] for entry in entries],
        )


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {item}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
