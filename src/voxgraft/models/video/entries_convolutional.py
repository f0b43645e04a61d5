"""What the registry says of the convolutional video networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from voxgraft.models.encoder import Encoder
from voxgraft.models.entry import ModelEntry
from voxgraft.models.video.hara_resnet import build_hara
from voxgraft.models.video.inception import build_inception_i3d
from voxgraft.models.video.residual_blocks import Middle
from voxgraft.models.video.residual_network import ResidualPlan, build_residual_network
from voxgraft.models.video.slowfast import SlowFastPlan, build_slowfast
from voxgraft.models.video.torchvision_networks import (
    MC3_18,
    R2PLUS1D_18,
    R2PLUS1D_34,
    R3D_18,
    S3D,
    build_torchvision,
)
from voxgraft.models.video.x3d import X3DPlan, build_x3d
from voxgraft.models.volumetric.medical_resnet import Blocks

_CSN = "mmaction.models.backbones.ResNet3dCSN"
_HUB = "pytorchvideo.models.hub"
_PADDED = frozenset({"depth_padding", "seed"})

_POOLED = _PADDED | {"pooling"}
_SLOW_DEPTHS = ((1,), (1,), (3,), (3,))
_ALL_HALVED = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
_CSN_STRIDES = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))
_SIX_OF_23 = (3,) * 6 + (1,) * 17


def _entry(
    name: str,
    family: str,
    description: str,
    reference: str,
    build: Callable[..., Encoder],
    options: frozenset[str] = _PADDED,
) -> ModelEntry:
    return ModelEntry(
        name=name,
        description=description,
        family=family,
        build=build,
        options=options,
        native="video",
        reference=reference,
    )


def _torchvision() -> list[ModelEntry]:
    described = (
        (R3D_18, "residual network of (3, 3, 3) kernels"),
        (MC3_18, "residual network, (3, 3, 3) kernels first, then (1, 3, 3)"),
        (R2PLUS1D_18, "residual network, kernels separated into plane and depth"),
        (R2PLUS1D_34, "residual network of 34 layers, kernels separated into plane and depth"),
        (S3D, "inception network, kernels separated into plane and depth"),
    )
    return [
        _entry(
            plan.name,
            plan.family,
            text,
            plan.original,
            partial(build_torchvision, plan),
            frozenset({"seed"}),
        )
        for plan, text in described
    ]


def _csn(blocks: Blocks, middle: Middle) -> ResidualPlan:
    return ResidualPlan(
        reference=_CSN,
        blocks=blocks,
        stem_depth=3,
        middle=middle,
        strides=_CSN_STRIDES,
        epsilon=1e-3,
        window=None,
    )


def _residual() -> list[ModelEntry]:
    every_other = ((3,), (3, 1), (3, 1), (1, 3))
    described = {
        "slow_r50": (
            ResidualPlan(reference=f"{_HUB}.slow_r50", first_depths=_SLOW_DEPTHS, window=(8, 7, 7)),
            "slow pathway alone: depth kept whole, seen from the third stage on",
        ),
        "slow_r101": (
            ResidualPlan(
                reference="pytorchvideo.models.resnet.create_resnet(model_depth=101)",
                blocks=(3, 4, 23, 3),
                first_depths=_SLOW_DEPTHS,
                window=None,  # as in mmaction2, of which its public weights are
            ),
            "slow pathway alone, 101 layers",
        ),
        "c2d_r50": (
            ResidualPlan(reference=f"{_HUB}.c2d_r50", depth_halved=True),
            "2D kernels slice by slice, one pooling along depth",
        ),
        "i3d_r50": (
            ResidualPlan(
                reference=f"{_HUB}.i3d_r50",
                stem_depth=5,
                depth_halved=True,
                first_depths=every_other,
            ),
            "inflated residual network: three slices in every other block",
        ),
        "r2plus1d_r50": (
            ResidualPlan(
                reference=f"{_HUB}.r2plus1d_r50",
                stem_pooled=False,
                middle="separated",
                strides=_ALL_HALVED,
            ),
            "bottlenecks with kernels separated into depth and plane",
        ),
        "csn_r101": (
            ResidualPlan(
                reference=f"{_HUB}.csn_r101",
                blocks=(3, 4, 23, 3),
                stem_depth=3,
                middle="depthwise",
                strides=_CSN_STRIDES,
            ),
            "bottlenecks with depthwise (3, 3, 3) kernels",
        ),
        "ircsn_r50": (
            _csn((3, 4, 6, 3), "depthwise"),
            "bottlenecks with depthwise (3, 3, 3) kernels, as trained on IG-65M",
        ),
        "ircsn_r152": (
            _csn((3, 8, 36, 3), "depthwise"),
            "bottlenecks with depthwise (3, 3, 3) kernels, 152 layers",
        ),
        "ipcsn_r152": (
            _csn((3, 8, 36, 3), "preserved"),
            "bottlenecks with (1, 1, 1), then depthwise (3, 3, 3) kernels, 152 layers",
        ),
    }
    return [
        _entry(
            name,
            "video_resnet",
            text,
            plan.reference,
            partial(build_residual_network, plan),
            _PADDED if plan.window is None else _POOLED,
        )
        for name, (plan, text) in described.items()
    ]


def _slowfast() -> list[ModelEntry]:
    deep = (3, 4, 23, 3)
    described = {
        "slowfast_r50": (
            SlowFastPlan(reference=f"{_HUB}.slowfast_r50"),
            "two pathways: every slice, and one slice in four",
        ),
        "slowfast_4x16_r50": (
            SlowFastPlan(
                reference="pytorchvideo.models.slowfast.create_slowfast",
                step=8,
                fusion_depth=5,
            ),
            "two pathways: every slice, and one slice in eight",
        ),
        "slowfast_r101": (
            SlowFastPlan(reference=f"{_HUB}.slowfast_r101", blocks=deep, fusion_depth=5),
            "two pathways of 101 layers: every slice, and one slice in four",
        ),
        "slowfast_16x8_r101_50_50": (
            SlowFastPlan(
                reference=f"{_HUB}.slowfast_16x8_r101_50_50",
                blocks=deep,
                fusion_depth=5,
                slow_depths=((1,), (1,), _SIX_OF_23, (3,)),
                fast_depths=((3,), (3,), _SIX_OF_23, (3,)),
            ),
            "two pathways of 101 layers, fewer kernels along depth in the third stage",
        ),
    }
    return [
        _entry(name, "slowfast", text, plan.reference, partial(build_slowfast, plan))
        for name, (plan, text) in described.items()
    ]


def _x3d() -> list[ModelEntry]:
    plans = {
        size: X3DPlan(reference=f"{_HUB}.x3d_{size}", deeper=5.0 if size == "l" else 2.2)
        for size in ("xs", "s", "m", "l")
    }
    text = "narrow residual network of depthwise kernels with channel attention"
    return [
        _entry(f"x3d_{size}", "x3d", text, plan.reference, partial(build_x3d, plan))
        for size, plan in plans.items()
    ]


_HARA: dict[int, tuple[Literal["basic", "bottleneck"], Blocks]] = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),
}


def _hara() -> list[ModelEntry]:
    return [
        _entry(
            f"hara_resnet{layers}_3d",
            "hara_resnet",
            f"Hara's 3D ResNet-{layers}: {block} blocks {blocks}, stem (7, 7, 7)",
            "kenshohara/3D-ResNets-PyTorch models.resnet.ResNet",
            partial(build_hara, block, blocks),
            frozenset({"seed"}),
        )
        for layers, (block, blocks) in _HARA.items()
    ]


ENTRIES: tuple[ModelEntry, ...] = (
    *_torchvision(),
    *_residual(),
    *_slowfast(),
    *_x3d(),
    *_hara(),
    _entry(
        "inception_i3d",
        "inception_i3d",
        "the first I3D: Inception with kernels inflated to (3, 3, 3) and (7, 7, 7)",
        "piergiaj/pytorch-i3d pytorch_i3d.InceptionI3d",
        build_inception_i3d,
    ),
)
