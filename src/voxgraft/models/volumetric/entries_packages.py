"""What the registry says of networks whose weights install as packages."""

from __future__ import annotations

from voxgraft.models.entry import ModelEntry
from voxgraft.models.volumetric.linknet import build_linknet

ENTRIES: tuple[ModelEntry, ...] = (
    ModelEntry(
        name="linknet_deepbet",
        description="encoder of deepbet's 3D LinkNet: narrow residual blocks, instance norm",
        family="linknet",
        build=build_linknet,
        options=frozenset({"depth_padding", "seed"}),
        native="volume",
        reference="deepbet 1.0.2, data/models/model.pt",
    ),
)
