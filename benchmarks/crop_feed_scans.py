"""CTs of 512 × 512 × 200 with five structures, made for ``crop_feed.py``."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from window_feed_scans import SPACING_MM, made_ct, write_nifti

CLASSES = ("lung_right", "lung_left", "spine", "liver", "lesion")
LOW, HIGH = -1000.0, 400.0


def make_scans(folder: Path, cases: int, depth: int = 200, edge: int = 512) -> None:
    """Write scans, label maps, and the table and legend that say what they are."""
    folder.mkdir(parents=True)
    ids = [f"case{number}" for number in range(cases)]
    for number, case in enumerate(ids):
        write_nifti(made_ct(number, depth, edge), folder / f"{case}.nii.gz")
        labels = made_labels(number, depth, edge)
        affine = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
        nibabel.save(
            nibabel.Nifti1Image(labels.transpose(2, 1, 0), affine, dtype=np.uint8),
            folder / f"{case}_seg.nii.gz",
        )
    legend = {
        "kind": "label_map",
        "structures": {name: value for value, name in enumerate(CLASSES, start=1)},
    }
    (folder / "structures.json").write_text(json.dumps(legend))
    frame = pd.DataFrame({"case_id": ids, "patient_id": ids})
    frame = frame.assign(
        image=[f"{case}.nii.gz" for case in ids],
        masks=[f"{case}_seg.nii.gz" for case in ids],
        structures="structures.json",
    )
    frame.to_csv(folder / "table.csv", index=False)


def made_labels(seed: int, depth: int, edge: int) -> np.ndarray:
    """Return labels (depth, height, width), in the places where ``made_ct`` puts its organs."""
    rng = np.random.default_rng((seed, 5))
    z = np.linspace(-1, 1, depth, dtype=np.float32)[:, None, None]
    y = np.linspace(-1, 1, edge, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, edge, dtype=np.float32)
    found = np.zeros((depth, edge, edge), dtype=np.uint8)
    reach = np.sqrt(np.clip(1 - (z / 0.95) ** 2, 0, None))
    for value, side in ((1, -1), (2, 1)):
        found[((x - side * 0.4) / 0.28) ** 2 + ((y + 0.03) / 0.42) ** 2 < reach] = value
    found[np.broadcast_to((x / 0.09) ** 2 + ((y - 0.4) / 0.09) ** 2 < 1, found.shape)] = 3
    found[((x + 0.25) / 0.3) ** 2 + (y / 0.25) ** 2 + ((z + 0.7) / 0.25) ** 2 < 1] = 4
    for _ in range(3):
        cz, cy, cx = rng.uniform(-0.5, 0.5, 3)
        found[((x - cx) / 0.03) ** 2 + ((y - cy) / 0.03) ** 2 + ((z - cz) / 0.05) ** 2 < 1] = 5
    return found


def case_ids(folder: Path) -> list[str]:
    """Return the ids of the scans in a folder."""
    return list(pd.read_csv(folder / "table.csv", dtype=str)["case_id"])
