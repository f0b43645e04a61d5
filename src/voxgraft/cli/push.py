"""``voxgraft push``: a run or a saved graft to the hub."""

from __future__ import annotations

from pathlib import Path

import typer

from voxgraft.cli.output import say


def push(
    folder: Path = typer.Argument(..., metavar="FOLDER", help="A run, or a saved graft."),
    repository: str = typer.Argument(..., metavar="ORGANIZATION/NAME", help="Made if need be."),
    public: bool = typer.Option(False, "--public", help="A repository that is made is public."),
) -> None:
    """Upload weights, card and a page made of it to the Hugging Face hub."""
    from voxgraft.runs import push as push_folder

    place = push_folder(folder, repository, private=not public)
    typer.echo(place)
    say(f'take it with voxgraft.from_pretrained("{place}")')
