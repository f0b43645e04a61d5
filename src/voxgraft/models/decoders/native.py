"""The decoders that the networks for CT and MRI were published with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from voxgraft.errors import ModelError
from voxgraft.models.decoders.decoder import Decoder
from voxgraft.models.decoders.genesis import GenesisDecoder
from voxgraft.models.decoders.nnunet import NnUNetDecoder, STUNetDecoder
from voxgraft.models.decoders.segresnet import SegResNetDecoder, SegResNetDSDecoder
from voxgraft.models.decoders.unetr import SwinUNETRDecoder, UNETRDecoder
from voxgraft.models.encoder import Encoder


def _segresnet(encoder: Any) -> Decoder:
    facts = encoder.declaration
    return SegResNetDecoder(facts.feature_channels, facts.strides)


def _segresnet_ds(encoder: Any) -> Decoder:
    facts = encoder.declaration
    return SegResNetDSDecoder(facts.feature_channels, facts.strides, norm=encoder.norm)


def _swin_unetr(encoder: Any) -> Decoder:
    return SwinUNETRDecoder(
        in_channels=encoder.in_channels, feature_size=encoder.declaration.feature_channels[0]
    )


def _unetr(encoder: Any) -> Decoder:
    return UNETRDecoder(in_channels=encoder.in_channels, width=encoder.declaration.num_features)


def _genesis(encoder: Any) -> Decoder:
    return GenesisDecoder(encoder.declaration.feature_channels)


NATIVE_DECODERS: Mapping[str, Callable[[Any], Decoder]] = {
    "segresnet": _segresnet,
    "segresnet_ds": _segresnet_ds,
    "swin_unetr": _swin_unetr,
    "monai_vit": _unetr,
    "genesis_unet": _genesis,
    "nnunet": NnUNetDecoder,
    "stunet": STUNetDecoder,
}
"""From an encoder's family to what builds its own decoder."""


def native_decoder(encoder: Encoder) -> Decoder:
    """Build the decoder that an encoder was published with, with random weights.

    Raises:
        ModelError: If it was published with none.
    """
    family = encoder.declaration.family
    if family not in NATIVE_DECODERS:
        raise ModelError(
            f"networks of the family {family!r} have no decoder of their own; those of "
            f"{', '.join(NATIVE_DECODERS)} have. Choose decoder='unet', which fits every encoder."
        )
    return NATIVE_DECODERS[family](encoder)
