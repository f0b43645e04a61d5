"""mmaction2's SlowFast and PySlowFast's X3D, which PyTorchVideo builds otherwise."""

from __future__ import annotations

from voxgraft.weights.source import InputContract, Source, WebFile

_NOTE = "the code is Apache-2.0; no licence is stated for the weights"
_MMACTION = "https://download.openmmlab.com/mmaction/v1.0/recognition/slowfast"
_PYSLOWFAST = "https://dl.fbaipublicfiles.com/pyslowfast/x3d_models"
_K400 = "Kinetics-400"
_SLOWFAST_HEAD = 2305 * 400
_X3D_HEAD = 2049 * 400


def _slowfast(architecture: str, tag: str, folder: str, file: str, parameters: int) -> Source:
    return Source(
        id=f"slowfast_plain_{architecture}.{tag}",
        file=WebFile(url=f"{_MMACTION}/{folder}/{folder}_{file}.pth"),
        sha256=None,
        layout="video",
        input=InputContract(
            channels=3, mean=(0.485, 0.456, 0.406), sd=(0.229, 0.224, 0.225), size=(32, 224, 224)
        ),
        architecture=f"slowfast_plain_{architecture}",
        key_layout="mmaction-slowfast",
        stem=("blocks.0.multipathway_blocks.0.conv", "blocks.0.multipathway_blocks.1.conv"),
        head=("cls_head",),
        parameters=parameters + _SLOWFAST_HEAD,
        head_parameters=_SLOWFAST_HEAD,
        paper="arXiv:1812.03982",
        trained_on=(_K400,),
        note=_NOTE,
    )


def _x3d(size: str, clip: tuple[int, int, int], parameters: int) -> Source:
    network = "l" if size == "l" else "m"
    return Source(
        id=f"x3d_normalized_{network}.pyslowfast_k400" + ("" if size == network else f"_{size}"),
        file=WebFile(url=f"{_PYSLOWFAST}/x3d_{size}.pyth"),
        sha256=None,
        layout="video",
        input=InputContract(
            channels=3, mean=(0.45, 0.45, 0.45), sd=(0.225, 0.225, 0.225), size=clip
        ),
        architecture=f"x3d_normalized_{network}",
        key_layout="pyslowfast-x3d",
        stem=("blocks.0.conv.conv_t",),
        head=("head.projection",),
        parameters=parameters + _X3D_HEAD,
        head_parameters=_X3D_HEAD,
        paper="arXiv:2004.04730",
        trained_on=(_K400,),
        note=_NOTE,
    )


_R50, _4X16, _R101, _MIXED = 33_643_560, 33_557_288, 61_990_312, 61_462_312
_M, _L = 2_974_722, 5_333_832

SOURCES: tuple[Source, ...] = (
    _slowfast(
        "r50",
        "mmaction_k400_8x8",
        "slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb",
        "20220818-1cb6dfc8",
        _R50,
    ),
    _slowfast(
        "r50",
        "mmaction_k400_8x8_steps",
        "slowfast_r50_8xb8-8x8x1-steplr-256e_kinetics400-rgb",
        "20220818-b62a501f",
        _R50,
    ),
    _slowfast(
        "4x16_r50",
        "mmaction_k400",
        "slowfast_r50_8xb8-4x16x1-256e_kinetics400-rgb",
        "20220901-701b0f6f",
        _4X16,
    ),
    _slowfast(
        "r101",
        "mmaction_k400_8x8",
        "slowfast_r101_8xb8-8x8x1-256e_kinetics400-rgb",
        "20220818-9c0e09bd",
        _R101,
    ),
    _slowfast(
        "4x16_r101_r50",
        "mmaction_k400",
        "slowfast_r101-r50_32xb8-4x16x1-256e_kinetics400-rgb",
        "20220901-a77ac3ee",
        _MIXED,
    ),
    _x3d("xs", (4, 160, 160), _M),
    _x3d("s", (13, 160, 160), _M),
    _x3d("m", (16, 224, 224), _M),
    _x3d("l", (16, 312, 312), _L),
)
