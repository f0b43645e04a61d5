"""Convolutional networks trained on video."""

from __future__ import annotations

from voxgraft.weights.catalog import video_hara, video_i3d, video_openmmlab
from voxgraft.weights.source import InputContract, Source, WebFile

_K400 = "Kinetics-400"
_ZOO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo"
_SELF_SUPERVISED = "https://dl.fbaipublicfiles.com/pyslowfast/videomoco_models"
_IG65M = "https://github.com/moabitcoin/ig65m-pytorch/releases/download/v1.0.0"

_CODE_BSD = "the code is BSD-3-Clause; no licence is stated for the weights"
_CODE_APACHE = "the code is Apache-2.0; no licence is stated for the weights"
_CODE_MIT = (
    "converted from Caffe2 by others, whose code is MIT; no licence is stated for the weights"
)
_REVERSED = "; trained with the channels in the order blue, green, red"

_RESIDUAL_STEM = ("blocks.0.conv",)
_TWO_STEMS = ("blocks.0.multipathway_blocks.0.conv", "blocks.0.multipathway_blocks.1.conv")
_X3D_STEM = ("blocks.0.conv.conv_t",)

_ONE_NETWORK = ("x3d_xs", "x3d_s", "x3d_m")
"""The same network, trained at different sizes."""

_PAPERS = {
    "slow_": "arXiv:1812.03982",
    "slowfast_": "arXiv:1812.03982",
    "c2d_": "arXiv:1711.07971",
    "i3d_": "arXiv:1705.07750",
    "csn_": "arXiv:1904.02811",
    "r2plus1d_": "arXiv:1711.11248",
    "x3d_": "arXiv:2004.04730",
}


def _torchvision(
    name: str,
    prefix: str,
    size: tuple[int, int, int] | None,
    parameters: int,
    *,
    stem: str = "stem.0",
    head: str = "fc",
    head_parameters: int = 205_200,
    paper: str = "arXiv:1711.11248",
) -> Source:
    return Source(
        id=f"{name}.kinetics400_v1",
        file=WebFile(url=f"https://download.pytorch.org/models/{name}-{prefix}.pth"),
        sha256=None,
        sha256_begins=prefix,
        layout="video",
        input=InputContract(
            channels=3,
            mean=(0.43216, 0.394666, 0.37645),
            sd=(0.22803, 0.22145, 0.216989),
            size=size,
        ),
        architecture=name,
        key_layout="torchvision-video",
        stem=(stem,),
        head=(head,),
        parameters=parameters,
        head_parameters=head_parameters,
        paper=paper,
        trained_on=(_K400,),
        note=_CODE_BSD,
    )


def _ig65m(clip: int, data: str, suffix: str, classes: int, trained_on: tuple[str, ...]) -> Source:
    fine_tuned = _K400 in trained_on
    kind = "ft_kinetics_from_ig65m" if fine_tuned else "ig65m_from_scratch"
    head = 513 * classes
    return Source(
        id=f"r2plus1d_34.{data}_clip{clip}",
        file=WebFile(url=f"{_IG65M}/r2plus1d_34_clip{clip}_{kind}-{suffix}.pth"),
        sha256=None,
        layout="video",
        input=InputContract(
            channels=3,
            mean=(0.43216, 0.394666, 0.37645),
            sd=(0.22803, 0.22145, 0.216989),
            size=(clip, 112, 112),
        ),
        architecture="r2plus1d_34",
        key_layout="torchvision-video",
        stem=("stem.0",),
        head=("fc",),
        parameters=63_491_975 + head,
        head_parameters=head,
        paper="arXiv:1905.00561",
        trained_on=trained_on,
        note=_CODE_MIT,
    )


def _zoo(
    architecture: str,
    tag: str,
    file: str,
    size: tuple[int, int, int],
    parameters: int,
    *,
    head: str = "blocks.5.proj",
    classes: int = 400,
    data: str | None = None,
) -> Source:
    two = architecture.startswith("slowfast_")
    stem = _X3D_STEM if architecture.startswith("x3d_") else _RESIDUAL_STEM
    width = 2048 + (256 if two else 0)
    head_parameters = (width + 1) * classes
    return Source(
        id=f"{architecture}.{tag}",
        file=WebFile(url=f"{_ZOO}/{file}"),
        sha256=None,
        layout="video",
        input=InputContract(
            channels=3, mean=(0.45, 0.45, 0.45), sd=(0.225, 0.225, 0.225), size=size
        ),
        architecture=architecture,
        also_fits=tuple(
            other
            for other in _ONE_NETWORK
            if architecture in _ONE_NETWORK and other != architecture
        ),
        key_layout="pytorchvideo",
        stem=_TWO_STEMS if two else stem,
        head=(head,),
        parameters=parameters + head_parameters,
        head_parameters=head_parameters,
        paper=next(paper for mark, paper in _PAPERS.items() if architecture.startswith(mark)),
        trained_on=(_K400,) if data is None else (_K400, data),
        note=_CODE_APACHE + ("" if data is None else _REVERSED),
    )


def _contrastive(method: str, rho: int, frames: int = 8) -> Source:
    clip = f"{frames}x{64 // frames}"
    return Source(
        id=f"slow_r50.{method.lower()}_{clip}_rho{rho}_k400",
        file=WebFile(url=f"{_SELF_SUPERVISED}/{method}_SlowR50_{clip}_T{rho}_epoch_00200.pyth"),
        sha256=None,
        layout="video",
        input=InputContract(
            channels=3,
            mean=(0.45, 0.45, 0.45),
            sd=(0.225, 0.225, 0.225),
            size=(frames, 224, 224),
        ),
        architecture="slow_r50",
        key_layout="pyslowfast",
        stem=_RESIDUAL_STEM,
        head=("head",),
        parameters=None,
        paper="arXiv:2104.14558",
        trained_on=(_K400,),
        note=f"trained without labels; {_CODE_APACHE}",
    )


_SLOW, _TWO, _SSV2, _CHARADES = 31_634_496, 33_644_488, "Something-Something V2", "Charades"

SOURCES: tuple[Source, ...] = (
    _torchvision("r3d_18", "b3b3357e", (16, 112, 112), 33_371_472),
    _torchvision("mc3_18", "a90a0ba3", (16, 112, 112), 11_695_440),
    _torchvision("r2plus1d_18", "91a641e6", (16, 112, 112), 31_505_325),
    _torchvision(
        "s3d",
        "d76dad2f",
        None,
        8_320_048,
        stem="features.0.0.0",
        head="classifier",
        head_parameters=410_000,
        paper="arXiv:1712.04851",
    ),
    _ig65m(8, "ig65m", "9bae36ae", 487, ("IG-65M",)),
    _ig65m(8, "ig65m_k400", "0aa0550b", 400, ("IG-65M", _K400)),
    _ig65m(32, "ig65m", "449a7af9", 359, ("IG-65M",)),
    _ig65m(32, "ig65m_k400", "ade133f1", 400, ("IG-65M", _K400)),
    _zoo("slow_r50", "k400_8x8", "kinetics/SLOW_8x8_R50.pyth", (8, 224, 224), _SLOW),
    _zoo("slow_r50", "k400_4x16", "kinetics/SLOW_4x16_R50.pyth", (4, 224, 224), _SLOW),
    _zoo(
        "slow_r50",
        "ssv2_8x8",
        "ssv2/SLOW_8x8_R50.pyth",
        (8, 224, 224),
        _SLOW,
        classes=174,
        data=_SSV2,
    ),
    _zoo(
        "slow_r50",
        "charades_8x8",
        "charades/SLOW_8x8_R50.pyth",
        (8, 224, 224),
        _SLOW,
        classes=157,
        data=_CHARADES,
    ),
    _zoo(
        "c2d_r50",
        "k400_8x8",
        "kinetics/C2D_8x8_R50.pyth",
        (8, 224, 224),
        23_508_032,
        head="blocks.6.proj",
    ),
    _zoo(
        "i3d_r50",
        "k400_8x8",
        "kinetics/I3D_8x8_R50.pyth",
        (8, 224, 224),
        27_223_872,
        head="blocks.6.proj",
    ),
    _zoo(
        "r2plus1d_r50",
        "k400_16x4",
        "kinetics/R2PLUS1D_16x4_R50.pyth",
        (16, 224, 224),
        27_288_000,
    ),
    _zoo("csn_r101", "k400_32x2", "kinetics/CSN_32x2_R101.pyth", (32, 224, 224), 21_394_176),
    _zoo(
        "slowfast_r50",
        "k400_8x8",
        "kinetics/SLOWFAST_8x8_R50.pyth",
        (32, 224, 224),
        _TWO,
        head="blocks.6.proj",
    ),
    _zoo(
        "slowfast_4x16_r50",
        "k400",
        "kinetics/SLOWFAST_4x16_R50.pyth",
        (32, 224, 224),
        33_558_216,
        head="blocks.6.proj",
    ),
    _zoo(
        "slowfast_r50",
        "ssv2_8x8",
        "ssv2/SLOWFAST_8x8_R50.pyth",
        (32, 224, 224),
        _TWO,
        head="blocks.6.proj",
        classes=174,
        data=_SSV2,
    ),
    _zoo(
        "slowfast_r50",
        "charades_8x8",
        "charades/SLOWFAST_8x8_R50.pyth",
        (32, 224, 224),
        _TWO,
        head="blocks.6.proj",
        classes=157,
        data=_CHARADES,
    ),
    _zoo(
        "slowfast_r101",
        "k400_8x8",
        "kinetics/SLOWFAST_8x8_R101.pyth",
        (32, 224, 224),
        61_904_968,
        head="blocks.6.proj",
    ),
    _zoo(
        "slowfast_16x8_r101_50_50",
        "k400",
        "kinetics/SLOWFAST_16x8_R101_50_50.pyth",
        (64, 224, 224),
        52_852_808,
        head="blocks.6.proj",
    ),
    _zoo("x3d_xs", "k400", "kinetics/X3D_XS.pyth", (4, 160, 160), 2_974_674),
    _zoo("x3d_s", "k400", "kinetics/X3D_S.pyth", (13, 160, 160), 2_974_674),
    _zoo("x3d_m", "k400", "kinetics/X3D_M.pyth", (16, 224, 224), 2_974_674),
    _zoo("x3d_l", "k400", "kinetics/X3D_L.pyth", (16, 312, 312), 5_333_784),
    _contrastive("MoCo", 2),
    _contrastive("MoCo", 4),
    _contrastive("BYOL", 2),
    _contrastive("BYOL", 4),
    _contrastive("BYOL", 4, frames=16),
    _contrastive("SimCLR", 2),
    _contrastive("SwAV", 2),
    *video_hara.SOURCES,
    *video_openmmlab.SOURCES,
    *video_i3d.SOURCES,
)
