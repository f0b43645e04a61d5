"""``voxgraft sources`` and ``voxgraft models``: the catalogues, and one entry whole."""

from __future__ import annotations

import dataclasses
from typing import Any

import typer

from voxgraft.cli.output import JSON_OPTION, emit_json, emit_record, emit_table, say
from voxgraft.errors import UsageError


def sources(
    arguments: list[str] | None = typer.Argument(
        None, metavar="[ID | WORD | verify ID...]", help="One source, whole; or sources to verify."
    ),
    markdown: bool = typer.Option(False, "--markdown", help="The page docs/sources.md."),
    every: bool = typer.Option(False, "--all", help="With verify: every source."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List the starts in the catalogue (all, or those with a word in their id), or show one.

    Verify fetches, grafts and records them.
    """
    from voxgraft.weights import SOURCES
    from voxgraft.weights.verification import verifications

    if arguments and arguments[0] == "verify":
        verify(arguments[1:], every=every, as_json=as_json)
        return
    if every or len(arguments or ()) > 1:
        raise UsageError("give one ID; several, or --all, go with `voxgraft sources verify`.")
    source_id = arguments[0] if arguments else None
    if markdown:
        from voxgraft.weights.table import sources_page

        typer.echo(sources_page(), nl=False)
        return
    listed = list(SOURCES)
    if source_id is not None and source_id not in SOURCES:
        listed = [one for one in SOURCES if source_id.lower() in one.id.lower()]
    if source_id is not None and (source_id in SOURCES or not listed):
        _show(dataclasses.asdict(SOURCES.get(source_id)), as_json)
        return
    if as_json:
        emit_json([dataclasses.asdict(source) for source in listed])
        return
    here = verifications()
    columns = ["id", "architecture", "layout", "trained on", "licence", "verified"]
    rows = [
        [
            source.id,
            source.architecture,
            source.layout,
            ", ".join(source.trained_on),
            source.licence,
            "yes" if source.verified else ("here" if source.id in here else "no"),
        ]
        for source in listed
    ]
    emit_table(columns, rows)


def models(
    name: str | None = typer.Argument(None, metavar="[NAME | WORD]", help="One network, whole."),
    markdown: bool = typer.Option(False, "--markdown", help="The tables of docs/models.md."),
    as_json: bool = JSON_OPTION,
) -> None:
    """List networks (all, or those with a word in their name), or show one."""
    from voxgraft.models import MODELS, build_encoder, models_table

    if markdown:
        typer.echo(models_table())
        return
    listed = list(MODELS)
    if name is not None and name not in MODELS:
        listed = [one for one in MODELS if name.lower() in one.name.lower()]
    if name is not None and (name in MODELS or not listed):
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
                for entry in listed
            ]
        )
        return
    columns = ["name", "family", "twin of (timm)", "description"]
    emit_table(columns, [[e.name, e.family, e.twin_of or "-", e.description] for e in listed])


def verify(ids: list[str], *, every: bool, as_json: bool) -> None:
    """Fetch sources, graft them with parity and record their files' hashes; exit 1 if one fails."""
    from voxgraft.grafting import Proof, verify_sources
    from voxgraft.weights import SOURCES

    if every == bool(ids):
        raise UsageError("give the ids of sources to verify, or --all.")
    chosen = list(SOURCES) if every else [SOURCES.get(name) for name in ids]

    def tell(proof: Proof) -> None:
        say(f"{proof.source}: {proof.fault or 'verified'}")

    proofs = verify_sources(chosen, tell)
    if as_json:
        emit_json([dataclasses.asdict(proof) for proof in proofs])
    else:
        columns = ["source", "network", "verified", "parity", "sha256", "fault"]
        rows = []
        for proof in proofs:
            found = proof.verification
            facts = ["no", "", ""]
            if found is not None:
                facts = ["here", f"{found.parity:.1e}", found.sha256]
            rows.append([proof.source, proof.model, *facts, proof.fault])
        emit_table(columns, rows)
    failed = sum(bool(proof.fault) for proof in proofs)
    say(f"{len(proofs) - failed} of {len(proofs)} verified")
    if failed:
        raise typer.Exit(1)


def _show(details: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit_json(details)
    else:
        emit_record("field", details)
