"""A small table of scans with masks, and predictions of it in the layouts of several tools."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from voxgraft.datasets import Structures, Table, Target, read_table, write_structures
from voxgraft.recipes import ModelSettings, Recipe, SegmentationSettings, StartSettings
from voxgraft.runs import TrainedSegmentation
from voxgraft.training import Optimization
from voxgraft.transforms import Augmentation, Keep, Preprocessing
from voxgraft.volumes import Affine, LabelMap, Volume, write_volume

SHAPE = (12, 14, 16)
AFFINE = Affine.from_spacing((2.0, 1.0, 1.5), (10.0, -20.0, 30.0))
VALUES = {"liver": 1, "spleen": 2, "aorta": 3}
ROWS = (
    ("a", "p1", "A", ""),
    ("b", "p1", "A", ""),
    ("c", "p2", "B", ""),
    ("d", "p3", "B", "liver"),
    ("e", "p4", "B", "aorta"),
)
"""Case, patient, site and what is annotated."""


def box(*sides: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def truth() -> dict[str, np.ndarray]:
    liver, spleen = box((2, 8), (2, 8), (2, 8)), box((3, 6), (9, 12), (10, 14))
    found = {}
    for case in "abcde":
        labels = np.zeros(SHAPE, np.uint8)
        labels[liver] = 1
        if case != "c":
            labels[spleen] = 2
        labels[10:, :2, :2] = 3
        found[case] = labels
    return found


def guesses() -> dict[str, np.ndarray]:
    """What is predicted: 1 liver, 2 spleen; nothing else."""
    found = {}
    for case, labels in truth().items():
        guess = np.where(labels < 3, labels, 0).astype(np.uint8)
        if case == "b":
            guess[guess == 2] = 0
        if case == "c":
            guess[9:11, 9:12, 2:5] = 2
        if case == "a":
            guess = np.roll(guess, 1, axis=2)
        found[case] = guess
    return found


def write_labels(labels: np.ndarray, path: Path, affine: Affine = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(LabelMap(labels, affine), path)


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> SimpleNamespace:
    """Scans whose values are the labels that ``Bands`` sees in them, with masks."""
    folder = tmp_path_factory.mktemp("small")
    lines = ["case_id,patient_id,site,image,masks,annotated"]
    for case, patient, site, annotated in ROWS:
        image = guesses()[case].astype(np.float32)
        write_volume(Volume(image[None], AFFINE), folder / f"{case}_0000.nii.gz")
        write_labels(truth()[case], folder / "labels" / f"{case}.nii.gz")
        lines.append(f"{case},{patient},{site},{case}_0000.nii.gz,labels/{case}.nii.gz,{annotated}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    sources = {name: (value,) for name, value in VALUES.items()}
    write_structures(Structures("label_map", sources), folder / "structures.json")
    return SimpleNamespace(
        table=read_table(folder / "table.csv"),
        path=folder / "table.csv",
        truth=truth(),
        guesses=guesses(),
        affine=AFFINE,
        write_labels=write_labels,
    )


class Bands(nn.Module):
    """Sees 1 as the first class and 2 as the second; with a sigmoid each, 2 is both."""

    def __init__(self, overlapping: bool) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))
        self.overlapping = overlapping
        self.shown = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shown += len(images)
        if self.overlapping:
            return torch.cat([images - 0.5, images - 1.5], dim=1)
        return torch.cat([-((images - k) ** 2) for k in range(3)], dim=1)


@pytest.fixture
def make_run(tmp_path) -> Callable[..., TrainedSegmentation]:
    """Return a maker of runs that see exactly what the scans' values say."""

    def make(classes=("liver", "spleen"), *, overlapping: bool = False, **preprocessing: Any):
        recipe = Recipe(
            table="table.csv",
            target=Target(kind="segmentation", columns=("masks",), classes=classes),
            metric="dice",
            preprocessing=Preprocessing(intensity=Keep(), background=0.0, **preprocessing),
            augmentation=Augmentation(),
            model=ModelSettings(name="plain_resnet10_3d"),
            start=StartSettings(name="scratch"),
            optimization=Optimization(),
            crop_size_voxels=(16, 16, 16),
            segmentation=SegmentationSettings(
                decoder="unet", overlapping=overlapping, overlap=0.25
            ),
        )
        (tmp_path / "model.safetensors").write_bytes(b"weights")
        network = Bands(overlapping).eval()
        return TrainedSegmentation(tmp_path, recipe, network, recipe.build_task(), 1)  # type: ignore[arg-type]

    return make


@pytest.fixture
def only() -> Callable[[Table, str], Table]:
    """Return a table's cases of the given letters."""
    return lambda table, cases: table.where(table.frame["case_id"].isin(list(cases)))
