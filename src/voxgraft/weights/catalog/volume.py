"""Foundation models for CT and MRI: SuPreM, Universal Model, Models Genesis, CT-FM, VISTA3D, ..."""

from __future__ import annotations

from voxgraft.weights.catalog import volume_monai
from voxgraft.weights.catalog.class_names import SUPREM_CLASSES
from voxgraft.weights.catalog.volume_monai import SWIN_UNETR_DECODER, ct
from voxgraft.weights.source import BroughtFile, HubFile, InputContract, Source

_UNIVERSAL_HEAD = ("precls_conv", "GAP", "controller", "text_to_vision", "organ_embedding")
_GENESIS_DECODER = ("up_tr256", "up_tr128", "up_tr64")
_ABDOMEN = ct(-175.0, 250.0, (1.5, 1.5, 1.5), 96)
_UNIVERSAL_DATA = (
    *("BTCV", "Pancreas-CT", "CHAOS", "LiTS", "KiTS", "WORD", "AbdomenCT-1K", "AMOS"),
    *("CT-ORG", "AbdomenCT-12organ", "Medical Segmentation Decathlon"),
)
_NO_DERIVATIVES = "cc-by-nc-nd-4.0"


def _universal(
    architecture: str,
    tag: str,
    file: HubFile,
    *,
    paper: str,
    trained_on: tuple[str, ...],
    note: str,
) -> Source:
    swin = architecture.startswith("swin")
    return Source(
        id=f"{architecture}.{tag}",
        file=file,
        sha256=None,
        licence=_NO_DERIVATIVES,
        paper=paper,
        layout="volume",
        input=_ABDOMEN,
        architecture=architecture,
        key_layout="swin-unetr" if swin else "genesis-unet",
        stem=("swinViT.patch_embed.proj" if swin else "down_tr64.ops.0.conv1",),
        head=_UNIVERSAL_HEAD,
        decoder=SWIN_UNETR_DECODER if swin else _GENESIS_DECODER,
        classes=SUPREM_CLASSES,
        parameters=62_595_315 if swin else 19_416_417,
        head_parameters=408_705 if swin else 342_817,
        trained_on=trained_on,
        note=note,
    )


_SUPREM_DATA = ("AbdomenAtlas 1.1",)
_SUPREM_NOTE = (
    "trained to segment 25 organs and 7 kinds of tumours on 2,100 CT scans; the order of the "
    "classes of its head is not that of AbdomenAtlas"
)


def _suprem_file(network: str) -> HubFile:
    return HubFile(repository="MrGiovanni/SuPreM", filename=f"supervised_suprem_{network}_2100.pth")


_SUPREM = (
    Source(
        id="segresnet_16.suprem",
        file=_suprem_file("segresnet"),
        sha256=None,
        licence=_NO_DERIVATIVES,
        paper="arXiv:2501.11253",
        layout="volume",
        input=_ABDOMEN,
        architecture="segresnet_16",
        key_layout="segresnet",
        stem=("convInit.conv",),
        head=("conv_final.2",),
        decoder=("up_layers", "up_samples", "conv_final.0"),
        classes=SUPREM_CLASSES,
        parameters=4_701_424,
        head_parameters=544,
        trained_on=_SUPREM_DATA,
        note=_SUPREM_NOTE,
    ),
    _universal(
        "swin_unetr_48",
        "suprem",
        _suprem_file("swinunetr"),
        paper="arXiv:2501.11253",
        trained_on=_SUPREM_DATA,
        note=_SUPREM_NOTE,
    ),
    _universal(
        "genesis_unet",
        "suprem",
        _suprem_file("unet"),
        paper="arXiv:2501.11253",
        trained_on=_SUPREM_DATA,
        note=_SUPREM_NOTE,
    ),
)

_UNIVERSAL = tuple(
    _universal(
        architecture,
        "universal",
        HubFile(
            repository="ljwztc/CLIP-Driven-Universal-Model",
            filename=f"clip_driven_universal_{network}.pth",
        ),
        paper="arXiv:2301.00785",
        trained_on=_UNIVERSAL_DATA,
        note="trained to segment 25 organs and 6 kinds of tumours, driven by their names",
    )
    for architecture, network in (("swin_unetr_48", "swin_unetr"), ("genesis_unet", "unet"))
)

_MODELS_GENESIS = Source(
    id="genesis_unet.chest_ct",
    file=HubFile(repository="MrGiovanni/ModelsGenesis", filename="Genesis_Chest_CT.pt"),
    sha256=None,
    licence="non-commercial research (Arizona State University, M19-252LC)",
    paper="arXiv:2004.07882",
    layout="volume",
    input=InputContract(
        channels=1,
        mean=(0.0,),
        sd=(1.0,),
        window_hu=(-1000.0, 1000.0),
        size=(32, 64, 64),
        axes="LPS",
    ),
    architecture="genesis_unet",
    key_layout="genesis-unet",
    stem=("down_tr64.ops.0.conv1",),
    head=("out_tr",),
    decoder=_GENESIS_DECODER,
    parameters=19_073_665,
    head_parameters=65,
    trained_on=("LUNA16", "LIDC-IDRI"),
    note=(
        "pre-trained without labels, to restore 623 chest CT scans of LUNA16, a part of LIDC-IDRI; "
        "the original normalizes each batch by its own statistics in evaluation too"
    ),
)


_CT_FM_HEADS = tuple(f"up_layers.{level}.head" for level in range(4))
_CT_FM = (
    Source(
        id="segresnet_ds_batch_32.ct_fm",
        file=HubFile(
            repository="project-lighter/ct_fm_feature_extractor", filename="model.safetensors"
        ),
        sha256=None,
        licence="apache-2.0",
        paper="arXiv:2501.09001",
        layout="volume",
        input=ct(-1024.0, 2048.0, axes="SPL"),
        architecture="segresnet_ds_batch_32",
        key_layout="segresnet-ds",
        stem=("conv_init",),
        head=(),
        parameters=77_760_992,
        trained_on=("NCI Imaging Data Commons",),
        note="pre-trained without labels on 148,000 CT scans by contrast within a scan",
    ),
    Source(
        id="segresnet_ds_batch_32.ct_fm_whole_body",
        file=HubFile(
            repository="project-lighter/whole_body_segmentation", filename="model.safetensors"
        ),
        sha256=None,
        licence="apache-2.0",
        paper="arXiv:2501.09001",
        layout="volume",
        input=ct(-1024.0, 2048.0, axes="SPL"),
        architecture="segresnet_ds_batch_32",
        key_layout="segresnet-ds",
        stem=("conv_init",),
        head=_CT_FM_HEADS,
        decoder=("up_layers",),
        parameters=87_220_344,
        head_parameters=57_112,
        trained_on=("NCI Imaging Data Commons", "TotalSegmentator"),
        note="segresnet_ds_batch_32.ct_fm, fine-tuned to segment 117 structures",
    ),
)

_VISTA3D = Source(
    id="segresnet_ds_instance_48.vista3d",
    file=HubFile(repository="MONAI/vista3d", filename="models/model.pt"),
    sha256=None,
    licence="NVIDIA NCLS v1 (non-commercial)",
    paper="arXiv:2406.05285",
    layout="volume",
    input=ct(-963.8247715525971, 1053.678477684517, (1.5, 1.5, 1.5), 128),
    architecture="segresnet_ds_instance_48",
    key_layout="vista3d",
    stem=("conv_init",),
    head=("point_head", "class_head", "up_layers.3.head"),
    decoder=("up_layers",),
    parameters=217_964_982,
    head_parameters=704_310,
    trained_on=("VISTA3D's 11,454 CT scans",),
    note="segments 127 structures by class or by points, each with a decoder of its own",
)

_BRAINIAC = Source(
    id="monai_vit_b16.brainiac",
    file=BroughtFile(
        where="the folder of checkpoints that github.com/AIM-KannLab/BrainIAC links to",
        filename="BrainIAC.ckpt",
    ),
    sha256="f22bdbcae26823a9d9e8aee883c6f24386ba4617339c12269848b6666cc62693",
    licence="cc-by-nc-4.0",
    paper="doi:10.1038/s41593-026-02202-6",
    layout="volume",
    input=InputContract(
        channels=1,
        mean=(0.0,),
        sd=(1.0,),
        value_range=(-2.0, 2.0),
        size=(96, 96, 96),
        z_score=True,
    ),
    architecture="monai_vit_b16",
    key_layout="brainiac",
    stem=("patch_embedding.patch_embeddings",),
    head=(),
    parameters=88_340_736,
    trained_on=("32,000 brain MRI of BrainIAC",),
    note=(
        "pre-trained without labels on skull-stripped brain MRI, resized to 96x96x96 voxels and "
        "standardized over those other than 0; the original takes the token of the first patch, "
        "here the mean of all tokens is taken; an earlier file of that name holds a ResNet-50"
    ),
)

SOURCES: tuple[Source, ...] = (
    *_SUPREM,
    *_UNIVERSAL,
    _MODELS_GENESIS,
    *_CT_FM,
    _VISTA3D,
    _BRAINIAC,
    *volume_monai.SOURCES,
)
