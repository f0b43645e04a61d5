"""MONAI's networks trained on CT and MRI: Swin UNETR, VoCo, and the bundles of the model zoo."""

from __future__ import annotations

from voxgraft.types import Spacing3
from voxgraft.weights.catalog.class_names import BTCV_CLASSES
from voxgraft.weights.source import (
    UNSTATED,
    BroughtFile,
    HubFile,
    InputContract,
    Origin,
    Source,
    WebFile,
)

SWIN_UNETR_DECODER = (
    *("encoder1", "encoder2", "encoder3", "encoder4", "encoder10"),
    *("decoder5", "decoder4", "decoder3", "decoder2", "decoder1"),
)
_RELEASES = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1"
_ZOO = "https://github.com/Project-MONAI/model-zoo"
_BTCV_SPACING = (2.0, 1.5, 1.5)
_PRECT_160K = (
    *("PreCT-160K", "AbdomenAtlas 1.0", "BTCV", "CT-RATE", "DeepLesion", "FLARE 2023", "HNSCC"),
    *("KiTS", "LIDC-IDRI", "LiTS", "LUNA16", "MELA", "NLST", "PANORAMA", "STOIC 2021"),
    *("TCIA COVID-19", "TCIA CT Colonography", "TotalSegmentator", "WORD"),
)


def ct(
    low: float,
    high: float,
    spacing_mm: Spacing3 | None = None,
    size: int | None = None,
    axes: str = "RAS",
) -> InputContract:
    """Return the contract of CT in one channel, scaled from a window in HU to [0, 1].

    MONAI's programs turn scans to axes that run to the right, to anterior, to superior.
    """
    return InputContract(
        channels=1,
        mean=(0.0,),
        sd=(1.0,),
        window_hu=(low, high),
        spacing_mm=spacing_mm,
        size=None if size is None else (size, size, size),
        axes=axes,
    )


def _swin_unetr(
    tag: str,
    size: int,
    file: Origin,
    contract: InputContract,
    *,
    parameters: int,
    outputs: int,
    trained_on: tuple[str, ...],
    paper: str,
    licence: str = UNSTATED,
    v2: bool = False,
    note: str = "",
) -> Source:
    name = f"swin_unetr_{'v2_' if v2 else ''}{size}"
    return Source(
        id=f"{name}.{tag}",
        file=file,
        sha256=None,
        licence=licence,
        paper=paper,
        layout="volume",
        input=contract,
        architecture=name,
        key_layout="swin-unetr",
        stem=("swinViT.patch_embed.proj",),
        head=("out",) if outputs else (),
        decoder=SWIN_UNETR_DECODER,
        classes=BTCV_CLASSES if trained_on[0] == "BTCV" and outputs == len(BTCV_CLASSES) else (),
        parameters=parameters,
        head_parameters=outputs * (size + 1),
        trained_on=trained_on,
        note=note,
    )


_SELF_SUPERVISED = Source(
    id="swin_unetr_48.ssl_5050",
    file=WebFile(url=f"{_RELEASES}/model_swinvit.pt"),
    sha256=None,
    paper="arXiv:2111.14791",
    layout="volume",
    input=ct(-1000.0, 1000.0, size=96),
    architecture="swin_unetr_48",
    key_layout="swin-unetr",
    stem=("swinViT.patch_embed.proj",),
    head=(),
    parameters=8_062_002,
    trained_on=("HNSCC", "LIDC-IDRI", "LUNA16", "TCIA COVID-19", "TCIA CT Colonography"),
    note="pre-trained without labels on 5,050 CT scans: the transformer alone",
)

_BTCV = (
    _swin_unetr(
        "btcv",
        48,
        HubFile(repository="MONAI/swin_unetr_btcv_segmentation", filename="models/model.pt"),
        ct(-175.0, 250.0, _BTCV_SPACING, 96),
        parameters=62_187_296,
        outputs=14,
        trained_on=("BTCV",),
        paper="arXiv:2201.01266",
        licence="apache-2.0",
        note="segments 13 abdominal organs; the bundle swin_unetr_btcv_segmentation",
    ),
    *(
        _swin_unetr(
            "btcv_base" if size == 48 else "btcv_scratch",
            size,
            WebFile(url=f"{_RELEASES}/swin_unetr.{kind}_5000ep_f{size}_lr2e-4_pretrained.pt"),
            ct(-175.0, 250.0, _BTCV_SPACING, 96),
            parameters=parameters,
            outputs=14,
            trained_on=data,
            paper="arXiv:2111.14791" if size == 48 else "arXiv:2201.01266",
            note=f"segments 13 abdominal organs, fine-tuned from {start}",
        )
        for size, kind, parameters, data, start in (
            (
                48,
                "base",
                62_187_296,
                ("BTCV", *_SELF_SUPERVISED.trained_on),
                "the weights of swin_unetr_48.ssl_5050",
            ),
            (24, "small", 15_703_304, ("BTCV",), "random weights"),
            (12, "tiny", 4_078_220, ("BTCV",), "random weights"),
        )
    ),
)

_BRATS21 = tuple(
    _swin_unetr(
        f"brats21_fold{fold}",
        48,
        BroughtFile(
            where=f"{_RELEASES}/fold{fold}_f48_ep300_4gpu_dice0_{dice}.zip (unpack it)",
            filename="model.pt",
        ),
        InputContract(
            channels=4, mean=(0.0,) * 4, sd=(1.0,) * 4, value_range=(-2.0, 2.0), z_score=True
        ),
        parameters=62_191_941,
        outputs=3,
        trained_on=("BraTS 2021",),
        paper="arXiv:2201.01266",
        note=(
            "segments brain tumours; each of the four sequences was standardized over its voxels "
            f"other than 0; trained on all folds but {fold}"
        ),
    )
    for fold, dice in ((0, "8854"), (1, "9059"), (2, "8981"), (3, "8924"), (4, "9035"))
)

_VOCO_SSL = {48: ("B", 53_164_146), 96: ("L", 211_999_362), 192: ("H", 847_276_194)}
_VOCO_OMNI = {48: ("B", 72_762_999), 96: ("L", 290_392_695), 192: ("H", 1_160_845_431)}

_VOCO = (
    *(
        Source(
            id=f"swin_unetr_v2_{size}.voco_ssl",
            file=HubFile(repository="Luffy503/VoCo", filename=f"VoCo_{letter}_SSL_head.pt"),
            sha256=None,
            licence="apache-2.0",
            paper="arXiv:2410.09890",
            layout="volume",
            input=ct(-175.0, 250.0, (1.5, 1.5, 1.5), 64),
            architecture=f"swin_unetr_v2_{size}",
            key_layout="swin-unetr",
            stem=("swinViT.patch_embed.proj",),
            head=(),
            decoder=SWIN_UNETR_DECODER[:5],
            parameters=parameters,
            trained_on=_PRECT_160K,
            note="pre-trained without labels; no decoder but its first blocks",
        )
        for size, (letter, parameters) in _VOCO_SSL.items()
    ),
    *(
        _swin_unetr(
            "voco_omni",
            size,
            HubFile(repository="Luffy503/VoCo", filename=f"VoComni_{letter}.pt"),
            ct(-175.0, 250.0, (1.5, 1.5, 1.5), 64),
            parameters=parameters,
            outputs=21,
            trained_on=("VoComni", *_PRECT_160K),
            paper="arXiv:2410.09890",
            licence="apache-2.0",
            v2=True,
            note="pre-trained with and without labels; segments 20 organs and tumours",
        )
        for size, (letter, parameters) in _VOCO_OMNI.items()
    ),
)


def _segresnet(
    tag: str,
    filters: int,
    file: Origin,
    contract: InputContract,
    *,
    parameters: int,
    outputs: int,
    trained_on: tuple[str, ...],
    paper: str,
    note: str,
) -> Source:
    return Source(
        id=f"segresnet_{filters}.{tag}",
        file=file,
        sha256=None,
        licence="apache-2.0",
        paper=paper,
        layout="volume",
        input=contract,
        architecture=f"segresnet_{filters}",
        key_layout="segresnet",
        stem=("convInit.conv",),
        head=("conv_final.2",),
        decoder=("up_layers", "up_samples", "conv_final.0"),
        parameters=parameters,
        head_parameters=outputs * (filters + 1),
        trained_on=trained_on,
        note=note,
    )


def _whole_body(tag: str, file: str, spacing_mm: float) -> Source:
    return _segresnet(
        tag,
        32,
        HubFile(repository="MONAI/wholeBody_ct_segmentation", filename=f"models/{file}"),
        InputContract(
            channels=1,
            mean=(0.0,),
            sd=(1.0,),
            value_range=(-1.0, 1.0),
            spacing_mm=(spacing_mm, spacing_mm, spacing_mm),
            size=(96, 96, 96),
            axes="RAS",
        ),
        parameters=18_799_401,
        outputs=105,
        trained_on=("TotalSegmentator",),
        paper="arXiv:2209.10809",
        note=(
            "segments 104 structures; each scan was standardized over its voxels other than 0, "
            "then scaled to [-1, 1]"
        ),
    )


_BUNDLES = (
    _whole_body("whole_body", "model.pt", 1.5),
    _whole_body("whole_body_3mm", "model_lowres.pt", 3.0),
    _segresnet(
        "brats18",
        16,
        HubFile(repository="MONAI/brats_mri_segmentation", filename="models/model.pt"),
        InputContract(
            channels=4,
            mean=(0.0,) * 4,
            sd=(1.0,) * 4,
            value_range=(-2.0, 2.0),
            spacing_mm=(1.0, 1.0, 1.0),
            z_score=True,
        ),
        parameters=4_702_227,
        outputs=3,
        trained_on=("BraTS 2018",),
        paper="arXiv:1810.11654",
        note=(
            "segments brain tumours on T1c, T1, T2 and FLAIR, each standardized over its voxels "
            "other than 0"
        ),
    ),
    _segresnet(
        "renal_ct",
        32,
        BroughtFile(
            where=f"{_ZOO}/tree/dev/models/renalStructures_CECT_segmentation (a drive)",
            filename="model.pt",
        ),
        InputContract(
            channels=3,
            mean=(0.0,) * 3,
            sd=(1.0,) * 3,
            window_hu=(-1000.0, 1000.0),
            spacing_mm=(0.8, 0.8, 0.8),
            size=(96, 96, 96),
        ),
        parameters=18_970_118,
        outputs=6,
        trained_on=("AVUCTK (Sechenov University)",),
        paper="https://www.sechenovmedj.com/jour/article/view/899",
        note=(
            "segments kidneys on arterial, venous and excretory CT; its decoder enlarges by "
            "transposed convolutions, other than SegResNet's usual one"
        ),
    ),
)


def _residual_unet(
    tag: str,
    width: int,
    file: Origin,
    contract: InputContract,
    *,
    parameters: int,
    trained_on: tuple[str, ...],
    paper: str,
    note: str,
) -> Source:
    return Source(
        id=f"residual_unet_{width}.{tag}",
        file=file,
        sha256=None,
        licence="apache-2.0",
        paper=paper,
        layout="volume",
        input=contract,
        architecture=f"residual_unet_{width}",
        key_layout="monai-unet",
        stem=("down.0.conv.unit0.conv", "down.0.residual"),
        head=(),
        decoder=("up",),
        parameters=parameters,
        trained_on=trained_on,
        note=note,
    )


_RESIDUAL_UNETS = (
    _residual_unet(
        "spleen_ct",
        256,
        HubFile(repository="MONAI/spleen_ct_segmentation", filename="models/model.pt"),
        ct(-57.0, 164.0, _BTCV_SPACING, 96),
        parameters=4_808_917,
        trained_on=("Medical Segmentation Decathlon",),
        paper="arXiv:1811.12506",
        note="segments the spleen",
    ),
    _residual_unet(
        "prostate_mri",
        512,
        WebFile(url="https://zenodo.org/record/7040585/files/anatomy.pt"),
        InputContract(
            channels=1,
            mean=(0.0,),
            sd=(1.0,),
            value_range=(-2.0, 2.0),
            spacing_mm=(0.5, 0.5, 0.5),
            z_score=True,
            axes="RAS",
        ),
        parameters=38_165_360,
        trained_on=("Prostate158",),
        paper="doi:10.1016/j.compbiomed.2022.105817",
        note="segments the zones of the prostate on T2-weighted MRI",
    ),
)

SOURCES: tuple[Source, ...] = (
    _SELF_SUPERVISED,
    _swin_unetr(
        "ssl_50k",
        48,
        WebFile(url=f"{_RELEASES}/ssl_pretrained_weights.pth"),
        ct(-175.0, 250.0, size=96),
        parameters=62_186_659,
        outputs=1,
        trained_on=("50,000 scans of CT and MRI that nobody names",),
        paper="arXiv:2307.16896",
        note=(
            "pre-trained without labels (disruptive autoencoders); the window is that of its "
            "fine-tuning, and the number of parameters that of Swin UNETR with one output"
        ),
    ),
    *_BTCV,
    *_BRATS21,
    *_VOCO,
    *_BUNDLES,
    *_RESIDUAL_UNETS,
)
