"""The decoder that a network gets, and what it takes of the start's decoder and head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from voxgraft.grafting.decoder_transfer import saved_decoder
from voxgraft.models import SegmentationNetwork, UNetDecoder
from voxgraft.models.decoders import NATIVE_DECODERS
from voxgraft.models.decoders.build import DecoderKind
from voxgraft.models.decoders.unet import DecoderNorm
from voxgraft.planning.decision import Decision
from voxgraft.weights import Source

Parts = Literal["encoder", "decoder", "all"]


@dataclass(frozen=True, kw_only=True)
class PlannedDecoder:
    """A decoder, as :func:`voxgraft.models.build_segmentation` builds it."""

    kind: DecoderKind
    norm: DecoderNorm = "instance"
    width: int = 32
    of_start: bool = False
    """Whether it is that of the start, which Voxgraft saved."""

    def decision(self, family: str) -> Decision:
        """Say why a network of a family has this decoder."""
        why = "the one that the network was published with"
        if self.of_start:
            why = "the start's own"
        elif self.kind == "unet":
            why = f"networks of the family {family} have no decoder of their own; a U-Net's fits"
            why += " all"
        value: str = self.kind
        if self.kind == "unet":
            value += f" of {self.width} channels, {self.norm} normalization"
        return Decision(what="decoder", value=value, why=why)


def choose_decoder(family: str, start: Source | None) -> PlannedDecoder:
    """Return the decoder of a start that was saved with one, else the network's own or a U-Net's.

    Args:
        family: Of the network.
        start: None from scratch.
    """
    if start is not None and start.saved and start.decoder:
        kind, options = saved_decoder(start)
        return PlannedDecoder(
            kind=cast(DecoderKind, kind),
            norm=options["decoder_norm"],
            width=options["decoder_width"],
            of_start=True,
        )
    return PlannedDecoder(kind="native" if family in NATIVE_DECODERS else "unet")


def decide_parts(
    start: Source, classes: Sequence[str], network: SegmentationNetwork
) -> tuple[Parts, Decision]:
    """Decide what of a start is taken.

    Args:
        start: The start.
        classes: Structures of the target.
        network: As it is to be trained.
    """
    shared = [name for name in classes if name in start.classes]
    differs = True
    fresh = _why_fresh(start, network)
    if fresh:
        parts: Parts = "encoder"
        why, differs = fresh, bool(start.decoder)
    elif shared and _plain_head(start, network):
        parts = "all"
        why = f"the start's head knows {len(shared)} of the {len(classes)} structures by name"
        missing = [name for name in classes if name not in shared]
        why += f"; new are {', '.join(missing)}" if missing else ""
        differs = bool(missing)
    else:
        parts = "decoder"
        why = "the start has this decoder too; its head knows none of the structures by name"
        if shared:
            why = (
                f"the start knows {len(shared)} of the {len(classes)} structures, but its head is "
                "text-driven; the plain head that this plan has is fresh"
            )
    return parts, Decision(
        what="parts",
        value=parts,
        why=why,
        from_data=f"{len(classes)} structures",
        from_start=f"{len(start.classes)} named channels" if start.classes else "no named head",
        differs=differs,
    )


def _why_fresh(start: Source, network: SegmentationNetwork) -> str:
    """Return why the network's decoder cannot be the start's; empty if it is."""
    if not start.decoder:
        return "the start has no decoder"
    decoder = network.decoder
    if not start.saved:
        return "" if decoder.original_head else "the start's decoder is none that this network has"
    mine = network.encoder.in_channels
    if isinstance(decoder, UNetDecoder) and decoder.joins_volume and mine != start.input.channels:
        return (
            f"the start's decoder joins {start.input.channels} channels of the volume, not {mine}"
        )
    return ""


def _plain_head(start: Source, network: SegmentationNetwork) -> bool:
    """Return whether the start's head is a convolution after this decoder."""
    if start.saved:
        return {"head.weight", "head.bias"} <= start.tensor_digests.keys()
    own = f"{network.decoder.original_head}."
    return any(own.startswith(f"{name}.") for name in start.head)
