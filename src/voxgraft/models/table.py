"""The registry as Markdown tables: the last part of ``docs/models.md``."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from voxgraft.models.encoder import Encoder
from voxgraft.models.entry import ModelEntry
from voxgraft.models.registry import MODELS

_HEAD = (
    "| name | what it is | equals | parameters (M) | features | stride (d, h, w) | smallest |",
    "|---|---|---|---:|---:|---|---|",
)

GROUPS = (
    "Twins of timm's 2D networks",
    "2D networks on slices",
    "Made for video",
    "Made for CT and MRI",
    "Of Voxgraft's own",
)
"""Headings of the tables."""


def group_of(entry: ModelEntry) -> str:
    """Return the heading under which a network stands."""
    if entry.native != "image":
        return GROUPS[2] if entry.native == "video" else GROUPS[3]
    if entry.twin_of is not None:
        return GROUPS[0]
    return GROUPS[1] if entry.family == "slicewise" else GROUPS[4]


def models_table() -> str:
    """Return the registry as Markdown tables under headings.

    The networks are built without memory for their weights, so this takes some seconds.
    """
    parts = []
    for heading in GROUPS:
        entries = [entry for entry in MODELS if group_of(entry) == heading]
        parts += ["", f"### {heading}", "", *_HEAD, *_rows(entries)]
    return "\n".join(parts[1:])


def _rows(entries: Sequence[ModelEntry]) -> list[str]:
    rows = []
    for entry in entries:
        with torch.device("meta"):
            rows.append(table_row(entry, entry.build()))
    return rows


def table_row(entry: ModelEntry, encoder: Encoder) -> str:
    """Return a network's row of :func:`models_table`."""
    facts = encoder.declaration
    count = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
    original = f"timm's `{facts.original}`" if facts.original else entry.reference or "—"
    return (
        f"| `{entry.name}` | {entry.description} | {original} | {count:.1f} "
        f"| {facts.num_features} | {_size(facts.strides[-1])} | {_size(facts.min_size)} |"
    )


def _size(size: tuple[int, int, int]) -> str:
    return " × ".join(map(str, size))
