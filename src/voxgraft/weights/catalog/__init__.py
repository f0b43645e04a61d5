"""The catalogue of starts."""

from __future__ import annotations

from voxgraft.registry import Registry
from voxgraft.weights.catalog import (
    image,
    packages,
    timm,
    video,
    video_convolutional,
    video_transformers,
    video_variants,
    volume,
    volume_convolutional,
    volume_nnunet,
    volume_tokens,
)
from voxgraft.weights.source import Source

SOURCES: Registry[Source] = Registry("source")

for _room in (
    packages,
    timm,
    image,
    video,
    video_convolutional,
    video_transformers,
    video_variants,
    volume,
    volume_convolutional,
    volume_nnunet,
    volume_tokens,
):
    for _source in _room.SOURCES:
        SOURCES.register(_source.id, _source)
