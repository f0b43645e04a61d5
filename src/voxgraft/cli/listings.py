"""``voxgraft sources`` and ``voxgraft models``: the catalogues, and one entry whole."""

from __future__ import annotations

import dataclasses
from typing import Any

import typer

from voxgraft.cli.output import JSON_OPTION, emit_json, emit_table


def sources(
    source_id: str | None = typer.Argument(None, metavar="[ID]", help="One source, whole."),
    markdown: bool = typer.Option(False, "--markdown", help="The page docs/sources.md."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List the starts in the catalogue, or show one."""
    from voxgraft.weights import SOURCES

    if markdown:
        from voxgraft.weights.table import sources_page

        typer.echo(sources_page(), nl=False)
        return
    if source_id is not None:
        _show(dataclasses.asdict(SOURCES.get(source_id)), as_json)
        return
    if as_json:
        emit_json([dataclasses.asdict(source) for source in SOURCES])
        return
    columns = ["id", "architecture", "layout", "trained on", "licence", "verified"]
    rows = [
        [
            source.id,
            source.architecture,
            source.layout,
            ", ".join(source.trained_on),
            source.licence,
            "yes" if source.verified else "no",
        ]
        for source in SOURCES
    ]
    emit_table(columns, rows)


def models(
    name: str | None = typer.Argument(None, metavar="[NAME]", help="One network, whole."),
    markdown: bool = typer.Option(False, "--markdown", help="The tables of docs/models.md."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List the networks, or show one."""
    from voxgraft.models import MODELS, build_encoder, models_table

    if markdown:
        typer.echo(models_table())
        return
    if name is not None:
        entry = MODELS.get(name)
        encoder = build_encoder(name)
        parameters = sum(parameter.numel() for parameter in encoder.parameters())
        details: dict[str, Any] = {"name": entry.name, "description": entry.description}
        details |= {"parameters": parameters, **dataclasses.asdict(encoder.declaration)}
        _show(details, as_json)
        return
    if as_json:
        emit_json(
            [
                {"name": entry.name, "family": entry.family, "description": entry.description}
                | {"twin_of": entry.twin_of}
                for entry in MODELS
            ]
        )
        return
    columns = ["name", "family", "twin of (timm)", "description"]
    emit_table(columns, [[e.name, e.family, e.twin_of or "-", e.description] for e in MODELS])


def _show(details: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit_json(details)
    else:
        emit_table(["field", "value"], list(details.items()))
