"""Segmentation networks by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from voxgraft.errors import ModelError
from voxgraft.models.decoders.decoder import Decoder
from voxgraft.models.decoders.native import NATIVE_DECODERS, native_decoder
from voxgraft.models.decoders.segmentation import SegmentationNetwork
from voxgraft.models.decoders.unet import DecoderNorm, UNetDecoder
from voxgraft.models.depth import check_choice
from voxgraft.models.encoder import Encoder
from voxgraft.models.initialization import seeded
from voxgraft.models.registry import build_encoder

DecoderKind = Literal["unet", "native"]
DECODER_KINDS: tuple[DecoderKind, ...] = ("unet", "native")
HeadKind = Literal["plain", "text"]
HEAD_KINDS: tuple[HeadKind, ...] = ("plain", "text")


def build_segmentation(
    model: str | Encoder,
    outputs: int,
    *,
    in_channels: int = 1,
    decoder: DecoderKind = "unet",
    decoder_norm: DecoderNorm = "instance",
    decoder_width: int = 32,
    deep_supervision: bool = False,
    head: HeadKind = "plain",
    embeddings: Float[Tensor, "k 512"] | None = None,
    input_mean: float | Sequence[float] = 0.5,
    input_sd: float | Sequence[float] = 0.25,
    seed: int | None = None,
    **options: Any,
) -> SegmentationNetwork:
    """Build a segmentation network around an encoder, with random weights.

    Args:
        model: Name of any network of the registry; or an encoder, whose weights are kept.
        outputs: Values for each voxel.
        in_channels: Channels of the volumes; an encoder that is given keeps its own.
        decoder: ``"unet"``: a U-Net's decoder, which fits every encoder; ``"native"``: the one
            that the network was published with.
        decoder_norm: Normalization of the U-Net's decoder: ``"instance"``, ``"group"`` or
            ``"batch"``.
        decoder_width: Channels of the U-Net's decoder on the volume's own grid.
        deep_supervision: Whether the decoder's coarser maps, but the coarsest, have heads.
        head: ``"plain"``: a 1x1x1 convolution; ``"text"``: each class's own layers, made of an
            embedding of its name (:class:`~voxgraft.models.decoders.text_head.TextHead`).
        embeddings: Of each output's name, in order, for a text-driven head; see
            :func:`~voxgraft.models.decoders.embeddings.read_embeddings`.
        input_mean: Mean that is taken from the volumes: one for all channels, or one each.
        input_sd: Standard deviation by which they are then divided, likewise.
        seed: Seed of the random weights; None draws from PyTorch's global generator.
        **options: Options of the encoder.

    Returns:
        The network, in training mode.

    Raises:
        RegistryError: If no network has that name.
        ModelError: If an option is unknown or impossible, the network was published without a
            decoder, or its maps fit none.
    """
    check_choice("decoder", decoder, DECODER_KINDS)
    check_choice("head", head, HEAD_KINDS)
    if (head == "text") != (embeddings is not None):
        raise ModelError(
            f"head is {head!r} and embeddings are {'not ' if embeddings is None else ''}given; a "
            "text-driven head needs an embedding of each output, a plain one has none."
        )
    if isinstance(model, Encoder):
        if options:
            raise ModelError(
                f"{', '.join(map(repr, options))} would build an encoder by name; here one is "
                "given, which has its own options. Leave them out."
            )
        encoder = model
    else:
        encoder = build_encoder(model, in_channels=in_channels, seed=seed, **options)
    device = next(encoder.parameters()).device
    with torch.device("meta" if device.type == "meta" else "cpu"):
        with seeded(seed):
            decoding = _decoder(encoder, decoder, decoder_norm, decoder_width)
        network = SegmentationNetwork(
            encoder,
            decoding,
            outputs,
            input_mean=input_mean,
            input_sd=input_sd,
            deep_supervision=deep_supervision,
            embeddings=embeddings,
            seed=seed,
        )
    return network.to(device)


def usual_decoder(encoder: Encoder) -> DecoderKind:
    """Return the decoder that an encoder has if none is chosen: its own, or else a U-Net's."""
    return "native" if encoder.declaration.family in NATIVE_DECODERS else "unet"


def _decoder(encoder: Encoder, kind: DecoderKind, norm: DecoderNorm, width: int) -> Decoder:
    if kind == "native":
        return native_decoder(encoder)
    return UNetDecoder(encoder.declaration, in_channels=encoder.in_channels, norm=norm, width=width)
