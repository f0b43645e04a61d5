"""MedicalNet, Merlin, FMCIB, and PENet, which was trained on video too."""

from __future__ import annotations

from voxgraft.weights.source import BroughtFile, HubFile, InputContract, Source, WebFile

_Z_SCORE = InputContract(
    channels=1,
    mean=(0.0,),
    sd=(1.0,),
    value_range=(-2.0, 2.0),
    z_score=True,
    axes_evidence="not known: the authors had put the depth first and the width last in files of "
    "many data sets, and turned none (MedicalNet datasets/brains18.py)",
)

_MEDICALNET_PARAMETERS = {
    10: 14_355_520,
    18: 32_986_176,
    34: 63_295_808,
    50: 46_155_072,
    101: 85_201_216,
    152: 117_359_936,
    200: 126_559_552,
}


def _medicalnet(layers: int, *, more: bool) -> Source:
    return Source(
        id=f"medicalnet_resnet{layers}.{'23datasets' if more else '3dseg8'}",
        file=HubFile(
            repository=f"TencentMedicalNet/MedicalNet-Resnet{layers}",
            filename=f"resnet_{layers}{'_23dataset' if more else ''}.pth",
        ),
        sha256=None,
        licence="mit",
        paper="arXiv:1904.00625",
        layout="volume",
        input=_Z_SCORE,
        architecture=f"medicalnet_resnet{layers}_3d",
        key_layout="medicalnet",
        stem=("conv1",),
        head=(),
        parameters=_MEDICALNET_PARAMETERS[layers],
        trained_on=("3DSeg-8", "other data sets, 23 in all, that nobody names")
        if more
        else ("3DSeg-8",),
        note=(
            "trained to segment CT and MRI with dilated last stages; scans were resized, and "
            "standardized over their voxels above 0, with noise in place of the zeros. 3DSeg-8 "
            "are eight public segmentation challenges"
        ),
    )


def _merlin(tag: str, filename: str, parameters: int, head_parameters: int) -> Source:
    return Source(
        id=f"merlin_resnet152.{tag}",
        file=HubFile(repository="stanfordmimi/Merlin", filename=filename),
        sha256=None,
        licence="mit",
        paper="arXiv:2406.06512",
        layout="volume",
        input=InputContract(
            channels=3,
            mean=(0.0, 0.0, 0.0),
            sd=(1.0, 1.0, 1.0),
            window_hu=(-1000.0, 1000.0),
            size=(160, 224, 224),
            spacing_mm=(3.0, 1.5, 1.5),
            axes="SRA",
            axes_evidence="scans were turned to RAS, and the last axis was put first (merlin "
            "data/monai_transforms.py, models/i3res.py)",
        ),
        architecture="merlin_resnet152_3d",
        key_layout="merlin",
        stem=("conv1",),
        head=("classifier", "contrastive_head"),
        parameters=parameters,
        head_parameters=head_parameters,
        trained_on=("ImageNet-1k", "Merlin Abdominal CT"),
        note=(
            "abdominal CT, repeated in three channels, with diagnosis codes and reports; the "
            "parameters are those of the image network"
        ),
    )


_FMCIB = Source(
    id="fmcib_resnet50.deeplesion",
    file=WebFile(url="https://zenodo.org/records/10528450/files/model_weights.torch"),
    sha256=None,
    paper="doi:10.1038/s42256-024-00807-9",
    layout="volume",
    input=InputContract(
        channels=1,
        mean=(0.0,),
        sd=(1.0,),
        window_hu=(-1024.0, 2048.0),
        size=(50, 50, 50),
        spacing_mm=(1.0, 1.0, 1.0),
    ),
    architecture="fmcib_resnet50_3d",
    key_layout="fmcib",
    stem=("conv1",),
    head=(),
    parameters=184_477_824,
    trained_on=("DeepLesion",),
    note=(
        "pre-trained without labels on lesions in CT, cut out with 50 mm around them; intensities "
        "were scaled as said, but not cut. Rows ran to posterior and columns to left. The code is "
        "MIT; nobody states a licence of the weights"
    ),
)


_PENET_BOX = "the authors' folder at Stanford Medicine Box"


def _penet() -> tuple[Source, Source]:
    kinetics = Source(
        id="penet.kinetics600",
        file=BroughtFile(
            where=f"{_PENET_BOX}, https://stanfordmedicine.box.com/s/gfwy1431vkf2heekipmogwd737741lvz",
            filename="xnet_kin_90.pth.tar",
        ),
        sha256=None,
        paper="doi:10.1038/s41746-020-0266-y",
        layout="video",
        input=InputContract(
            channels=3,
            mean=(110.63666788 / 255, 103.16065604 / 255, 96.29023126 / 255),
            sd=(38.7568578 / 255, 37.88248729 / 255, 40.02898126 / 255),
            size=(24, 192, 192),
        ),
        architecture="penet_3d",
        key_layout="penet",
        stem=("in_conv.0",),
        head=("classifier.fc",),
        parameters=29_626_056,
        head_parameters=1_229_400,
        trained_on=("Kinetics-600",),
        note="trained to classify 600 actions in video; nobody states a licence",
    )
    tomography = Source(
        id="penet.ctpa_stanford",
        file=BroughtFile(
            where=f"{_PENET_BOX}, https://stanfordmedicine.box.com/s/uql0ikebseltkkntiwl5rrn6zzuww6jt",
            filename="penet_best.pth.tar",
        ),
        sha256=None,
        paper="doi:10.1038/s41746-020-0266-y",
        layout="volume",
        input=InputContract(
            channels=3,
            mean=(0.15897, 0.15897, 0.15897),
            sd=(1.0, 1.0, 1.0),
            window_hu=(-100.0, 900.0),
            size=(24, 192, 192),
        ),
        architecture="penet_3d",
        key_layout="penet",
        stem=("in_conv.0",),
        head=("classifier.fc",),
        parameters=28_398_705,
        head_parameters=2_049,
        trained_on=("Kinetics-600", "CT angiography of Stanford (PENet)"),
        note=(
            "fine-tuned to find pulmonary embolism in CT angiography, repeated in three channels; "
            "nobody states a licence"
        ),
    )
    return kinetics, tomography


SOURCES: tuple[Source, ...] = (
    _FMCIB,
    *(_medicalnet(layers, more=False) for layers in _MEDICALNET_PARAMETERS),
    *(_medicalnet(layers, more=True) for layers in (10, 18, 34, 50)),
    *_penet(),
    _merlin(
        "abdominal_ct",
        "i3_resnet_clinical_longformer_best_clip_04-02-2024_23-21-36_epoch_99.pt",
        121_882_204,
        4_515_996,
    ),
    _merlin(
        "five_year_disease_prediction",
        "resnet_clinical_longformer_five_year_disease_prediction.pt",
        118_427_590,
        1_061_382,
    ),
)
