"""New scans segmented: what a known network finds, on the scan's own grid, and the verb."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from voxgraft.datasets.mask_classes import read_structures
from voxgraft.datasets.target import Target
from voxgraft.errors import InferenceError
from voxgraft.files import write_json
from voxgraft.inference import Cleaning, segment_scan, segment_to
from voxgraft.models import build_encoder, build_segmentation
from voxgraft.recipes import ModelSettings, Recipe, SegmentationSettings, StartSettings, write_yaml
from voxgraft.runs import RunFolder, TrainedSegmentation
from voxgraft.runs.saved import save_network
from voxgraft.training import Optimization
from voxgraft.transforms import Augmentation, Keep, Preprocessing
from voxgraft.volumes import Affine, Volume, read_label_map, read_volume, write_volume

CLASSES = ("dim", "bright")


class Bands(nn.Module):
    """Finds ``dim`` at 1 and ``bright`` at 2; with a sigmoid each, all that is brighter is dim."""

    def __init__(self, overlapping: bool) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(()))
        self.overlapping = overlapping

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.overlapping:
            return torch.cat([images - 0.5, images - 1.5], dim=1)
        return torch.cat([-((images - k) ** 2) for k in range(3)], dim=1)


def recipe_of(spacing_mm, overlapping: bool, model: str = "plain_resnet10_3d") -> Recipe:
    return Recipe(
        table="table.csv",
        target=Target(kind="segmentation", columns=("masks",), classes=CLASSES),
        metric="dice",
        preprocessing=Preprocessing(spacing_mm=spacing_mm, intensity=Keep(), background=0.0),
        augmentation=Augmentation(),
        model=ModelSettings(name=model),
        start=StartSettings(name="scratch"),
        optimization=Optimization(),
        crop_size_voxels=(16, 16, 16),
        segmentation=SegmentationSettings(
            decoder="unet", decoder_width=4, overlapping=overlapping, overlap=0.25
        ),
    )


def trained(spacing_mm=None, overlapping: bool = False) -> TrainedSegmentation:
    recipe = recipe_of(spacing_mm, overlapping)
    network = Bands(overlapping).eval()
    return TrainedSegmentation(Path("run"), recipe, network, recipe.build_task(), 1)  # type: ignore[arg-type]


def write_scan(path: Path) -> np.ndarray:
    """Write a scan with two balls and a crumb, oblique and turned; return its labels."""
    matrix = np.eye(4)
    turn = np.radians(15)
    matrix[:3, :3] = [
        [0, -np.cos(turn), np.sin(turn)],
        [0, np.sin(turn), np.cos(turn)],
        [-1, 0, 0],
    ]
    matrix[:3, :3] *= (2.0, 1.0, 1.25)
    matrix[:3, 3] = (30.0, -12.0, 55.0)
    labels = np.zeros((20, 36, 30), np.uint8)
    grid = np.stack(np.meshgrid(*map(np.arange, labels.shape), indexing="ij"), axis=-1)
    for k, middle in ((1, (9, 12, 10)), (2, (11, 24, 21))):
        labels[(((grid - middle) * (2.0, 1.0, 1.25)) ** 2).sum(axis=-1) < 8.0**2] = k
    labels[17, 2:4, 2:4] = 1
    write_volume(Volume(labels[None].astype(np.float32), Affine(matrix)), path)
    return labels


@pytest.mark.parametrize("overlapping", [False, True])
def test_what_the_network_finds_lies_where_the_scan_has_it(tmp_path, overlapping) -> None:
    labels = write_scan(tmp_path / "scan.nii.gz")
    wanted = [labels >= 1 if overlapping else labels == 1, labels == 2]
    own = segment_scan(trained(overlapping=overlapping), tmp_path / "scan.nii.gz")
    assert own.affine == read_volume(tmp_path / "scan.nii.gz").affine
    for index, mask in enumerate(wanted):
        assert np.array_equal(own.mask(index), mask)  # turned, not resampled: a copy
    # Resampled, rims mix and change class: by less than a fourth of a voxel of the scan.
    moved = segment_scan(trained((1.5, 1.5, 1.5), overlapping), tmp_path / "scan.nii.gz")
    found, ball = moved.mask(1), wanted[1]
    assert 2 * (found & ball).sum() / (found.sum() + ball.sum()) > 0.85
    assert np.argwhere(found).mean(axis=0) == pytest.approx([11, 24, 21], abs=0.25)


def test_a_folder_for_each_scan_and_cleaning(tmp_path) -> None:
    labels = write_scan(tmp_path / "scan.nii.gz")
    out = tmp_path / "out"
    told: list[Path] = []
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no scan")
    scans = [bad, tmp_path / "scan.nii.gz", tmp_path / "none.nii.gz"]
    rules = {"dim": Cleaning(largest_component=True)}
    with pytest.raises(InferenceError, match="2 of 3 scans") as refused:
        segment_to(out, trained(), scans, cleaning=rules, on_scan=lambda one: told.append(one.scan))
    assert "bad.nii.gz" in str(refused.value)
    assert f"{scans[2]}: No such file" in str(refused.value)
    assert told == scans[1:2]
    assert [path.name for path in out.iterdir()] == ["scan"]
    found = read_label_map(out / "scan" / "combined_labels.nii.gz").voxels
    labels[17] = 0
    assert np.array_equal(found, labels)
    with pytest.raises(InferenceError, match="2 faults") as refused:
        segment_to(out, trained(), scans[1:2], dicom=True)
    assert "not empty" in str(refused.value)
    assert "no DICOM folder" in str(refused.value)


def test_what_is_there_is_kept_if_it_is_the_same_and_whole(tmp_path) -> None:
    scans = [tmp_path / place / "scan.nii.gz" for place in "abc"]
    for path in scans:
        path.parent.mkdir()
        write_scan(path)
    out, told = tmp_path / "out", []
    folders = segment_to(out, trained(), scans[:2], each=True)
    assert [own.name for own in folders] == ["a_scan", "b_scan"]
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.nii.gz")}
    # As if the third had been killed, and the second damaged.
    (out / ".tmp-0123abcd-c_scan").mkdir()
    labels = out / "b_scan" / "combined_labels.nii.gz"
    labels.write_bytes(labels.read_bytes() + b"x")
    with pytest.raises(InferenceError, match="changed files: combined_labels"):
        segment_to(out, trained(), scans, each=True)
    segment_to(out, trained(), scans, each=True, force=True, on_scan=told.append)
    assert [(one.scan, one.kept) for one in told] == [
        (path, kept) for path, kept in zip(scans, (True, False, False), strict=True)
    ]
    assert told[0].volumes_ml == told[2].volumes_ml == pytest.approx(told[1].volumes_ml)
    assert told[0].volumes_ml["bright"] > 0
    assert sorted(path.name for path in out.iterdir()) == ["a_scan", "b_scan", "c_scan"]
    for path, time in before.items():
        assert (path.stat().st_mtime_ns == time) is ("a_scan" in path.parts)
    # Another scan, other settings, something of one's own: nothing is overwritten.
    with pytest.raises(InferenceError, match="made from another setting of each"):
        segment_to(out, trained(), scans)
    write_volume(
        Volume(np.ones((1, 3, 4, 5), np.float32), Affine.from_spacing((1, 1, 1))), scans[0]
    )
    with pytest.raises(InferenceError, match="made from another scan"):
        segment_to(out, trained(), scans, each=True)
    (tmp_path / "mine" / "scan").mkdir(parents=True)
    (tmp_path / "mine" / "scan" / "notes.txt").write_text("mine")
    with pytest.raises(InferenceError, match="not segmented here"):
        segment_to(tmp_path / "mine", trained(), scans[1:2])
    with pytest.raises(InferenceError, match="cannot be written"):
        segment_to(scans[0] / "out", trained(), scans[1:2])


def test_probabilities_change_nothing_else(tmp_path) -> None:
    write_scan(tmp_path / "scan.nii.gz")
    scans = [tmp_path / "scan.nii.gz"]
    for spacing in (None, (1.5, 1.5, 1.5)):
        for overlapping in (False, True):
            run = trained(spacing, overlapping)
            folders = [tmp_path / f"{spacing}{overlapping}{more}" for more in (0, 1)]
            for own, more in zip(folders, (False, True), strict=True):
                segment_to(own, run, scans, each=True, probabilities=more)
            for name in CLASSES:
                masks = [
                    read_label_map(own / "scan" / "segmentations" / f"{name}.nii.gz").voxels
                    for own in folders
                ]
                assert np.array_equal(*masks)
                found = read_volume(folders[1] / "scan" / "probabilities" / f"{name}.nii.gz")
                if spacing is None and overlapping:
                    assert np.array_equal(found.voxels[0] > 0.5, masks[0] == 1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    recipe = recipe_of((2.0, 2.0, 2.0), overlapping=False)
    task = recipe.build_task().fit(np.ones((2, 2)))
    network = build_segmentation(
        build_encoder("plain_resnet10_3d", seed=0), task.outputs, decoder="unet", decoder_width=4
    )
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    folder.path.mkdir()
    write_yaml(folder.recipe_path, recipe.to_dict())
    save_network(folder, network, recipe, task, None)
    write_json(folder.result_path, {})
    return folder.path


def test_the_verb_writes_labels_and_says_volumes(saved, voxgraft, tmp_path) -> None:
    scan, out = tmp_path / "scan.nii.gz", tmp_path / "out"
    write_scan(scan)
    clean = ("--clean", "all=largest,fill,0.5ml")
    code, said, errors = voxgraft("predict", saved, scan, "--out", out, "--each", *clean, "--json")
    assert code == 0, errors
    (told,) = json.loads(said)["segmentations"]
    assert told["folder"] == str(out / "scan")
    assert list(told["volumes_ml"]) == list(CLASSES)
    found = read_label_map(out / "scan" / "combined_labels.nii.gz")
    assert found.shape == (20, 36, 30)
    for index, name in enumerate(CLASSES):
        voxels = np.count_nonzero(found.voxels == index + 1)
        assert told["volumes_ml"][name] == pytest.approx(voxels * 2.5 / 1000, rel=1e-5)
    assert read_structures(out / "scan" / "labels.json").names == CLASSES
    assert len(list((out / "scan" / "segmentations").iterdir())) == 2


def test_mistakes_of_the_verb_are_named(saved, voxgraft, tmp_path) -> None:
    scan, out = tmp_path / "scan.nii.gz", tmp_path / "out"
    write_scan(scan)
    for wish, words in (
        ((), "give --out DIR"),
        (("--out", scan), "is a file"),
        (("--out", out, "--explain", out), "leave out --explain"),
        (("--out", out, "--clean", "liver=fill"), "'liver' is no structure"),
        (("--out", out, "--clean", "dim=polish"), "'polish' is no rule"),
        (("--out", out, "--clean", "dim=xml"), "'xml' is no volume"),
        (("--out", out, "--clean", "dim=fill", "--clean", "dim=fill"), "given twice"),
        (("--out", out, "--dicom-seg"), "no DICOM folder"),
        (("--out", out, "--device", "abacus"), "cannot run on 'abacus'"),
    ):
        code, _, said = voxgraft("predict", saved, scan, *wish)
        assert code == 2, said
        assert words in " ".join(said.split())
    assert not out.exists()


def test_a_broken_scan_loses_no_other(saved, voxgraft, tmp_path) -> None:
    scans = [tmp_path / f"{name}.nii.gz" for name in ("first", "broken", "größe")]
    write_scan(scans[0])
    scans[1].write_bytes(b"no scan")
    write_scan(scans[2])
    code, said, errors = voxgraft("predict", saved, *scans, "--out", tmp_path / "out", "--json")
    assert code == 2
    assert "1 of 3 scans" in errors
    assert "broken.nii.gz" in errors
    told = json.loads(said)["segmentations"]
    assert [(one["scan"], one["kept"]) for one in told] == [
        (str(path), False) for path in (scans[0], scans[2])
    ]
    write_scan(scans[1])
    code, said, errors = voxgraft("predict", saved, *scans, "--out", tmp_path / "out", "--json")
    assert code == 0, errors
    again = json.loads(said)["segmentations"]
    assert [one["kept"] for one in again] == [True, False, True]
    assert again[0]["volumes_ml"] == told[0]["volumes_ml"]
    assert (tmp_path / "out" / "größe" / "combined_labels.nii.gz").is_file()
