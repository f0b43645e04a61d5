"""Convolutional networks trained on CT and MRI outside of MONAI; PENet on video too."""

from __future__ import annotations

from dataclasses import replace

from voxgraft.weights.source import BroughtFile, HubFile, InputContract, Source

_Z_SCORE = InputContract(channels=1, mean=(0.0,), sd=(1.0,), value_range=(-2.0, 2.0), z_score=True)

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
        trained_on=("3DSeg-8", "15 more data sets that nobody names") if more else ("3DSeg-8",),
        note=(
            "trained to segment CT and MRI with dilated last stages; scans were resized, and "
            "standardized over their voxels above 0, with noise in place of the zeros. 3DSeg-8 "
            "are eight public segmentation challenges"
        ),
    )


_OPENMIND_HEADS = {
    "mae": ((), 102_348_965, 0, "masked autoencoder"),
    "mg": ((), 102_348_965, 0, "Models Genesis"),
    "s3d": ((), 102_348_965, 0, "sparse masked autoencoder (SparK 3D)"),
    "vf": ((), None, 0, "VolumeFusion"),
    "voco": (("projector",), 101_312_768, 11_016_192, "volume contrast (VoCo)"),
    "simclr": (("projector",), 101_312_768, 11_016_192, "SimCLR"),
    "swinunetr": (
        ("rotation_proj_head", "contrast_proj_head", "recon_proj_head"),
        96_601_733,
        6_305_157,
        "the tasks of Swin UNETR (inpainting, rotation, contrast)",
    ),
}
"""Method: modules that are no encoder or decoder, parameters, those of these modules, name."""

_OPENMIND_HUB = {
    "mae": "MAE",
    "mg": "MG",
    "vf": "VF",
    "voco": "VoCo",
    "simclr": "SimCLR",
    "swinunetr": "SwinUNETR",
}


def _openmind(method: str) -> Source:
    head, parameters, head_parameters, name = _OPENMIND_HEADS[method]
    file: HubFile | BroughtFile
    if method in _OPENMIND_HUB:
        file = HubFile(
            repository=f"MIC-DKFZ/ResEncL-OpenMind-{_OPENMIND_HUB[method]}",
            filename="checkpoint_final.pth",
        )
    else:
        file = BroughtFile(
            where="the collection MIC-DKFZ/openmind-models of the Hugging Face hub (ResEnc-L, S3D)",
            filename="checkpoint_final.pth",
        )
    return Source(
        id=f"nnunet_resenc.openmind_{method}",
        file=file,
        sha256=None,
        licence="cc-by-4.0",
        paper="arXiv:2412.17041",
        layout="volume",
        input=replace(_Z_SCORE, spacing_mm=(1.0, 1.0, 1.0)),
        architecture="nnunet_resenc_3d",
        key_layout="nnunet",
        stem=("stem.convs.0.conv",),
        head=head,
        decoder=() if head else ("decoder",),
        parameters=parameters,
        head_parameters=head_parameters,
        trained_on=("OpenMind", "OpenNeuro"),
        note=f"pre-trained without labels on 3D brain MRI by {name}",
    )


_TOTALSEGMENTATOR = {
    291: ("TotalSegmentator_part1_organs_1559subj", 31_214_109, "24 organs"),
    292: ("TotalSegmentator_part2_vertebrae_1532subj", 31_215_719, "26 vertebrae"),
    293: ("TotalSegmentator_part3_cardiac_1559subj", 31_209_279, "18 classes of heart and vessels"),
    294: ("TotalSegmentator_part4_muscles_1559subj", 31_213_304, "23 muscles and bones"),
    295: ("TotalSegmentator_part5_ribs_1559subj", 31_215_719, "26 ribs and bones of the chest"),
    297: ("TotalSegmentator_total_3mm_1559subj", 16_603_736, "117 classes"),
    299: ("body_1559subj", 31_196_399, "trunk and extremities"),
}
"""Task: folder, parameters with decoder, what was segmented."""


def _totalsegmentator(task: int) -> Source:
    folder, parameters, classes = _TOTALSEGMENTATOR[task]
    coarse = task == 297
    spacing = 3.0 if coarse else 1.5
    release = "https://github.com/wasserth/TotalSegmentator/releases/download/v2.0.0-weights"
    return Source(
        id=f"nnunet.totalsegmentator_{task}",
        file=BroughtFile(
            where=f"fold_0 within the archive {release}/Dataset{task}_{folder}.zip",
            filename="checkpoint_final.pth",
        ),
        sha256=None,
        licence="apache-2.0",
        paper="arXiv:2208.05868",
        layout="volume",
        input=InputContract(
            channels=1,
            mean=(0.0,),
            sd=(1.0,),
            value_range=(-2.0, 2.0),
            size=(112, 112, 128) if coarse else (128, 128, 128),
            spacing_mm=(spacing, spacing, spacing),
        ),
        architecture="nnunet_5_stages_3d" if coarse else "nnunet_3d",
        key_layout="nnunet",
        stem=("stages.0.0.convs.0.conv",),
        head=(),
        decoder=("decoder",),
        parameters=parameters,
        trained_on=("TotalSegmentator", "CT of University Hospital Basel"),
        note=(
            f"trained to segment {classes} in CT. Intensities were cut at two percentiles and "
            "standardized by the mean and standard deviation of the training data: the numbers are "
            "in the plans.json of the archive (foreground_intensity_properties_per_channel), which "
            "also has the strides: compare them with the model's"
        ),
    )


_STUNET = {
    "s": ("small", 14_596_941),
    "b": ("base", 58_262_669),
    "l": ("large", 440_302_605),
    "h": ("huge", 1_457_326_221),
}


def _stunet(size: str) -> Source:
    name, parameters = _STUNET[size]
    return Source(
        id=f"stunet_{size}.totalsegmentator",
        file=HubFile(repository="ziyanhuang/STU-Net", filename=f"{name}_ep4k.model"),
        sha256=None,
        licence="apache-2.0",
        paper="arXiv:2304.06716",
        layout="volume",
        input=InputContract(
            channels=1,
            mean=(0.0,),
            sd=(1.0,),
            value_range=(-2.0, 2.0),
            size=(128, 128, 128),
            spacing_mm=(1.5, 1.5, 1.5),
        ),
        architecture=f"stunet_{size}_3d",
        key_layout="stunet",
        stem=("conv_blocks_context.0.0.conv1", "conv_blocks_context.0.0.conv3"),
        head=(),
        decoder=("conv_blocks_localization", "upsample_layers", "seg_outputs"),
        parameters=parameters,
        trained_on=("TotalSegmentator",),
        note=(
            "trained to segment 104 classes in CT, 4,000 epochs. Intensities were cut at two "
            "percentiles and standardized by the mean and standard deviation of the training "
            "data: the numbers are in the plans.pkl beside the weights"
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
            "parameters are those of the image network. Its rows ran from left to right and its "
            "columns from posterior to anterior: transposed against (height, width)"
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
    *(_openmind(method) for method in _OPENMIND_HEADS),
    *(_totalsegmentator(task) for task in _TOTALSEGMENTATOR),
    *(_stunet(size) for size in _STUNET),
)
