"""Decoders: an encoder's feature maps back on the grid of the volume, and a class a voxel."""

from voxgraft.models.decoders.build import build_segmentation
from voxgraft.models.decoders.decoder import Decoder
from voxgraft.models.decoders.embeddings import read_embeddings
from voxgraft.models.decoders.native import NATIVE_DECODERS, native_decoder
from voxgraft.models.decoders.segmentation import SegmentationNetwork
from voxgraft.models.decoders.text_head import TextHead
from voxgraft.models.decoders.unet import UNetDecoder

__all__ = [
    "NATIVE_DECODERS",
    "Decoder",
    "SegmentationNetwork",
    "TextHead",
    "UNetDecoder",
    "build_segmentation",
    "native_decoder",
    "read_embeddings",
]
