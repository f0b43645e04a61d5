"""What the registry says of vision transformers that were trained on volumes."""

from __future__ import annotations

from functools import partial

from voxgraft.models.entry import ModelEntry
from voxgraft.models.tokens.volume_vit import (
    PRIMUS_SIZES,
    VOLUME_OPTIONS,
    build_3dino,
    build_primus,
)

ENTRIES: tuple[ModelEntry, ...] = (
    *(
        ModelEntry(
            name=f"primus_{size}",
            description=f"Primus-{size.upper()}: {blocks} blocks of EVA-02 of width {width}, "
            "patches of 8x8x8 voxels",
            family="primus",
            native="volume",
            reference="dynamic_network_architectures.architectures.primus.Primus",
            build=partial(build_primus, width, blocks, heads),
            options=VOLUME_OPTIONS,
        )
        for size, (width, blocks, heads) in PRIMUS_SIZES.items()
    ),
    ModelEntry(
        name="vit_large_3dino",
        description="ViT-L of 3DINO: DINOv2's on patches of 16x16x16 voxels",
        family="vit",
        native="volume",
        reference="dinov2.models.vision_transformer.vit_large_3d (AICONSlab/3DINO)",
        build=build_3dino,
        options=VOLUME_OPTIONS,
    ),
)
