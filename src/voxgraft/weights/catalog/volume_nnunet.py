"""nnU-Net's networks and STU-Net: OpenMind's and TotalSegmentator's weights."""

from __future__ import annotations

from voxgraft.weights.source import BroughtFile, HubFile, InputContract, Source

_FILES_ORDER = (
    "not known: scans of many sources, each read in its file's own order, the last axis first "
    "(nnssl imageio/simpleitk_reader_writer.py)"
)
_REORIENTED = (
    "dataset.json of the training names nnU-Net's reader that turns scans to RAS and reads them "
    "from the last axis (TotalSegmentator resources/convert_dataset_to_nnunet.py, nnU-Net "
    "imageio/nibabel_reader_writer.py); equal spacings are not transposed"
)
_STUNET_ORDER = (
    "scans were read in their files' own order, the last axis first (nnU-Net 1 "
    "preprocessing/cropping.py), and the files of TotalSegmentator run to RAS: concluded from its "
    "own program, which turns scans to RAS for networks trained on the same files "
    "(TotalSegmentator nnunet.py)"
)


def _nnunet_heads(stages: int) -> tuple[str, ...]:
    """Name the layers that give the classes: one for each level of the decoder, finest last."""
    return tuple(f"decoder.seg_layers.{level}" for level in range(stages - 1))


_OPENMIND_HEADS = {
    "mae": (_nnunet_heads(6), 102_348_965, 805, "masked autoencoder"),
    "mg": (_nnunet_heads(6), 102_348_965, 805, "Models Genesis"),
    "s3d": (_nnunet_heads(6), 102_348_965, 805, "sparse masked autoencoder (SparK 3D)"),
    "vf": (_nnunet_heads(6), None, 0, "VolumeFusion"),
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
        input=InputContract(
            channels=1,
            mean=(0.0,),
            sd=(1.0,),
            value_range=(-2.0, 2.0),
            z_score=True,
            spacing_mm=(1.0, 1.0, 1.0),
            axes_evidence=_FILES_ORDER,
        ),
        architecture="nnunet_resenc_3d",
        key_layout="nnunet",
        stem=("stem.convs.0.conv",),
        head=head,
        decoder=("decoder",) if method in ("mae", "mg", "s3d", "vf") else (),
        parameters=parameters,
        head_parameters=head_parameters,
        trained_on=("OpenMind", "OpenNeuro"),
        note=f"pre-trained without labels on 3D brain MRI by {name}",
    )


_RELEASES = "https://github.com/wasserth/TotalSegmentator/releases/download"


def _archive(release: str, task: int, folder: str) -> str:
    return f"fold_0 within the archive {_RELEASES}/{release}-weights/Dataset{task}_{folder}.zip"


_PLAN_NOTE = (
    "The numbers by which intensities were standardized are in the plans.json of the archive "
    "(foreground_intensity_properties_per_channel)"
)

_TOTALSEGMENTATOR = {
    291: ("TotalSegmentator_part1_organs_1559subj", 31_214_109, 25, "24 organs"),
    292: ("TotalSegmentator_part2_vertebrae_1532subj", 31_215_719, 27, "26 vertebrae"),
    293: (
        "TotalSegmentator_part3_cardiac_1559subj",
        31_209_279,
        19,
        "18 parts of heart and vessels",
    ),
    294: ("TotalSegmentator_part4_muscles_1559subj", 31_213_304, 24, "23 muscles and bones"),
    295: ("TotalSegmentator_part5_ribs_1559subj", 31_215_719, 27, "26 ribs and bones of the chest"),
    297: ("TotalSegmentator_total_3mm_1559subj", 16_603_736, 118, "117 classes"),
    299: ("body_1559subj", 31_196_399, 3, "trunk and extremities"),
}
"""Task: folder, parameters with decoder, outputs, what was segmented."""


def _totalsegmentator(task: int) -> Source:
    folder, parameters, outputs, classes = _TOTALSEGMENTATOR[task]
    coarse = task == 297
    spacing = 3.0 if coarse else 1.5
    return Source(
        id=f"nnunet.totalsegmentator_{task}",
        file=BroughtFile(
            where=_archive("v2.0.0", task, folder),
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
            axes="SAR",
            axes_evidence=_REORIENTED,
        ),
        architecture="nnunet_5_stages_3d" if coarse else "nnunet_3d",
        key_layout="nnunet",
        stem=("stages.0.0.convs.0.conv",),
        head=_nnunet_heads(5 if coarse else 6),
        decoder=("decoder",),
        parameters=parameters,
        # A weight for each channel of the decoder's levels, and a bias each, for each output.
        head_parameters=outputs * (480 + 4 if coarse else 800 + 5),
        trained_on=("TotalSegmentator", "CT of University Hospital Basel"),
        note=f"trained to segment {classes} in CT. {_PLAN_NOTE}",
    )


_OTHER_TASKS = {
    298: ("v2.0.0", "TotalSegmentator_total_6mm_1559subj", 6.0),
    850: ("v2.5.0", "TotalSegMRI_part1_organs_1088subj", 1.5),
    851: ("v2.5.0", "TotalSegMRI_part2_muscles_1088subj", 1.5),
    852: ("v2.5.0", "TotalSegMRI_total_3mm_1088subj", 3.0),
    853: ("v2.5.0", "TotalSegMRI_total_6mm_1088subj", 6.0),
}
"""Task: release, folder, spacing in mm; their plans are known from their files alone."""


def _other_totalsegmentator(task: int) -> Source:
    release, folder, spacing = _OTHER_TASKS[task]
    tomography = task == 298
    return Source(
        id=f"nnunet.totalsegmentator_{task}",
        file=BroughtFile(
            where=_archive(release, task, folder),
            filename="checkpoint_final.pth",
        ),
        sha256=None,
        licence="apache-2.0",
        paper="arXiv:2208.05868" if tomography else "arXiv:2405.19492",
        layout="volume",
        input=InputContract(
            channels=1,
            mean=(0.0,),
            sd=(1.0,),
            value_range=(-2.0, 2.0),
            spacing_mm=(spacing, spacing, spacing),
            axes="SAR",
            axes_evidence=_REORIENTED,
        ),
        architecture="nnunet_3d",
        key_layout="nnunet",
        stem=("stages.0.0.convs.0.conv",),
        head=_nnunet_heads(6),
        decoder=("decoder",),
        parameters=None,
        trained_on=("TotalSegmentator", "CT of University Hospital Basel")
        if tomography
        else ("TotalSegmentator MRI", "TotalSegmentator"),
        note=(
            f"trained to segment {'CT' if tomography else 'MRI and CT'} at {spacing:g} mm. The "
            f"network follows the plan that the checkpoint shows. {_PLAN_NOTE}"
        ),
    )


_STUNET = {
    "s": ("small", 14_596_941, 52_605),
    "b": ("base", 58_262_669, 104_685),
    "l": ("large", 440_302_605, 208_845),
    "h": ("huge", 1_457_326_221, 313_005),
}


def _stunet(size: str) -> Source:
    name, parameters, head_parameters = _STUNET[size]
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
            axes="SAR",
            axes_evidence=_STUNET_ORDER,
        ),
        architecture=f"stunet_{size}_3d",
        key_layout="stunet",
        stem=("conv_blocks_context.0.0.conv1", "conv_blocks_context.0.0.conv3"),
        head=tuple(f"seg_outputs.{level}" for level in range(5)),
        decoder=("conv_blocks_localization", "upsample_layers"),
        parameters=parameters,
        head_parameters=head_parameters,
        trained_on=("TotalSegmentator",),
        note=(
            "trained to segment 104 classes in CT, 4,000 epochs. Intensities were cut at two "
            "percentiles and standardized by the mean and standard deviation of the training "
            "data: the numbers are in the plans.pkl beside the weights"
        ),
    )


SOURCES: tuple[Source, ...] = (
    *(_openmind(method) for method in _OPENMIND_HEADS),
    *(_totalsegmentator(task) for task in _TOTALSEGMENTATOR),
    *(_other_totalsegmentator(task) for task in _OTHER_TASKS),
    *(_stunet(size) for size in _STUNET),
)
