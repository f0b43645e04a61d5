"""``voxgraft inspect``: what a checkpoint holds, or a training, a comparison, a scan, a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from voxgraft.cli.inspect_run import Found
from voxgraft.cli.output import JSON_OPTION, emit_json, emit_table, say
from voxgraft.errors import UsageError


def inspect(
    path: Path = typer.Argument(
        ...,
        metavar="PATH",
        help="A checkpoint; the folder of a training or a comparison; a scan or table.",
    ),
    tensors: bool = typer.Option(False, "--tensors", help="List every tensor."),
    key: str | None = typer.Option(None, help="Key of the network in the file, if several."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Say what a checkpoint holds: layout, tensors, likely architecture; or what else a path is."""
    from voxgraft.cli.inspect_path import checkpoint_in, inspect_path
    from voxgraft.grafting import inspect_file

    other = inspect_path(path)
    if other is not None:
        if tensors or key is not None:
            raise UsageError(
                f"--tensors and --key are for checkpoints, and {path} is "
                f"{other.facts['kind']}. Give the file of its weights."
            )
        _tell(other, as_json=as_json)
        return
    found = inspect_file(checkpoint_in(path) or path, key=key)
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


def _tell(found: Found, *, as_json: bool) -> None:
    if as_json:
        emit_json(found.to_dict())
        return
    emit_table(["what", "found"], [[key, _words(value)] for key, value in found.facts.items()])
    for _, columns, rows in found.tables:
        say("")
        shown = [[f"{x:.4f}" if isinstance(x, float) else x for x in row] for row in rows]
        emit_table(columns, shown)
    if found.hint:
        say(found.hint)


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
