"""A source's weights into a segmentation network: encoder, decoder and head, each accounted for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from voxgraft.errors import GraftError
from voxgraft.grafting.class_rows import PARTS, Parts, check_classes
from voxgraft.grafting.decoder_transfer import (
    Transfer,
    convert_decoder,
    decoder_kind,
    decoder_options,
    saved_decoder,
)
from voxgraft.grafting.graft import graft
from voxgraft.grafting.plan import Norm
from voxgraft.grafting.whole_report import whole_report
from voxgraft.models import Encoder, SegmentationNetwork, build_segmentation
from voxgraft.models.decoders.build import DECODER_KINDS, DecoderKind, usual_decoder
from voxgraft.models.decoders.unet import DecoderNorm
from voxgraft.models.depth import check_choice
from voxgraft.types import Json
from voxgraft.weights.convert import Inflation, Rule, StemMethod
from voxgraft.weights.fetch import read_source
from voxgraft.weights.parity import changed_tensors
from voxgraft.weights.report import GraftReport
from voxgraft.weights.source import Source


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
    decoder_options: Json
    """Options of :func:`voxgraft.models.build_segmentation` that made the decoder."""
    filled: tuple[str, ...] = ()
    """Classes whose outputs are those of the source's head (``parts="all"``): a training that sets
    the head's bias must leave theirs alone."""


def graft_segmentation(
    source: str | Path | Source,
    model: str | SegmentationNetwork,
    outputs: int | None = None,
    *,
    parts: Parts = "decoder",
    classes: Sequence[str] | None = None,
    decoder: DecoderKind | None = None,
    decoder_norm: DecoderNorm | None = None,
    decoder_width: int | None = None,
    embeddings: Float[Tensor, "k 512"] | None = None,
    method: Inflation = "average",
    stem: StemMethod = "sum",
    norm: Norm = "keep",
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
    source's decoder go into the network's, if that is the same (the one that the network was
    published with; or, of a finished segmentation, any that was built alike), and are then compared
    with the file bit by bit. What the source does not have is fresh, with the reason; what the
    network does not take is dropped, with the reason.

    With ``parts="all"`` each output of the head is filled from the channel of the source that has
    its name, wherever that stands; outputs whose name the source does not have stay fresh. The
    background goes to the background alone. The report says which is which, and counts values.

    Args:
        source: A Source, or what :func:`voxgraft.grafting.graft` understands.
        model: Name of a model, or a segmentation network whose weights are to be replaced.
        outputs: Values for each voxel; by default one for each of ``classes``. A network that is
            given keeps its own.
        parts: ``"encoder"``: a fresh decoder; ``"decoder"``: the source's, and a fresh head;
            ``"all"``: the head's outputs too, by name.
        classes: Names of the outputs in their order, ``"background"`` first where a softmax
            follows. Needed for ``"all"``.
        decoder: ``"native"``: the decoder that the network was published with; ``"unet"``: a
            U-Net's. By default that of a finished segmentation, if its decoder is asked for; else
            the native one where there is one, else a U-Net's.
        decoder_norm: Normalization of the U-Net's decoder; by default that of a finished
            segmentation's, else ``"instance"``.
        decoder_width: Channels of the U-Net's decoder on the volume's own grid; by default
            likewise, else 32.
        embeddings: Of each output's name, in order, for a text-driven head; see
            :func:`voxgraft.models.decoders.read_embeddings`. With ``parts="all"`` that head is the
            source's whole, which needs a text-driven head too.
        method: How kernels of a 2D source are extended along depth.
        stem: How the source's channels become the network's.
        norm: As for :func:`voxgraft.grafting.graft`; of the encoder alone.
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
        GraftError: If a tensor is unexplained, a check fails, or the head cannot be taken.
        RegistryError: If no model has that name.
        ModelError: If an option is impossible.
    """
    given = isinstance(model, SegmentationNetwork)
    if given and outputs is not None:
        raise GraftError(
            "a segmentation network is given, which has its own outputs: leave them out."
        )
    building = (decoder, decoder_norm, decoder_width, embeddings)
    chosen_here = deep_supervision or norm != "keep"
    if given and (chosen_here or any(option is not None for option in building)):
        raise GraftError(
            "decoder, decoder_norm, decoder_width, embeddings, norm and deep_supervision build a "
            "network by name; here one is given, which has its own. Leave them out, or give the "
            "model's name."
        )
    check_choice("parts", parts, PARTS)
    if decoder is not None:
        check_choice("decoder", decoder, DECODER_KINDS)
    own = model.outputs if isinstance(model, SegmentationNetwork) else outputs
    count = check_classes(classes, own, parts)
    before = _copied(model.encoder) if isinstance(model, SegmentationNetwork) else {}
    part = graft(
        source,
        model.encoder if isinstance(model, SegmentationNetwork) else model,
        method=method,
        stem=stem,
        norm=norm,
        in_channels=in_channels,
        depth_padding=depth_padding,
        model_options=model_options,
        rules=rules,
        check_parity=check_parity,
    )
    if isinstance(model, SegmentationNetwork):
        network = model
    else:
        kind, options = saved_decoder(part.source) if parts != "encoder" else (None, {})
        chosen = decoder or kind or usual_decoder(part.encoder)
        usual: Json = options if chosen == kind else {}
        network = build_segmentation(
            part.encoder,
            count,
            decoder="native" if chosen == "native" else "unet",
            decoder_norm=decoder_norm or usual.get("decoder_norm", "instance"),
            decoder_width=usual.get("decoder_width", 32)
            if decoder_width is None
            else decoder_width,
            deep_supervision=deep_supervision,
            head="plain" if embeddings is None else "text",
            embeddings=embeddings,
            seed=seed,
        )
    state = read_source(part.source).state
    try:
        transfer = convert_decoder(part, network, state, stem, rules, parts, classes)
    except GraftError:
        if before:
            network.encoder.load_state_dict(before, strict=True)
        raise
    converted = transfer.converted
    contract = {
        "input_mean": network.input_mean.new_tensor(part.input_mean),
        "input_sd": network.input_sd.new_tensor(part.input_sd),
    }
    network.load_state_dict({**network.state_dict(), **contract, **converted.state}, strict=True)
    wrong = changed_tensors(network.state_dict(), state, converted.report.loaded)
    wrong += _wrong_outputs(network, state, transfer)
    if wrong:
        raise GraftError(
            f"{len(wrong)} tensors of decoder and head are not those of {part.source.id!r}, "
            f"the first {wrong[0]}. Nothing may train on this."
        )
    return SegmentationGraft(
        network=network.train(),
        report=whole_report(part, transfer, network, state),
        source=part.source,
        model=part.model,
        model_options=part.model_options,
        decoder=decoder_kind(network),
        decoder_options=decoder_options(network),
        filled=transfer.filled,
    )


def _copied(encoder: Encoder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in encoder.state_dict().items()}


def _wrong_outputs(
    network: SegmentationNetwork, state: Mapping[str, Tensor], transfer: Transfer
) -> list[str]:
    """Return the outputs of the heads that are neither the source's nor fresh, bit by bit."""
    rows, own = transfer.rows, network.state_dict()
    if rows is None:
        return []
    return [
        f"{verdict['name']} of {label}"
        for verdict in transfer.converted.report.adapted
        if verdict["name"] in rows.own
        for label in rows.wrong_rows(verdict["name"], own[verdict["name"]], state[verdict["from"]])
    ]
