"""The source's decoder and head converted to a segmentation network's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from voxgraft.grafting.class_rows import Parts, head_rows, row_notes
from voxgraft.grafting.graft import Graft
from voxgraft.grafting.text_rows import TEXT_FRESH, TEXT_NAMES, take_text_head
from voxgraft.models import SegmentationNetwork, UNetDecoder
from voxgraft.models.decoders.build import DecoderKind
from voxgraft.types import Json
from voxgraft.weights.card import load_card
from voxgraft.weights.convert import (
    Converted,
    Drop,
    FoldChannels,
    Fresh,
    Rename,
    Rule,
    StemMethod,
    TakeRows,
    convert,
)
from voxgraft.weights.layouts import naming_rules
from voxgraft.weights.source import Source

_ELSEWHERE = "belongs to the encoder"
_HEAD = "the task's own head"
_DEFAULTS: Json = {"decoder_norm": "instance", "decoder_width": 32}


@dataclass(frozen=True)
class Transfer:
    """What a conversion of decoder and head gave."""

    converted: Converted
    rows: TakeRows | None = None
    """How the heads were filled, output by output; None if they were not."""
    filled: tuple[str, ...] = ()
    """Classes that the source's head knew, where it was taken."""
    notes: tuple[str, ...] = ()


def decoder_kind(network: SegmentationNetwork) -> DecoderKind:
    """Return whether a network has the decoder that its encoder was published with."""
    return "native" if network.decoder.original_head else "unet"


def decoder_options(network: SegmentationNetwork) -> Json:
    """Return the options of :func:`voxgraft.models.build_segmentation` that made the decoder.

    They are what a card keeps beside the decoder's kind.
    """
    options: Json = {"deep_supervision": hasattr(network, "deep_heads")}
    if isinstance(network.decoder, UNetDecoder):
        options["decoder_norm"] = network.decoder.norm
        options["decoder_width"] = network.decoder.width
    return options


def saved_decoder(source: Source) -> tuple[str | None, Json]:
    """Return kind and options of the decoder of saved weights; None if there is none."""
    if not source.saved or not source.decoder:
        return None, {}
    card = load_card(source.where)
    return card.decoder, {**_DEFAULTS, **card.decoder_options}


def convert_decoder(
    part: Graft,
    network: SegmentationNetwork,
    state: Mapping[str, Tensor],
    stem: StemMethod,
    rules: Sequence[Rule],
    parts: Parts,
    classes: Sequence[str] | None,
) -> Transfer:
    """Convert what is not of the encoder, to the network's names.

    Raises:
        GraftError: If a tensor is unexplained, or a head is asked for that cannot be taken.
    """
    source = part.source
    missing = _missing(source, network, parts)
    if source.saved:
        head = "head" if {"head.weight", "head.bias"} <= state.keys() else ""
    else:
        original = network.decoder.original_head
        kept = [name for name in source.head if f"{original}.".startswith(f"{name}.")]
        head = original if original and kept else ""
    deep = source.saved and "deep_heads" in source.head and hasattr(network, "deep_heads")
    rows = text = None
    if parts == "all" and network.is_text_driven:
        text = take_text_head(source, network, state, classes or (), missing)
        head, deep = "head", False
    elif parts == "all":
        rows = head_rows(source, network, classes or (), missing=missing, head=head, deep=deep)
    declared = source.decoder if not missing else ()
    taken_head = "" if rows is None and text is None else head
    if source.saved:
        naming = _saved_naming(declared, taken_head, deep and rows is not None)
    else:
        naming = _published_naming(source, declared, taken_head)
        naming = naming if text is None else [TEXT_NAMES, *naming]
    adapting = [rule for rule in rules if not isinstance(rule, Rename | Drop)]
    own = [rule for rule in rules if isinstance(rule, Rename | Drop)]
    decoder_rules: list[Rule] = [
        *([Fresh(r"head\..*", _HEAD)] if not taken_head else []),
        *([] if text is None else [TEXT_FRESH]),
        *([] if rows is not None and deep else [Fresh(r"deep_heads\..*", _HEAD)]),
        FoldChannels([f"decoder.{name}" for name in network.decoder.stems], stem),
        *([] if rows is None else [rows]),
    ]
    if missing:
        decoder_rules.append(Fresh(r"decoder\..*", missing))
    elif not source.saved:
        absent = rf"decoder\.(?!{_under(declared)}).*"
        decoder_rules.append(Fresh(absent, "the source has nothing of this part"))
    converted = convert(
        state,
        {
            name: tuple(tensor.shape)
            for name, tensor in network.state_dict().items()
            if name.startswith(("decoder.", "head.", "deep_heads."))
        },
        [*own, *naming, *decoder_rules, *adapting],
        source=source.id,
        model=f"the decoder of {part.model}",
        buffers=[name for name, _ in network.named_buffers()],
    )
    if text is not None:
        return Transfer(converted, filled=text.classes, notes=text.notes)
    if rows is not None:
        return Transfer(converted, rows, rows.filled, tuple(row_notes(rows)))
    return Transfer(converted)


def _missing(source: Source, network: SegmentationNetwork, parts: Parts) -> str:
    """Return why a network does not take the source's decoder; empty if it does."""
    if not source.decoder:
        return "the source has no decoder"
    if parts == "encoder":
        return "the encoder alone was asked for (parts='encoder')"
    kind = decoder_kind(network)
    if not source.saved:
        return "" if kind == "native" else "the source's decoder is another; this one is a U-Net's"
    theirs, options = saved_decoder(source)
    if theirs != kind:
        return f"the source's decoder is another ({theirs!r}); this one is {kind!r}"
    if kind == "native":
        return ""
    mine = decoder_options(network)
    other = [
        f"{name} {options[name]!r}, this one {mine[name]!r}"
        for name in _DEFAULTS
        if options[name] != mine[name]
    ]
    decoder = network.decoder
    channels = source.input.channels, network.encoder.in_channels
    if isinstance(decoder, UNetDecoder) and decoder.joins_volume and channels[0] != channels[1]:
        other.append(
            f"{channels[0]} channels of the volume, which it joins, this one {channels[1]}"
        )
    return f"the source's decoder has {'; '.join(other)}" if other else ""


def _saved_naming(declared: Sequence[str], head: str, deep: bool) -> list[Rule]:
    """Return the rules from the names of saved weights, which are the network's own."""
    rooms = [*declared, *([head] if head else []), *(["deep_heads"] if deep else [])]
    if not rooms:
        return [Drop(".*", _ELSEWHERE)]
    return [Drop(rf"(?!{_under(rooms)}).*", _ELSEWHERE)]


def _published_naming(source: Source, declared: Sequence[str], head: str) -> list[Rule]:
    """Return the rules from the names of a published file."""
    dropped = tuple(
        name for name in source.head if not (head and f"{head}.".startswith(f"{name}."))
    )
    chosen = _under([*declared, *([head] if head else [])])
    return [
        *naming_rules(replace(source, decoder=(), head=dropped)),
        Drop(rf"(?!{chosen}).*" if chosen else ".*", _ELSEWHERE),
        *([Rename(rf"^{re.escape(head)}\.", "head.")] if head else []),
        *([Rename(rf"^(?={_under(declared)})", "decoder.")] if declared else []),
    ]


def _under(prefixes: Sequence[str]) -> str:
    return "|".join(rf"{re.escape(prefix)}\." for prefix in prefixes)
