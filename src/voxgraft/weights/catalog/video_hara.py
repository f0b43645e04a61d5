"""Hara's 3D ResNets, trained on Kinetics-700, Moments in Time and STAIR Actions."""

from __future__ import annotations

from voxgraft.weights.source import BroughtFile, InputContract, Source

_FOLDER = "https://drive.google.com/open?id=1xbYbZ7rpyjftI_KCk6YuL-XrfQDz7Yd4"

_BACKBONES = {
    18: 33_203_904,
    34: 63_513_536,
    50: 46_198_976,
    101: 85_245_120,
    152: 117_403_840,
    200: 126_603_456,
}
"""Trainable values of each network without its classifier."""

_DATA = {
    "K": ("Kinetics-700", 700),
    "M": ("Moments in Time", 339),
    "S": ("STAIR Actions", 100),
}

_FILES = (
    *((layers, data) for layers in (18, 34, 50, 101, 152, 200) for data in ("K", "KM")),
    *((50, data) for data in ("KMS", "KS", "M", "MS", "S")),
)


def _hara(layers: int, data: str) -> Source:
    sets = [_DATA[letter] for letter in data]
    # The sets' classes stand side by side: no class of one is merged with one of another.
    classes = sum(count for _, count in sets)
    width = 512 if layers < 50 else 2048
    head = (width + 1) * classes
    return Source(
        id=f"hara_resnet{layers}_3d.{data.lower()}_200ep",
        file=BroughtFile(where=_FOLDER, filename=f"r3d{layers}_{data}_200ep.pth"),
        sha256=None,
        layout="video",
        input=InputContract(
            channels=3,
            mean=(0.4345, 0.4051, 0.3775),
            sd=(0.2768, 0.2713, 0.2737),
            size=(16, 112, 112),
        ),
        architecture=f"hara_resnet{layers}_3d",
        key_layout="hara",
        stem=("conv1",),
        head=("fc",),
        parameters=_BACKBONES[layers] + head,
        head_parameters=head,
        paper="arXiv:2004.04968",
        trained_on=tuple(name for name, _ in sets),
        note="the code is MIT; no licence is stated for the weights",
    )


SOURCES: tuple[Source, ...] = tuple(_hara(layers, data) for layers, data in _FILES)
