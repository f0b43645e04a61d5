"""Explanations of scans: heat in place on the scan's own grid, slices, file names, the verb."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.image import imread

from voxgraft.datasets import Windows
from voxgraft.files import write_json
from voxgraft.inference import explain_scan, names_of_scans, scan_slice_of
from voxgraft.inference.scans import heat_on_scan, scans_in
from voxgraft.models import Network, build_encoder
from voxgraft.recipes import write_yaml
from voxgraft.runs import RunFolder
from voxgraft.runs.saved import save_network
from voxgraft.transforms import Keep, Preprocessing, preprocess
from voxgraft.volumes import Affine, Volume, read_volume, write_volume

PREPROCESSING = Preprocessing(
    spacing_mm=(2.0, 1.5, 1.5), size_voxels=(30, 40, 40), intensity=Keep(), background=0.0
)
# Columns: steps along depth, height and width in (x, y, z) mm. Upright; feet last and turned;
# sagittal slices; oblique by ten degrees.
DIRECTIONS = {
    "axial": [[0, 0, 1], [0, 1, 0], [1, 0, 0]],
    "head first, turned": [[0, 0, -1], [0, -1, 0], [1, 0, 0]],
    "sagittal": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
    "oblique": [
        [0, -np.sin(0.17), np.cos(0.17)],
        [0, np.cos(0.17), np.sin(0.17)],
        [1, 0, 0],
    ],
}


def scan_of(kind: str, spacing=(4.0, 0.8, 1.1), shape=(18, 70, 60)) -> Volume:
    """Return an empty scan with the world's origin in its middle."""
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(DIRECTIONS[kind]).T * spacing
    matrix[:3, 3] = -matrix[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Volume(np.zeros((1, *shape), np.float32), Affine(matrix))


@pytest.mark.parametrize("kind", DIRECTIONS)
def test_heat_keeps_its_place_in_the_body(kind) -> None:
    scan = scan_of(kind)
    prepared = preprocess(scan, PREPROCESSING)
    grid = np.stack(np.meshgrid(*map(np.arange, prepared.shape), indexing="ij"), axis=-1)
    where = np.array([5.0, -9.0, 7.0])  # x, y, z in mm
    world = prepared.affine.to_world(grid)
    heat = np.exp(-((world - where) ** 2).sum(axis=-1) / (2 * 6.0**2)).astype(np.float32)
    found = heat_on_scan(heat, prepared.affine, scan)
    assert found.voxels.shape == scan.voxels.shape
    assert found.affine == scan.affine
    voxels = np.stack(np.meshgrid(*map(np.arange, scan.shape), indexing="ij"), axis=-1)
    expected = np.exp(-((scan.affine.to_world(voxels) - where) ** 2).sum(axis=-1) / 72)
    inside = prepared.affine.to_index(scan.affine.to_world(voxels))
    shown = ((inside > 0) & (inside < np.array(prepared.shape) - 1)).all(axis=-1)
    np.testing.assert_allclose(found.voxels[0][shown], expected[shown], atol=0.03)
    peak = np.unravel_index(found.voxels[0].argmax(), scan.shape)
    assert np.abs(scan.affine.to_world(np.array(peak)) - where).max() < 2.1  # half a voxel
    beyond = ((inside < -1) | (inside > np.array(prepared.shape))).any(axis=-1)
    assert not found.voxels[0][beyond].any()


@pytest.fixture
def windowed(finder, make_run):
    windows = Windows(size_voxels=(8, 32, 32), stride_slices=4)
    return make_run(finder.encoder, network=finder, windows=windows, preprocessing=PREPROCESSING)


def put_blob(scan: Volume, where: np.ndarray, rng: np.random.Generator) -> Volume:
    voxels = np.stack(np.meshgrid(*map(np.arange, scan.shape), indexing="ij"), axis=-1)
    apart = ((scan.affine.to_world(voxels) - where) / np.array([3.0, 3.0, 4.0])) ** 2
    image = 0.4 + 0.05 * rng.normal(size=scan.shape) + 0.8 * np.exp(-apart.sum(axis=-1) / 2)
    return Volume(image[None].astype(np.float32), scan.affine)


@pytest.mark.parametrize("kind", ["axial", "head first, turned", "sagittal"])
def test_a_scan_is_explained_slice_by_slice(kind, windowed, tmp_path) -> None:
    where = np.array([5.0, -6.0, 13.0])
    path = tmp_path / "scan.nii.gz"
    write_volume(put_blob(scan_of(kind), where, np.random.default_rng(0)), path)
    found = explain_scan(windowed, path)
    assert found.explanation.score > 0.5
    peak = np.unravel_index(found.heat.voxels[0].argmax(), found.scan.shape)
    assert np.abs(found.scan.affine.to_world(np.array(peak)) - where).max() < 12
    frame = found.slices
    assert frame["slice"].tolist() == list(range(found.scan.shape[0]))
    np.testing.assert_allclose(frame["heat"], found.heat.voxels[0].max(axis=(1, 2)))
    # Positions grow to superior, or to the right, whatever the order of the file.
    steps = np.diff(frame["position_mm"])
    np.testing.assert_allclose(np.abs(steps), 4.0, atol=1e-3)
    assert (steps < 0).all() == (kind == "head first, turned")
    assert frame["attention"].isna().all()
    if kind == "sagittal":
        assert frame["score"].isna().all()
        assert scan_slice_of(found.scan, found.prepared, 3) is None
        assert frame["position_mm"].iloc[0] == pytest.approx(-34)
        return
    nearest = frame.iloc[(frame["position_mm"] - where[2]).abs().argmin()]
    assert nearest["score"] == found.explanation.score
    far = frame.iloc[(frame["position_mm"] + 25).abs().argmin()]
    assert far["score"] < 0.5
    shown = frame[(frame["position_mm"].abs() < 29)]
    assert shown["score"].notna().all()
    for depth in (0, 12, 29):
        own = scan_slice_of(found.scan, found.prepared, depth)
        z = found.prepared.affine.to_world(np.array([depth, 0, 0]))[2]
        assert abs(frame["position_mm"][own] - z) <= 2.001


def test_slices_that_the_network_was_not_shown_have_no_score(finder, make_run, tmp_path) -> None:
    short = Preprocessing(
        spacing_mm=(2.0, 1.5, 1.5), size_voxels=(10, 40, 40), intensity=Keep(), background=0.0
    )
    run = make_run(finder.encoder, network=finder, preprocessing=short)
    write_volume(scan_of("axial"), tmp_path / "scan.nii.gz")
    frame = explain_scan(run, tmp_path / "scan.nii.gz").slices
    middle = frame["position_mm"].abs() < 10
    assert frame["score"][middle].notna().all()
    assert frame["score"][frame["position_mm"].abs() > 12.1].isna().all()
    assert frame["score"][middle].nunique() == 1  # seen whole: the study's own score


def test_names_of_scans_are_different(tmp_path) -> None:
    folder = tmp_path / "c" / "series.1"
    folder.mkdir(parents=True)
    paths = [
        tmp_path / "a" / "scan.nii.gz", tmp_path / "b" / "SCAN.nrrd", folder, tmp_path / "x.mha",
        tmp_path / "a" / "scan.mha", tmp_path / "x_2.nii", tmp_path / "x.mha",
    ]  # fmt: skip
    names = names_of_scans(paths)
    assert len({name.casefold() for name in names}) == len(paths)
    assert names[:3] == ["a_scan", "b_SCAN", "series.1"]
    assert names[4] == "a_scan_2"
    assert names_of_scans([Path("one.v2.nii.gz")]) == ["one.v2"]


@pytest.fixture
def saved(make_run, tmp_path) -> Path:
    """Return the folder of a finished run of a registered network, seen through windows."""
    windows = Windows(size_voxels=(15, 8, 8), aggregate="attention")
    torch.manual_seed(0)
    encoder = build_encoder("plain_resnet10_3d", seed=0)
    network = Network(encoder, 1, windows_attention=True, seed=0)
    run = make_run(
        encoder, network=network, windows=windows, preprocessing=PREPROCESSING,
        model="plain_resnet10_3d",
    )  # fmt: skip
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    write_yaml(folder.recipe_path, run.recipe.to_dict())
    save_network(folder, network, run.recipe, run.task, None)
    write_json(folder.result_path, {})
    return folder.path


def test_the_verb_writes_heat_slices_and_a_picture(saved, voxgraft, tmp_path) -> None:
    rng = np.random.default_rng(0)
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        image = put_blob(scan_of("axial"), np.zeros(3), rng)
        write_volume(image, tmp_path / place / "scan.nii.gz")
    scans = [tmp_path / place / "scan.nii.gz" for place in ("a", "b")]
    out = tmp_path / "why"
    code, _, said = voxgraft("predict", saved, *scans, "--explain", out)
    assert code == 0, said
    assert sorted(path.name for path in out.iterdir()) == [
        f"{name}_scan{end}" for name in "ab" for end in (".png", "_heat.nii.gz", "_slices.csv")
    ]
    assert "a_scan.png" in said
    heat = read_volume(out / "a_scan_heat.nii.gz")
    assert heat.shape == (18, 70, 60)
    assert heat.affine.isclose(read_volume(scans[0]).affine)
    frame = pd.read_csv(out / "a_scan_slices.csv")
    assert list(frame) == ["slice", "position_mm", "score", "attention", "heat"]
    assert frame["attention"].max() <= 1
    assert imread(out / "a_scan.png").shape[1] == 1080
    code, _, said = voxgraft(
        "predict", saved, scans[0], "--explain", out, "--explain-method", "occlusion"
    )
    assert code == 0, said


def test_a_broken_scan_loses_no_other(saved, voxgraft, tmp_path) -> None:
    scans = [tmp_path / f"{name}.nii.gz" for name in "abc"]
    for path in scans:
        write_volume(put_blob(scan_of("axial"), np.zeros(3), np.random.default_rng(0)), path)
    scans[1].write_bytes(b"no scan")
    out = tmp_path / "found.csv"
    code, said, errors = voxgraft("predict", saved, *scans, "--out", out, "--json")
    assert code == 2
    assert "1 of 3 scans" in errors
    assert "b.nii.gz" in errors
    rows = json.loads(said)["predictions"]
    assert [row["scan"] for row in rows] == [str(scans[0]), str(scans[2])]
    assert pd.read_csv(out)["scan"].tolist() == [str(scans[0]), str(scans[2])]
    code, said, errors = voxgraft("predict", saved, scans[1], "--out", tmp_path / "none.csv")
    assert code == 2
    assert "1 of 1 scans" in errors
    assert not (tmp_path / "none.csv").exists()


def test_mistakes_of_the_verb_are_named(saved, voxgraft, tmp_path) -> None:
    (tmp_path / "file").write_text("x")
    for wish, words in (
        (("--explain", tmp_path / "file"), "is a file; expected a folder"),
        (("--explain", tmp_path / "x", "--explain-method", "magic"), "expected grad_cam or occ"),
        (("--explain-output", "yes"), "--explain-output needs --explain"),
        (("--explain", tmp_path / "x", "--explain-output", "no"), "no output is called 'no'"),
    ):
        code, _, said = voxgraft("predict", saved, tmp_path / "scan.nii.gz", *wish)
        assert code == 2
        assert words in said
    assert not (tmp_path / "x").exists()


def test_a_folder_of_scan_files_is_its_files_and_a_series_stays_a_folder(tmp_path):
    files = tmp_path / "images Ts"
    files.mkdir()
    for name in ("b_0000.nii.gz", "a.NRRD", "dataset.json", ".hidden.nii.gz"):
        (files / name).write_bytes(b"")
    (files / "inner.nii.gz").mkdir()
    series = tmp_path / "series"
    series.mkdir()
    for name in ("slice.dcm", "converted.nii.gz"):
        (series / name).write_bytes(b"")
    gone, empty = tmp_path / "gone.nii.gz", tmp_path / "empty"
    empty.mkdir()
    found = scans_in([gone, files, series, empty])
    assert found == [gone, files / "a.NRRD", files / "b_0000.nii.gz", series, empty]
