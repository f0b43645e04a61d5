"""Image networks that are not on timm's hub: torchvision's own files, RadImageNet's."""

from __future__ import annotations

import json
from importlib import resources

from voxgraft.weights.source import BroughtFile, InputContract, Source, source_from_dict


def _torchvision() -> list[Source]:
    folder = resources.files("voxgraft.weights") / "data"
    text = (folder / "torchvision_sources.json").read_text("utf-8")
    return [source_from_dict(entry) for entry in json.loads(text)]


def _radimagenet(name: str, architecture: str, stem: str, parameters: int) -> Source:
    return Source(
        id=f"radimagenet_{architecture}.bmeii",
        file=BroughtFile(
            where="the Google Drive folder that github.com/BMEII-AI/RadImageNet names "
            "(RadImageNet_pytorch.zip)",
            filename=f"{name}.pt",
        ),
        sha256=None,
        layout="image",
        input=InputContract(channels=3, mean=(0.5,) * 3, sd=(0.5,) * 3, size=(224, 224)),
        architecture=architecture,
        key_layout="radimagenet",
        stem=(stem,),
        head=(),
        parameters=parameters,
        paper="doi:10.1148/ryai.210315",
        trained_on=("RadImageNet",),
        note=(
            "1.35 million CT, MRI and ultrasound slices, grey values repeated in three channels; "
            "the file has no classifier. RadImageNet's InceptionV3 has no 3D twin here"
        ),
    )


SOURCES: tuple[Source, ...] = (
    *_torchvision(),
    _radimagenet("ResNet50", "resnet50", "conv1", 23_508_032),
    _radimagenet("DenseNet121", "densenet121", "features.conv0", 6_953_856),
)
