"""Small tables of scans with label maps."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voxgraft.datasets import Table
from voxgraft.volumes import Affine, LabelMap, Volume, write_volume


@pytest.fixture
def masked_table(tmp_path: Path) -> Callable[..., Table]:
    """Return a function that writes label maps, with scans of ten times their values."""

    def write(
        maps: list[np.ndarray],
        affines: list[Affine],
        structures: dict[str, object],
        annotated: list[str] | None = None,
        ignored: tuple[int, ...] = (),
    ) -> Table:
        for i, (labels, affine) in enumerate(zip(maps, affines, strict=True)):
            voxels = 10 * labels[None].astype(np.float32)
            write_volume(Volume(voxels, affine), tmp_path / f"{i}.nii.gz")
            write_volume(LabelMap(labels, affine), tmp_path / f"{i}_seg.nii.gz")
        meaning = {"kind": "label_map", "structures": structures, "ignored_values": list(ignored)}
        (tmp_path / "structures.json").write_text(json.dumps(meaning))
        ids = [f"c{i}" for i in range(len(maps))]
        columns = {
            "case_id": ids,
            "patient_id": ids,
            "image": [f"{i}.nii.gz" for i in range(len(maps))],
            "masks": [f"{i}_seg.nii.gz" for i in range(len(maps))],
        }
        if annotated is not None:
            columns["annotated"] = annotated
        return Table(pd.DataFrame(columns), tmp_path)

    return write
