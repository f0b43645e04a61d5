"""Fingerprint and spacing against nnU-Net's own, on the same bodies.

The numbers of nnU-Net are those that its version 2.8.1 gave for these files with
``extract_fingerprint_dataset`` and ``plan_experiment_dataset``; it draws values at random, so that
its own percentiles move by one or two HU.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from voxgraft.datasets import import_nnunet
from voxgraft.planning import take_fingerprint
from voxgraft.planning.spacing import scratch_spacing
from voxgraft.synthesis import ANATOMY, make_anatomy
from voxgraft.types import Size3
from voxgraft.volumes import Affine, LabelMap, Volume, write_volume

TALL: tuple[Size3, ...] = (
    (20, 60, 64), (24, 64, 60), (30, 58, 62), (40, 66, 70), (26, 72, 64), (22, 60, 60)
)  # fmt: skip
FLAT: tuple[Size3, ...] = (
    (12, 60, 64), (14, 64, 60), (10, 58, 62), (13, 66, 70), (11, 72, 64), (12, 60, 60), (16, 90, 60)
)  # fmt: skip


@pytest.mark.parametrize(
    ("shapes", "mean", "sd", "low", "middle", "high", "spacing", "shape"),
    [
        (TALL, -337.25, 412.16, -815, -555, 185, (8.5, 1.25, 1.25), (28, 62.5, 66)),
        (FLAT, -322.60, 395.83, -811, -512, 178, (6.6, 1.3, 1.3), (17, 66, 69)),
    ],
)
def test_made_bodies(
    tmp_path: Path,
    shapes: tuple[Size3, ...],
    mean: float,
    sd: float,
    low: float,
    middle: float,
    high: float,
    spacing: tuple[float, float, float],
    shape: tuple[float, float, float],
) -> None:
    root = tmp_path / "Dataset001_X"
    (root / "imagesTr").mkdir(parents=True)
    (root / "labelsTr").mkdir()
    labels = {"background": 0, **{name: value for value, name in enumerate(ANATOMY, 1)}}
    content = {"channel_names": {"0": "CT"}, "labels": labels, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(content))
    for case, size in enumerate(shapes):
        body = make_anatomy(case, size_voxels=size, spacing_mm=5.0)
        affine = Affine.from_spacing((6.0 + case, 1.0 + 0.1 * case, 1.0 + 0.1 * case))
        scan, masks = Volume(body.scan.voxels, affine), LabelMap(body.labels.voxels, affine)
        write_volume(scan, root / "imagesTr" / f"c{case}_0000.nii.gz")
        write_volume(masks, root / "labelsTr" / f"c{case}.nii.gz")
    table = import_nnunet(root, tmp_path / "out")
    found = take_fingerprint(table, jobs=2, cache=tmp_path / "cache")
    (values,) = found.values
    assert values.mean == pytest.approx(mean, abs=0.2)
    assert values.sd == pytest.approx(sd, abs=0.2)
    assert values.percentile(0.5) == pytest.approx(low, abs=2)
    assert values.percentile(50) == pytest.approx(middle, abs=2)
    assert values.percentile(99.5) == pytest.approx(high, abs=2)
    assert scratch_spacing(found) == pytest.approx(spacing, rel=1e-4)
    assert np.allclose(found.shape_at(scratch_spacing(found)), shape, atol=1)
