"""``voxgraft inspect``: what a checkpoint holds."""

from __future__ import annotations

from pathlib import Path

import typer

from voxgraft.cli.output import JSON_OPTION, emit_json, emit_table


def inspect(
    file: Path = typer.Argument(..., metavar="FILE", help="A checkpoint."),
    tensors: bool = typer.Option(False, "--tensors", help="List every tensor."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Say what a checkpoint holds: layout, tensors, likely architecture."""
    from voxgraft.weights import inspect_file

    found = inspect_file(file)
    listed = found.pop("tensors", None)
    if as_json:
        emit_json(found | ({"tensors": listed} if tensors else {}))
        return
    emit_table(["what", "found"], [[key, value] for key, value in found.items()])
    if tensors and listed is not None:
        emit_table(["tensor", "shape"], [[name, list(shape)] for name, shape in listed.items()])
