"""Which head of a source fills a segmentation network's, output by output, by class names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from voxgraft.errors import GraftError, raise_faults
from voxgraft.models import SegmentationNetwork
from voxgraft.weights.convert import TakeRows
from voxgraft.weights.source import BACKGROUND, Source, class_faults

Parts = Literal["encoder", "decoder", "all"]
"""What a segmentation network takes of a source: the encoder alone; the decoder too; the outputs
of the head that have the same names as well."""
PARTS: tuple[Parts, ...] = ("encoder", "decoder", "all")


def check_classes(classes: Sequence[str] | None, outputs: int | None, parts: Parts) -> int:
    """Return the number of outputs, after a look at their names.

    Raises:
        GraftError: If the names do not fit the outputs, or are needed and not given.
    """
    if classes is None:
        if parts == "all":
            raise GraftError(
                "parts is 'all', but the network's classes are not named. Give classes, a name "
                f"for each output in their order ({BACKGROUND!r} first where a softmax follows): "
                "a head is taken by names, never by position."
            )
        if outputs is None:
            raise GraftError(
                "outputs is None; give the number of values that the task predicts for a voxel, "
                "or the names of its classes."
            )
        return outputs
    faults = class_faults(tuple(classes))
    if not classes or (outputs is not None and len(classes) != outputs):
        faults.append(f"{len(classes)} names are given for {outputs} outputs")
    if faults:
        raise_faults(
            GraftError,
            f"classes cannot be {', '.join(map(repr, classes)) or 'empty'}",
            faults,
            "Name each output of the network once, in their order.",
        )
    return len(classes)


def head_rows(
    source: Source,
    network: SegmentationNetwork,
    classes: Sequence[str],
    *,
    missing: str,
    head: str,
    deep: bool,
) -> TakeRows:
    """Return the rule that fills the heads of a network.

    Args:
        source: The start.
        network: The network; its heads are as initialised.
        classes: Names of its outputs.
        missing: Why it does not take the source's decoder; empty if it does.
        head: The source's head that it takes, in the source's names; empty if there is none.
        deep: Whether the source's heads on coarser grids are taken too.

    Raises:
        GraftError: If the source's head means nothing here.
    """
    faults = []
    if missing:
        faults.append(f"a head belongs to its decoder, which is fresh here: {missing}")
    elif not head:
        faults.append("the source has no head that is a convolution after this decoder")
    if not isinstance(network.head, nn.Conv3d):
        faults.append(f"the network's own head is a {type(network.head).__name__}, no Conv3d")
    if not source.classes:
        faults.append("nobody says what the channels of the source's head are")
    elif not set(classes) & set(source.classes) - {BACKGROUND}:
        faults.append(
            f"the network's classes are {', '.join(classes)}, the source's "
            f"{', '.join(source.classes)}: none is the same"
        )
    if faults:
        raise_faults(
            GraftError,
            f"parts is 'all', but the head of source {source.id!r} cannot be taken",
            faults,
            "Choose parts='decoder' or parts='encoder'; names must be spelled alike.",
        )
    rooms = ("head.", "deep_heads.") if deep else ("head.",)
    own = {
        name: tensor.detach().clone()
        for name, tensor in network.state_dict().items()
        if name.startswith(rooms)
    }
    return TakeRows(tuple(classes), source.classes, own)


def row_notes(rows: TakeRows) -> list[str]:
    """Say in words what became of a head, for a report."""
    notes = [f"the head's outputs {rows.words()}"]
    if (BACKGROUND in rows.channels) != (BACKGROUND in rows.classes):
        one = f"one softmax with {BACKGROUND!r}"
        each = "a sigmoid for each class"
        before, now = (one, each) if BACKGROUND in rows.channels else (each, one)
        notes.append(
            f"the source's outputs went through {before}, the network's go through {now}: the "
            "head must be trained before it can be used"
        )
    return notes
