"""``voxgraft inspect``: what a checkpoint holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from voxgraft.cli.output import JSON_OPTION, emit_json, emit_table, say


def inspect(
    file: Path = typer.Argument(..., metavar="FILE", help="A checkpoint."),
    tensors: bool = typer.Option(False, "--tensors", help="List every tensor."),
    key: str | None = typer.Option(None, help="Key of the network in the file, if several."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Say what a checkpoint holds: layout, tensors, likely architecture."""
    from voxgraft.grafting import inspect_file

    found = inspect_file(file, key=key)
    if as_json:
        emit_json(found if tensors else {k: v for k, v in found.items() if k != "entries"})
        return
    entries = found.pop("entries")
    likely = found.pop("likely")
    found["tensors"] = len(entries)
    emit_table(["what", "found"], [[key, _words(value)] for key, value in found.items()])
    if likely:
        counted = ("missing", "misshapen", "adapted", "extra")
        columns = ["likely architecture", "coverage", "exact", *counted, "names", "networks"]
        rows = [
            [item["architecture"], f"{item['coverage']:.1%}", "yes" if item["exact"] else "no"]
            + [len(item[name]) for name in counted]
            + [_names(item), ", ".join(item["models"])]
            for item in likely
        ]
        emit_table(columns, rows)
        sources = ", ".join(likely[0]["sources"][:6]) or "none in the catalogue"
        say(f"sources of {likely[0]['architecture']}: {sources}")
    else:
        say("no architecture of the catalogue has these tensors")
    if tensors:
        emit_table(
            ["tensor", "shape", "dtype"],
            [[entry["name"], entry["shape"], entry["dtype"]] for entry in entries],
        )


def _names(item: dict[str, Any]) -> str:
    if item["by"] == "shapes":
        return "unknown: by shapes alone"
    return f"{item['prefix']}* ({item['layout']})"


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_words(item)}" for key, item in value.items()) or "-"
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
