"""Transformers that were trained on CT and MRI: Primus of OpenMind, 3DINO."""

from __future__ import annotations

from voxgraft.weights.source import UNSTATED, BroughtFile, HubFile, InputContract, Source

_OPENMIND = {
    "mae": ("MAE", ("decoder", "up_projection"), 176_656_193, "masked autoencoder"),
    "simmim": ("SimMIM", ("up_projection",), 151_787_393, "SimMIM (hidden patches)"),
    "mg": ("MG", ("up_projection",), 151_787_393, "the tasks of Models Genesis"),
    "vf": ("VF", ("up_projection",), None, "VolumeFusion"),
    "voco": ("VoCo", ("projector",), None, "volume contrast (VoCo)"),
    "simclr": ("SimCLR", ("projector",), None, "SimCLR"),
    "swinunetr": (
        "SwinUNETR",
        ("rotation_proj_head", "contrast_proj_head", "recon_proj_head"),
        None,
        "the tasks of Swin UNETR (inpainting, rotation, contrast)",
    ),
}
"""Method: its name in the repository, modules that are no encoder, parameters, in words."""

_ORDER = (
    "; its pre-training laid the tokens with the first two axes exchanged, and so lies its table "
    "of positions: nnU-Net's fine-tuning takes it as it is, and so does this package"
)


def _primus(method: str) -> Source:
    name, rest, parameters, words = _OPENMIND[method]
    return Source(
        id=f"primus_m.openmind_{method}",
        file=HubFile(
            repository=f"MIC-DKFZ/PrimusM-OpenMind-{name}", filename="checkpoint_final.pth"
        ),
        sha256=None,
        licence=UNSTATED,
        paper="arXiv:2412.17041",
        layout="volume",
        input=InputContract(
            channels=1,
            mean=(0.0,),
            sd=(1.0,),
            value_range=(-2.0, 2.0),
            size=(160, 160, 160) if parameters is not None else None,
            spacing_mm=(1.0, 1.0, 1.0),
            z_score=True,
        ),
        architecture="primus_m",
        key_layout="primus",
        stem=("patch_embed.proj",),
        head=() if rest[-1] == "up_projection" else rest,
        decoder=rest if rest[-1] == "up_projection" else (),
        parameters=parameters,
        trained_on=("OpenMind", "OpenNeuro"),
        note=f"pre-trained without labels on 3D brain MRI by {words}"
        + ("" if method == "simmim" else _ORDER),
    )


SOURCES: tuple[Source, ...] = (
    *(_primus(method) for method in _OPENMIND),
    Source(
        id="vit_large_3dino.3dino",
        file=BroughtFile(
            where="hf-hub:AICONSlab/3DINO-ViT, which asks for consent to its terms",
            filename="3dino_vit_weights.pth",
        ),
        sha256=None,
        licence="cc-by-nc-nd-4.0",
        paper="arXiv:2501.11755",
        layout="volume",
        input=InputContract(
            channels=1,
            mean=(0.0,),
            sd=(1.0,),
            value_range=(-1.0, 1.0),
            size=(112, 112, 112),
        ),
        architecture="vit_large_3dino",
        key_layout="dinov2-chunked",
        stem=("patch_embed.proj",),
        head=("dino_head", "ibot_head"),
        parameters=None,
        trained_on=("3DINO's 98,815 volumes of MRI, CT and PET",),
        note=(
            "pre-trained without labels on about 100,000 volumes of MRI, CT and PET of many "
            "organs, their 0.05th to 99.95th percentile scaled to -1 to 1, in RAS; its licence "
            "allows no commercial use and no sharing of changed weights"
        ),
    ),
)
