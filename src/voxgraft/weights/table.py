"""The catalogue as a Markdown page: ``docs/sources.md``."""

from __future__ import annotations

from voxgraft.packages import PackageFile
from voxgraft.weights.catalog import SOURCES
from voxgraft.weights.source import BroughtFile, HubFile, Source, WebFile

_INTRODUCTION = """\
# Starts in the catalogue

{count} public checkpoints, by what they were trained on. `voxgraft sources` lists them,
`voxgraft sources ID` shows one whole: its input contract, stem, head and note. `voxgraft graft ID
MODEL` loads one into a network, every tensor accounted for ([grafting](grafting.md)).

An entry is *verified* where its real file was grafted once and the digest of each of its tensors
was written down ({verified} entries). The others are entered from public facts (names and shapes of
the tensors, as the reference implementation gives them) and tested on files of the same layout with
random weights; `voxgraft sources verify ID` does the rest on a machine that can fetch the file.
A licence is that of the weights as their publisher states it; `unstated` means that nobody does.
*Trained on* names the data sets for the overlap audit ([compare](compare.md)).

This page is generated from the registry: `make pages`.
"""

_HEAD = (
    "| id | network | file | hash | licence | trained on | paper | parameters (M) | verified |",
    "|---|---|---|---|---|---|---|---:|---|",
)

GROUPS = {"image": "Trained on images", "video": "Trained on video", "volume": "Trained on scans"}
"""Headings of the tables, by what the weights were trained on."""


def sources_page() -> str:
    """Return the catalogue as a Markdown page."""
    verified = sum(source.verified for source in SOURCES)
    parts = [_INTRODUCTION.format(count=len(SOURCES), verified=verified)]
    for layout, heading in GROUPS.items():
        rows = [source_row(source) for source in SOURCES if source.layout == layout]
        parts += [f"## {heading} ({len(rows)})", "", *_HEAD, *rows, ""]
    return "\n".join(parts).rstrip() + "\n"


def source_row(source: Source) -> str:
    """Return an entry's row of :func:`sources_page`."""
    count = "—" if source.parameters is None else f"{source.parameters / 1e6:.1f}"
    cells = (
        f"`{source.id}`",
        f"`{source.architecture}`",
        _file(source),
        _hash(source),
        source.licence,
        ", ".join(source.trained_on) or "unstated",
        _paper(source.paper),
        count,
        "yes" if source.verified else "no",
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _file(source: Source) -> str:
    file = source.file
    if isinstance(file, HubFile):
        return f"[{file.repository}](https://huggingface.co/{file.repository})"
    if isinstance(file, WebFile):
        return f"[{file.url.rpartition('/')[2]}]({file.url})"
    if isinstance(file, BroughtFile):
        return f"`{file.filename}`, to be brought: {file.where}"
    if isinstance(file, PackageFile):
        return f"package {file.package} {file.version}"
    return source.where


def _hash(source: Source) -> str:
    if source.sha256 is not None:
        return f"`{source.sha256[:8]}…`"
    return f"`{source.sha256_begins}…`" if source.sha256_begins else "—"


def _paper(paper: str) -> str:
    kind, _, name = paper.partition(":")
    addresses = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}
    return f"[{paper}]({addresses[kind]}{name})" if kind in addresses else paper
