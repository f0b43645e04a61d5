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
    key: str | None = typer.Option(None, help="Key of the network in the file, if several."),
    propose: bool = typer.Option(
        False, "--propose", help="Write rules for an unknown file (to --rules, else stdout); stop."
    ),
    rules: Path | None = typer.Option(
        None, help="YAML file of rules, as --propose writes it; says method and stem, too."
    ),
    statistics: bool = typer.Option(
        False, "--statistics", help="Also hold running statistics against natural-like input."
    ),
    out: Path | None = typer.Option(None, help="Folder for model.safetensors and its card."),
    as_json: bool = JSON_OPTION,
) -> None:
    """Graft SOURCE onto MODEL: verdict per tensor, coverage, parity with the original."""
    if propose:
        _propose(source, model, key, rules)
        return
    from voxgraft.grafting import check_statistics, graft_by_rules, save_graft
    from voxgraft.grafting import graft as graft_source

    if rules is not None:
        done = graft_by_rules(source, model, rules, norm=norm, in_channels=in_channels)
    else:
        done = graft_source(
            source,
            model,
            method=method,
            stem=stem,
            norm=norm,
            in_channels=in_channels,
            key=key,
        )
    if statistics:
        say(check_statistics(done).sentence())
    if as_json:
        emit_json(done.report.to_dict())
    else:
        typer.echo(done.report.summary())
    if out is not None:
        save_graft(done, out)
        say(f"saved {out}/model.safetensors with its card")


def _propose(file: str, model: str, key: str | None, rules: Path | None) -> None:
    from voxgraft.files import write_text
    from voxgraft.grafting import propose

    proposal = propose(file, model, key=key)
    if rules is None:
        typer.echo(proposal.text(), nl=False)
    else:
        write_text(rules, proposal.text())
        say(f"wrote {rules}: read it, then `voxgraft graft {file} {model} --rules {rules}`")
    left = len(proposal.unexplained_source), len(proposal.unexplained_model)
    if any(left):
        say(f"unexplained: {left[0]} tensors of the file, {left[1]} of {model}")
        raise typer.Exit(1)
