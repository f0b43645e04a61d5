"""What the registry says of the convolutional networks of the medical field that MONAI lacks."""

from __future__ import annotations

from functools import partial
from typing import Literal

from voxgraft.models.entry import ModelEntry
from voxgraft.models.volumetric.medical_resnet import (
    Blocks,
    Shortcut,
    build_fmcib,
    build_medicalnet,
    build_merlin,
)
from voxgraft.models.volumetric.nnunet import build_nnunet
from voxgraft.models.volumetric.nnunet_plan import PLAIN_5, PLAIN_6, RESIDUAL_6, NnUNetPlan
from voxgraft.models.volumetric.penet import build_penet
from voxgraft.models.volumetric.stunet import build_stunet

_MEDICALNET: dict[int, tuple[Literal["basic", "bottleneck"], Blocks, Shortcut]] = {
    10: ("basic", (1, 1, 1, 1), "B"),
    18: ("basic", (2, 2, 2, 2), "A"),
    34: ("basic", (3, 4, 6, 3), "A"),
    50: ("bottleneck", (3, 4, 6, 3), "B"),
    101: ("bottleneck", (3, 4, 23, 3), "B"),
    152: ("bottleneck", (3, 8, 36, 3), "B"),
    200: ("bottleneck", (3, 24, 36, 3), "B"),
}
"""Layers, and the blocks and shortcuts that the published weights have."""

_STUNET = {
    "s": (1, (16, 32, 64, 128, 256, 256)),
    "b": (1, (32, 64, 128, 256, 512, 512)),
    "l": (2, (64, 128, 256, 512, 1024, 1024)),
    "h": (3, (96, 192, 384, 768, 1536, 1536)),
}

_PLAN_OPTIONS = frozenset({"axes", "features", "blocks", "kernels", "strides", "seed"})


def _medicalnet(layers: int) -> ModelEntry:
    block, blocks, shortcut = _MEDICALNET[layers]
    return ModelEntry(
        name=f"medicalnet_resnet{layers}_3d",
        description=f"MedicalNet's ResNet-{layers}: {block} blocks {blocks}, shortcuts of type "
        f"{shortcut}, last stages dilated",
        family="medicalnet",
        build=partial(build_medicalnet, block, blocks, shortcut=shortcut),
        options=frozenset({"axes", "shortcut", "dilated", "seed"}),
        native="volume",
        reference="MedicalNet models.resnet.ResNet",
    )


def _nnunet(
    name: str, kind: Literal["plain", "residual"], plan: NnUNetPlan, description: str
) -> ModelEntry:
    original = "ResidualEncoderUNet" if kind == "residual" else "PlainConvUNet"
    return ModelEntry(
        name=name,
        description=description,
        family="nnunet",
        build=partial(build_nnunet, kind, plan),
        options=_PLAN_OPTIONS,
        native="volume",
        reference=f"dynamic_network_architectures.{original}.encoder",
    )


def _stunet(size: str) -> ModelEntry:
    blocks, widths = _STUNET[size]
    return ModelEntry(
        name=f"stunet_{size}_3d",
        description=f"encoder of STU-Net-{size.upper()}: {blocks} residual blocks a stage, "
        f"{widths[0]} to {widths[-1]} channels",
        family="stunet",
        build=partial(build_stunet, widths, blocks),
        options=frozenset({"axes", "seed"}),
        native="volume",
        reference="STU-Net nnunet.network_architecture.STUNet",
    )


ENTRIES: tuple[ModelEntry, ...] = (
    *(_medicalnet(layers) for layers in _MEDICALNET),
    ModelEntry(
        name="merlin_resnet152_3d",
        description="image encoder of Merlin: ResNet-152 inflated to kernels three slices deep",
        family="merlin",
        build=build_merlin,
        options=frozenset({"axes", "seed"}),
        native="volume",
        reference="merlin.models.i3res.I3ResNet",
    ),
    ModelEntry(
        name="fmcib_resnet50_3d",
        description="encoder of FMCIB, for lesions in CT: ResNet-50 of twice the width",
        family="fmcib",
        build=build_fmcib,
        native="volume",
        reference="monai.networks.nets.resnet50",
    ),
    ModelEntry(
        name="penet_3d",
        description="PENet: grouped bottlenecks (3, 4, 6, 3) with group normalization and gates",
        family="penet",
        build=build_penet,
        options=frozenset({"drop_path", "seed"}),
        native="video",
        reference="penet models.PENetClassifier",
    ),
    _nnunet(
        "nnunet_3d",
        "plain",
        PLAIN_6,
        "encoder of nnU-Net's plain U-Net, six stages; its plan's lists are options",
    ),
    _nnunet(
        "nnunet_5_stages_3d",
        "plain",
        PLAIN_5,
        "encoder of nnU-Net's plain U-Net, five stages, for small patches",
    ),
    _nnunet(
        "nnunet_resenc_3d",
        "residual",
        RESIDUAL_6,
        "encoder of nnU-Net's residual U-Net (ResEnc M, L and XL, which differ in patch size)",
    ),
    *(_stunet(size) for size in _STUNET),
)
