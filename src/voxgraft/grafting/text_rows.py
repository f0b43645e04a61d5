"""A text-driven head from a source that has one: whole, whatever the classes are."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from voxgraft.errors import GraftError, raise_faults
from voxgraft.models import SegmentationNetwork
from voxgraft.weights.convert import Fresh, Rename
from voxgraft.weights.source import Source

_MODULES = r"(?:precls_conv|GAP|controller|text_to_vision)\."
_WRAPPED = r"(?:module\.|backbone\.)*"
_EMBEDDING = "organ_embedding"

TEXT_NAMES = Rename(rf"^{_WRAPPED}(?={_MODULES})", "head.")
"""From the names of published files to the network's own."""
TEXT_FRESH = Fresh(
    rf"head\.{_EMBEDDING}", "the classes are the network's own, by the embeddings of their names"
)


@dataclass(frozen=True)
class TextHeadTaken:
    """A text-driven head that is the source's, which makes outputs of the network's classes."""

    classes: tuple[str, ...]
    notes: tuple[str, ...]


def take_text_head(
    source: Source,
    network: SegmentationNetwork,
    state: Mapping[str, Tensor],
    classes: Sequence[str],
    missing: str,
) -> TextHeadTaken:
    """Say what a network's text-driven head means with the weights of the source's.

    Args:
        source: The start.
        network: The network, whose head is text-driven.
        state: The source's tensors, by the file's names.
        classes: Names of the network's outputs.
        missing: Why it does not take the source's decoder; empty if it does.

    Raises:
        GraftError: If the source has no such head, or its decoder is not taken.
    """
    heads = re.compile(rf"(?:head\.)?{_WRAPPED}{_MODULES}.*")
    faults = []
    if missing:
        faults.append(f"a head belongs to its decoder, which is fresh here: {missing}")
    if not any(heads.fullmatch(name) for name in state):
        faults.append("the source has no text-driven head, which the network has")
    if faults:
        raise_faults(
            GraftError,
            f"parts is 'all', but the head of source {source.id!r} cannot be taken",
            faults,
            "Choose parts='decoder' or parts='encoder'.",
        )
    same = tuple(name for name in classes if name in source.classes)
    new = [name for name in classes if name not in source.classes]
    notes = ["the text-driven head is the source's; its classes are those of the embeddings given"]
    if new:
        notes.append(f"the source was not trained on {', '.join(new)}, as far as is known")
    theirs = next((state[n] for n in state if n.rpartition(".")[2] == _EMBEDDING), None)
    mine = network.state_dict()[f"head.{_EMBEDDING}"]
    if theirs is not None and len(theirs) == len(source.classes):
        other = [
            name
            for name in same
            if not torch.allclose(
                mine[list(classes).index(name)],
                theirs[source.classes.index(name)].to(mine),
                rtol=1e-2,
                atol=1e-3,
            )
        ]
        if other:
            notes.append(f"the source knew other embeddings of {', '.join(other)}")
    return TextHeadTaken(same, tuple(notes))
