"""Made scans with masks, whose fingerprint is known by hand."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from voxgraft.datasets import Table, read_table
from voxgraft.volumes import Affine, LabelMap, Volume, write_volume

Box = tuple[slice, slice, slice]
MakeCase = Callable[..., None]


class Made:
    """A folder of scans: air at -1000, boxes of given values."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[str] = []
        self.annotated: list[str] = []

    def add(
        self,
        case_id: str,
        boxes: dict[int, tuple[Box, float]],
        *,
        shape: tuple[int, int, int] = (12, 20, 24),
        spacing: tuple[float, float, float] = (3.0, 1.0, 1.0),
        annotated: str = "",
        split: str = "train",
        floor: float = -1000.0,
    ) -> None:
        image = np.full(shape, floor, dtype=np.int16)
        labels = np.zeros(shape, dtype=np.uint8)
        for value, (box, intensity) in boxes.items():
            image[box] = intensity
            labels[box] = value
        affine = Affine.from_spacing(spacing)
        write_volume(Volume(image[None], affine), self.folder / f"{case_id}.nii.gz")
        write_volume(LabelMap(labels, affine), self.folder / f"{case_id}_masks.nii.gz")
        self.rows.append(
            f"{case_id},p_{case_id},{case_id}.nii.gz,{case_id}_masks.nii.gz,{annotated},{split}"
        )

    def table(self, names: Sequence[str] = ("block", "plate"), *, split: bool = True) -> Table:
        structures = {name: value for value, name in enumerate(names, 1)}
        plain = {"kind": "label_map", "structures": structures}
        (self.folder / "structures.json").write_text(json.dumps(plain))
        header = "case_id,patient_id,image,masks,annotated,split"
        rows = [header, *self.rows]
        if not split:
            rows = [row.rsplit(",", 1)[0] for row in rows]
        path = self.folder / "table.csv"
        path.write_text("\n".join(rows) + "\n")
        return read_table(path)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    folder = tmp_path / "made"
    folder.mkdir()
    return Made(folder)


@pytest.fixture
def two_cases(made: Made) -> Table:
    """Two training cases and a test case; the plate is two voxels thin, and in one case alone."""
    block = (slice(2, 6), slice(4, 14), slice(4, 12))
    plate = (slice(8, 10), slice(2, 18), slice(2, 22))
    made.add("a", {1: (block, 40.0), 2: (plate, 100.0)})
    made.add("b", {1: (block, 60.0)}, spacing=(5.0, 1.0, 1.0), annotated="block")
    made.add("c", {1: (block, 3000.0)}, spacing=(9.0, 9.0, 9.0), split="test")
    return made.table()
