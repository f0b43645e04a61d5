"""Networks: volumes in, features out."""

from voxgraft.models.declaration import Declaration
from voxgraft.models.decoders import SegmentationNetwork, UNetDecoder, build_segmentation
from voxgraft.models.encoder import Encoder
from voxgraft.models.entry import ModelEntry
from voxgraft.models.memory_format import choose_memory_format
from voxgraft.models.network import Network
from voxgraft.models.norm_exchange import exchange_norm, restore_batch_norm
from voxgraft.models.registry import (
    MODELS,
    build_encoder,
    build_reference_2d,
    model_options,
)
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.table import models_table

__all__ = [
    "MODELS",
    "Declaration",
    "Encoder",
    "ModelEntry",
    "Network",
    "SegmentationNetwork",
    "SequentialEncoder",
    "UNetDecoder",
    "build_encoder",
    "build_reference_2d",
    "build_segmentation",
    "choose_memory_format",
    "exchange_norm",
    "model_options",
    "models_table",
    "restore_batch_norm",
]
