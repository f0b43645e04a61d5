"""What the registry says of MONAI's networks and of Models Genesis' U-Net."""

from __future__ import annotations

from functools import partial

from voxgraft.models.entry import ModelEntry
from voxgraft.models.volumetric.genesis_unet import build_genesis_unet
from voxgraft.models.volumetric.residual_unet import build_residual_unet
from voxgraft.models.volumetric.segresnet import build_segresnet, build_segresnet_ds
from voxgraft.models.volumetric.swin_unetr import build_swin_unetr
from voxgraft.models.volumetric.unetr_vit import build_monai_vit

_SEGRESNET = "monai.networks.nets.SegResNet"
_SEGRESNET_DS = "monai.networks.nets.segresnet_ds.SegResEncoder"
_OPTIONS = frozenset({"axes", "seed"})
_SWIN_UNETR = "monai.networks.nets.SwinUNETR"


def _segresnet(filters: int) -> ModelEntry:
    return ModelEntry(
        name=f"segresnet_{filters}",
        description=f"encoder of SegResNet, {filters} channels at full resolution, blocks 1-2-2-4",
        family="segresnet",
        build=partial(build_segresnet, filters),
        options=_OPTIONS,
        native="volume",
        reference=_SEGRESNET,
    )


def _segresnet_ds(filters: int, norm: str) -> ModelEntry:
    return ModelEntry(
        name=f"segresnet_ds_{norm}_{filters}",
        description=f"SegResNetDS's encoder, {filters} channels, {norm} normalization, "
        "blocks 1-2-2-4-4",
        family="segresnet_ds",
        build=partial(build_segresnet_ds, filters, norm),
        options=_OPTIONS,
        native="volume",
        reference=_SEGRESNET_DS,
    )


def _swin_unetr(feature_size: int, v2: bool) -> ModelEntry:
    return ModelEntry(
        name=f"swin_unetr_{'v2_' if v2 else ''}{feature_size}",
        description=f"Swin transformer of Swin UNETR{' V2' if v2 else ''}, windows of 7x7x7, "
        f"feature size {feature_size}",
        family="swin_unetr",
        build=partial(build_swin_unetr, feature_size, v2),
        options=_OPTIONS | {"drop_path"},
        native="volume",
        reference=_SWIN_UNETR,
    )


ENTRIES: tuple[ModelEntry, ...] = (
    _segresnet(8),
    _segresnet(16),
    _segresnet(32),
    _segresnet_ds(32, "batch"),
    _segresnet_ds(48, "instance"),
    _swin_unetr(12, v2=False),
    _swin_unetr(24, v2=False),
    _swin_unetr(48, v2=False),
    _swin_unetr(48, v2=True),
    _swin_unetr(96, v2=True),
    _swin_unetr(192, v2=True),
    ModelEntry(
        name="monai_vit_b16",
        description="MONAI's ViT-B of UNETR: patches of 16x16x16, positions of 96x96x96 voxels",
        family="monai_vit",
        build=build_monai_vit,
        options=_OPTIONS,
        native="volume",
        reference="monai.networks.nets.ViT",
    ),
    ModelEntry(
        name="genesis_unet",
        description="encoder of Models Genesis' 3D U-Net, 64-128-256-512 channels",
        family="genesis_unet",
        build=build_genesis_unet,
        options=_OPTIONS,
        native="volume",
        reference="github.com/MrGiovanni/ModelsGenesis pytorch/unet3d.py UNet3D",
    ),
    ModelEntry(
        name="residual_unet_256",
        description="encoder of MONAI's U-Net, 16-32-64-128-256 channels, residual units of two",
        family="residual_unet",
        build=partial(build_residual_unet, (16, 32, 64, 128, 256), 2),
        options=_OPTIONS,
        native="volume",
        reference="monai.networks.nets.UNet",
    ),
    ModelEntry(
        name="residual_unet_512",
        description="encoder of MONAI's U-Net, 16-32-64-128-256-512 channels, residual units of "
        "four",
        family="residual_unet",
        build=partial(build_residual_unet, (16, 32, 64, 128, 256, 512), 4),
        options=_OPTIONS,
        native="volume",
        reference="monai.networks.nets.UNet",
    ),
)
