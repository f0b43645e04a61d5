"""What the registry says of networks whose weights install as packages."""

from __future__ import annotations

from voxgraft.models.entry import ModelEntry
from voxgraft.models.volumetric.deepbrain_unet import build_deepbrain_unet
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
    ModelEntry(
        name="deepbrain_unet",
        description="encoder of deepbrain's narrow 3D U-Net: pairs of convolutions, no norm",
        family="deepbrain",
        build=build_deepbrain_unet,
        options=frozenset({"depth_padding", "seed"}),
        native="volume",
        reference="deepbrain 0.1, deepbrain/models/graph.pb",
    ),
)
