"""Networks: volumes in, features out."""

from voxgraft.models.declaration import Declaration
from voxgraft.models.encoder import Encoder
from voxgraft.models.memory_format import choose_memory_format
from voxgraft.models.network import Network
from voxgraft.models.norm_exchange import exchange_norm
from voxgraft.models.registry import (
    MODELS,
    ModelEntry,
    build_encoder,
    build_reference_2d,
    models_table,
)

__all__ = [
    "MODELS",
    "Declaration",
    "Encoder",
    "ModelEntry",
    "Network",
    "build_encoder",
    "build_reference_2d",
    "choose_memory_format",
    "exchange_norm",
    "models_table",
]
