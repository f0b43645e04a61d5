"""A source's weights into a segmentation network: encoder, decoder and head, each accounted for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from voxgraft.errors import GraftError
from voxgraft.grafting.graft import Graft, graft
from voxgraft.models import Encoder, SegmentationNetwork, build_segmentation
from voxgraft.models.decoders import NATIVE_DECODERS
from voxgraft.models.decoders.build import DECODER_KINDS, DecoderKind
from voxgraft.models.depth import check_choice
from voxgraft.types import Json
from voxgraft.weights.convert import (
    Converted,
    Drop,
    FoldChannels,
    Fresh,
    Inflation,
    Rename,
    Rule,
    StemMethod,
    convert,
)
from voxgraft.weights.convert.convert import BUFFER_NAMES, stage_of
from voxgraft.weights.fetch import read_source
from voxgraft.weights.layouts import naming_rules
from voxgraft.weights.parity import changed_tensors
from voxgraft.weights.report import GraftReport
from voxgraft.weights.source import Source

_ELSEWHERE = "belongs to the encoder"
_HEAD = "the task's own head"


@dataclass(frozen=True, kw_only=True)
class SegmentationGraft:
    """A segmentation network that holds a source's weights, and the account of them."""

    network: SegmentationNetwork
    report: GraftReport
    """Names of the network's tensors begin with ``encoder.``, ``decoder.``, ``head.`` or
    ``deep_heads.``; those of the source are the file's own."""
    source: Source
    model: str
    model_options: Json
    decoder: DecoderKind


def graft_segmentation(
    source: str | Path | Source,
    model: str | SegmentationNetwork,
    outputs: int | None = None,
    *,
    decoder: DecoderKind | None = None,
    keep_head: bool = False,
    method: Inflation = "average",
    stem: StemMethod = "sum",
    in_channels: int = 1,
    depth_padding: Literal["zeros", "replicate"] | None = None,
    model_options: Mapping[str, Any] | None = None,
    deep_supervision: bool = False,
    rules: Sequence[Rule] = (),
    check_parity: bool = True,
    seed: int | None = None,
) -> SegmentationGraft:
    """Load a source's weights into a segmentation network, every tensor accounted for.

    The encoder is grafted and checked as :func:`voxgraft.grafting.graft` does. The tensors of the
    source's decoder go into the network's own decoder, if it has that, and are then compared with
    the file bit by bit. What the source does not have is fresh, with the reason; what the network
    does not take is dropped, with the reason.

    Args:
        source: A Source, or what :func:`voxgraft.grafting.graft` understands.
        model: Name of a model, or a segmentation network whose weights are to be replaced.
        outputs: Values for each voxel; a network that is given keeps its own.
        decoder: ``"native"``: the decoder that the network was published with; ``"unet"``: a
            U-Net's. By default the native one where there is one, else a U-Net's.
        keep_head: Load the source's head too, which must have as many outputs.
        method: How kernels of a 2D source are extended along depth.
        stem: How the source's channels become the network's.
        in_channels: Channels of the volumes; a network that is given keeps its own.
        depth_padding: As for :func:`voxgraft.grafting.graft`.
        model_options: More options of the encoder.
        deep_supervision: Whether the decoder's coarser maps have heads.
        rules: More rules, for encoder and decoder alike.
        check_parity: Whether to check the encoder's features.
        seed: Seed of what is fresh in decoder and head.

    Returns:
        The network in training mode, on the CPU, with its report. Its ``input_mean`` and
        ``input_sd`` are the source's.

    Raises:
        SourceError: If the source is unknown, unreadable, or not what it should be.
        FetchError: If its file cannot be had.
        GraftError: If a tensor is unexplained, or a check fails.
        RegistryError: If no model has that name.
        ModelError: If an option is impossible.
    """
    given = isinstance(model, SegmentationNetwork)
    if given != (outputs is None):
        raise GraftError(
            "a segmentation network is given, which has its own outputs: leave them out."
            if given
            else "outputs is None; give the number of values that the task predicts for a voxel."
        )
    if given and (decoder is not None or deep_supervision):
        raise GraftError(
            "decoder and deep_supervision build a network by name; here one is given, which has "
            "its own. Leave them out, or give the model's name."
        )
    if decoder is not None:
        check_choice("decoder", decoder, DECODER_KINDS)
    before = _copied(model.encoder) if isinstance(model, SegmentationNetwork) else {}
    part = graft(
        source,
        model.encoder if isinstance(model, SegmentationNetwork) else model,
        method=method,
        stem=stem,
        in_channels=in_channels,
        depth_padding=depth_padding,
        model_options=model_options,
        rules=rules,
        check_parity=check_parity,
    )
    if isinstance(model, SegmentationNetwork):
        network = model
    else:
        network = build_segmentation(
            part.encoder,
            outputs or 0,
            decoder=decoder or _usual_decoder(part.encoder),
            deep_supervision=deep_supervision,
            seed=seed,
        )
    state = read_source(part.source).state
    try:
        converted = _convert_decoder(part, network, state, stem, rules, keep_head)
    except GraftError:
        if before:
            network.encoder.load_state_dict(before, strict=True)
        raise
    contract = {
        "input_mean": network.input_mean.new_tensor(part.input_mean),
        "input_sd": network.input_sd.new_tensor(part.input_sd),
    }
    network.load_state_dict({**network.state_dict(), **contract, **converted.state}, strict=True)
    wrong = changed_tensors(network.state_dict(), state, converted.report.loaded)
    if wrong:
        raise GraftError(
            f"{len(wrong)} tensors of the decoder are not those of {part.source.id!r}, the first "
            f"{wrong[0]}. Nothing may train on this."
        )
    return SegmentationGraft(
        network=network.train(),
        report=_whole(part, converted.report, network, state),
        source=part.source,
        model=part.model,
        model_options=part.model_options,
        decoder="native" if network.decoder.original_head else "unet",
    )


def _copied(encoder: Encoder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.state_dict().items()}


def _usual_decoder(encoder: Encoder) -> DecoderKind:
    return "native" if encoder.declaration.family in NATIVE_DECODERS else "unet"


def _decodes(name: str) -> bool:
    return name.startswith(("decoder.", "head.", "deep_heads."))


def _under(prefixes: Sequence[str]) -> str:
    return "|".join(rf"{re.escape(prefix)}\." for prefix in prefixes)


def _convert_decoder(
    part: Graft,
    network: SegmentationNetwork,
    state: Mapping[str, Tensor],
    stem: StemMethod,
    rules: Sequence[Rule],
    keep_head: bool,
) -> Converted:
    """Convert what is not of the encoder, to the network's names."""
    source = part.source
    original = network.decoder.original_head
    declared = source.decoder if original else ()
    kept = [head for head in source.head if f"{original}.".startswith(f"{head}.")]
    if keep_head and not (original and kept):
        raise GraftError(
            f"keep_head is on, but source {source.id!r} has no head that this network's decoder "
            "could have. Leave it out."
        )
    heads = [head for head in source.head if not (keep_head and head in kept)]
    naming = naming_rules(replace(source, decoder=(), head=tuple(heads)))
    own = [rule for rule in rules if isinstance(rule, Rename | Drop)]
    taken = [*declared, *((original,) if keep_head else ())]
    chosen = _under(taken)
    placing: list[Rule] = [
        Drop(rf"(?!{chosen}).*" if chosen else ".*", _ELSEWHERE),
        *([Rename(rf"^{re.escape(original)}\.", "head.")] if keep_head else []),
        *([Rename(rf"^(?={_under(declared)})", "decoder.")] if declared else []),
    ]
    if declared:
        missing = "the source has nothing of this part"
    elif source.decoder:
        missing = "the source's decoder is another; this one is a U-Net's"
    else:
        missing = "the source has no decoder"
    absent = rf"decoder\.(?!{_under(declared)}).*" if declared else r"decoder\..*"
    fresh = [
        Fresh(absent, missing),
        Fresh(r"deep_heads\..*" if keep_head else r"(?:deep_heads|head)\..*", _HEAD),
    ]
    stems = FoldChannels([f"decoder.{name}" for name in network.decoder.stems], stem)
    adapting = [rule for rule in rules if not isinstance(rule, Rename | Drop)]
    targets = {
        name: tuple(tensor.shape) for name, tensor in network.state_dict().items() if _decodes(name)
    }
    return convert(
        state,
        targets,
        [*own, *naming, *placing, *fresh, stems, *adapting],
        source=source.id,
        model=f"the decoder of {part.model}",
        buffers=[name for name, _ in network.named_buffers()],
    )


def _whole(
    part: Graft, decoder: GraftReport, network: SegmentationNetwork, state: Mapping[str, Tensor]
) -> GraftReport:
    """Join the accounts of encoder and decoder."""

    def inner(verdicts: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
        return [{**verdict, "name": f"encoder.{verdict['name']}"} for verdict in verdicts]

    first = part.report
    used = {verdict["from"] for verdict in (*decoder.loaded, *decoder.adapted)}
    report = replace(
        first,
        loaded=(*inner(first.loaded), *decoder.loaded),
        adapted=(*inner(first.adapted), *decoder.adapted),
        fresh=(*inner(first.fresh), *decoder.fresh),
        dropped=tuple(verdict for verdict in first.dropped if verdict["name"] not in used),
    )
    sizes = {name: parameter.numel() for name, parameter in network.named_parameters()}
    verdicts = {"loaded": report.loaded, "adapted": report.adapted, "fresh": report.fresh}
    counts = {
        kind: sum(sizes.get(verdict["name"], 0) for verdict in rows)
        for kind, rows in verdicts.items()
    }
    dropped = [v["name"] for v in report.dropped if not BUFFER_NAMES.fullmatch(v["name"])]
    left = {verdict["name"] for verdict in report.fresh}
    whole: dict[str, int] = {}
    filled: dict[str, int] = {}
    for name, size in sizes.items():
        room, _, rest = name.partition(".")
        stage = room if room in ("head", "deep_heads") else f"{room}.{stage_of(rest)}"
        whole[stage] = whole.get(stage, 0) + size
        filled[stage] = filled.get(stage, 0) + (0 if name in left else size)
    total = sum(sizes.values())
    decoding = len(decoder.loaded) + len(decoder.adapted)
    return replace(
        report,
        coverage=(counts["loaded"] + counts["adapted"]) / total,
        parameters={
            "model": total,
            **counts,
            "dropped": sum(state[name].numel() for name in dropped),
        },
        buffers={
            kind: first.buffers.get(kind, 0) + decoder.buffers.get(kind, 0)
            for kind in ("model", "loaded", "adapted", "fresh")
        },
        coverage_by_stage={stage: filled[stage] / whole[stage] for stage in whole},
        parity=replace(
            first.parity,
            where=f"encoder: {first.parity.where}; decoder and head: "
            f"{decoding} tensors from the file, the loaded ones bit by bit",
        ),
    )
