"""``voxgraft graft``: convert a start into a network, and audit every tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import typer

from voxgraft.cli.output import JSON_OPTION, emit_json, say


def graft(
    source: str = typer.Argument(..., metavar="SOURCE", help="Catalogue id, timm:NAME@FILE, file."),
    model: str = typer.Argument(..., metavar="MODEL", help="A network; `voxgraft models` lists."),
    method: Literal["average", "center", "gaussian", "shift"] = typer.Option(
        "average", help="Inflation along depth."
    ),
    stem: Literal["sum", "mean", "repeat", "first"] = typer.Option(
        "sum", help="How an RGB stem takes the data's channels."
    ),
    norm: Literal["keep", "group"] = typer.Option(
        "keep", help="Keep BatchNorm, or exchange it for group norm."
    ),
    in_channels: int = typer.Option(1, help="Channels of the data."),
    out: Path | None = typer.Option(None, help="Folder for model.safetensors and its card."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Graft SOURCE onto MODEL: verdict per tensor, coverage, parity with the original."""
    from voxgraft.grafting import graft as graft_source
    from voxgraft.grafting import save_graft

    done = graft_source(
        source,
        model,
        method=method,
        stem=stem,
        norm=norm,
        in_channels=in_channels,
    )
    if as_json:
        emit_json(done.report.to_dict())
    else:
        typer.echo(done.report.summary())
    if out is not None:
        save_graft(done, out)
        say(f"saved {out}/model.safetensors with its card")
