"""A segmentation of real CT, from data set to scores: learned on one patient, tried on another.

The scans and their labels come with the source archive of a public package (TotalSegmentator's own
test files; the labels are what its network found, kept there as a reference). One patient to learn
from and one to try: that the whole way works on real files, not how well anything segments.
"""

import tarfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import voxgraft as vg
from voxgraft.datasets import Structures, write_structures
from voxgraft.errors import FetchError
from voxgraft.inference import segment_to
from voxgraft.packages import PackageArchive, package_archive
from voxgraft.recipes import recipe_from_dict, segmentation_recipe
from voxgraft.runs import load_segmentation
from voxgraft.volumes import LabelMap, Volume, read_label_map, read_volume, write_volume

ARCHIVE = PackageArchive(
    package="totalsegmentator",
    version="2.18.0",
    sha256="5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03",
)
INSIDE = "totalsegmentator-2.18.0/tests/reference_files"
LIVER = 5
"""Its label; the scans share it, and it is large in both."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    try:
        archive = package_archive(ARCHIVE)
    except FetchError as fault:
        pytest.skip(str(fault))
    folder = tmp_path_factory.mktemp("scans")
    wanted = ("example_ct.nii.gz", "example_ct_dicom/", "example_seg_")
    with tarfile.open(archive) as packed:
        members = [m for m in packed if m.name.removeprefix(f"{INSIDE}/").startswith(wanted)]
        packed.extractall(folder, members, filter="data")
    return folder / INSIDE


@pytest.fixture(scope="module")
def cases(files, tmp_path_factory):
    """Patient A above (training) and below (validation), and patient B (test).

    B has 20 slices of 2 mm; of their 512² pixels every second is kept, which still is 2 mm.
    """
    root = tmp_path_factory.mktemp("cases")
    scan = read_volume(files / "example_ct.nii.gz")
    drawn = read_label_map(files / "example_seg_fast_force_split.nii.gz")
    assert scan.affine.isclose(drawn.affine)
    held = np.flatnonzero((drawn.voxels == LIVER).any(axis=(1, 2)))
    middle = int(held[0] + 0.35 * (held[-1] - held[0]))
    for name, part in (("lower", slice(0, middle)), ("upper", slice(middle, None))):
        affine = scan.affine.shifted((part.start, 0, 0))
        write_volume(Volume(scan.voxels[:, part], affine), root / f"{name}.nii.gz")
        write_volume(LabelMap(drawn.voxels[part], affine), root / f"{name}_labels.nii.gz")
    other = read_volume(files / "example_ct_dicom")
    drawn = read_label_map(files / "example_seg_dicom.nii.gz")
    rows = drawn.voxels[:, ::-1]  # the same place, stored from the back to the front
    corner = drawn.affine.to_world(np.array([0, rows.shape[1] - 1, 0]))
    np.testing.assert_allclose(corner, other.affine.to_world(np.zeros(3)), atol=1e-2)
    second = (slice(None), slice(100, 460, 2), slice(40, 480, 2))  # around the body
    affine = other.affine.compose(np.diag([1.0, 2.0, 2.0, 1.0])).shifted((0, 50, 20))
    write_volume(Volume(other.voxels[:, *second], affine), root / "other.nii.gz")
    write_volume(LabelMap(np.ascontiguousarray(rows[second]), affine), root / "other_labels.nii.gz")
    others = tuple(value for value in range(1, 118) if value != LIVER)
    sources = {"liver": (LIVER,), "other": others}
    write_structures(Structures(kind="label_map", sources=sources), root / "structures.json")
    table = root / "cases.csv"
    table.write_text(
        "case_id,patient_id,image,masks,split\n"
        "upper,A1,upper.nii.gz,upper_labels.nii.gz,train\n"
        "lower,A2,lower.nii.gz,lower_labels.nii.gz,validation\n"
        "other,B,other.nii.gz,other_labels.nii.gz,test\n"
    )
    return table


@pytest.fixture(scope="module")
def trained(cases, tmp_path_factory):
    data = segmentation_recipe(str(cases), "segresnet_8", classes=["liver"])
    data["preprocessing"] |= {
        "spacing_mm": [6.0, 6.0, 6.0],
        "intensity": {"kind": "window", "low": -160.0, "high": 240.0},
    }
    data["optimization"] |= {
        "epochs": None,
        "eval_every_epochs": None,
        "steps": 120,
        "eval_every": 40,
        "batch_size": 2,
        "learning_rate": 5e-3,
        "threads": 1,
    }
    data |= {"crop_size_voxels": [16, 32, 32], "augmentation": {}, "memory_format": "channels_last"}
    data["segmentation"] |= {
        "loss": "dice_focal",
        "overlap": 0.25,
        "surface_tolerance_mm": 6.0,
    }
    data["score_splits"] = ["test"]
    data["store"] = str(tmp_path_factory.mktemp("store"))
    folder = tmp_path_factory.mktemp("runs") / "run"
    result = vg.finetune(recipe_from_dict(data, "the test"), folder)
    predicted = tmp_path_factory.mktemp("predicted")
    segment_to(predicted, load_segmentation(folder), [cases.parent / "other.nii.gz"])
    return SimpleNamespace(folder=folder, result=result, predicted=predicted)


def test_it_learns_and_finds_the_liver_of_another_patient(trained, cases):
    """A tiny network, half a patient, 120 steps: Dice .53 (all of 0 to 200 HU alone has .51)."""
    losses = [row["train_loss"] for row in trained.result["fit"]["history"]]
    assert losses[-1] < 0.75 * losses[0]
    row = pd.read_csv(trained.folder / "segmentation.csv").set_index("split").loc["test"]
    assert row["dice"] > 0.4
    assert row["surface_dice"] > 0.1
    liver = read_label_map(cases.parent / "other_labels.nii.gz").voxels == LIVER
    everything = 2 * liver.sum() / (liver.sum() + liver.size)  # what calling all of it liver has
    assert row["dice"] > everything + 0.15


def test_files_of_the_other_scan_have_the_scores_of_the_run(trained, cases):
    """Counted from the files alone, in a few lines, and by the verb that scores files."""
    scan = read_volume(cases.parent / "other.nii.gz")
    truth = read_label_map(cases.parent / "other_labels.nii.gz").voxels
    found = read_label_map(trained.predicted / "other" / "segmentations" / "liver.nii.gz")
    assert found.shape == scan.shape == (20, 180, 220)
    assert found.affine.isclose(scan.affine, 1e-4)
    row = pd.read_csv(trained.folder / "segmentation.csv").set_index("split").loc["test"]
    own, mask = found.voxels > 0, truth == LIVER
    dice = 2 * (own & mask).sum() / (own.sum() + mask.sum())
    assert row["dice"] == pytest.approx(dice, abs=1e-9)
    voxel_ml = float(np.prod(scan.spacing_mm)) / 1000
    assert row["reference_ml"] == pytest.approx(mask.sum() * voxel_ml)
    table = vg.read_table(cases)
    test = vg.Table(table.frame[table.frame["split"] == "test"], table.root)
    scored = vg.evaluate_predictions(trained.predicted, test, tolerance_mm=6.0)
    again = scored.cases.set_index("class").loc["liver"]
    for name in ("dice", "surface_dice", "hausdorff95_mm"):
        assert again[name] == pytest.approx(row[name])
