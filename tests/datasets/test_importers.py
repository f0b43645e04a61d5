import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from voxgraft.datasets import check_table, import_folder_per_class, import_medmnist, read_table
from voxgraft.errors import TableError
from voxgraft.volumes import Affine, Volume, read_volume, write_volume

_spec = importlib.util.spec_from_file_location(
    "dicom_series", Path(__file__).parents[1] / "volumes" / "dicom_series.py"
)
dicom_series = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(dicom_series)


def archive(path, size=6, counts=(6, 3, 4), classes=2, **changes):
    random = np.random.default_rng(0)
    arrays = {}
    for split, n in zip(("train", "val", "test"), counts, strict=True):
        arrays[f"{split}_images"] = random.integers(0, 255, (n, size, size, size), np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n) % classes).astype(np.uint8)[:, None]
    arrays.update(changes)
    np.savez_compressed(path, **{name: a for name, a in arrays.items() if a is not None})
    return arrays


@pytest.mark.parametrize("size", [6, 9])
def test_medmnist(tmp_path, size):
    arrays = archive(tmp_path / "nodulemnist3d_64.npz", size)
    table = import_medmnist(tmp_path / "nodulemnist3d_64.npz", tmp_path / "out", jobs=2)
    assert table.splits == ("train", "validation", "test")
    assert len(table) == len(table.patients) == 13
    row = table.frame[table.frame["case_id"] == "test_00003"].iloc[0]
    assert (row["label"], row["label_name"], row["split"]) == (1, "malignant", "test")
    volume = read_volume(table.image_path("test_00003"))
    np.testing.assert_array_equal(volume.voxels[0], arrays["test_images"][3])
    assert check_table(table) == []
    again = import_medmnist(tmp_path / "nodulemnist3d_64.npz", tmp_path / "out")
    assert again.sha256 == read_table(tmp_path / "out" / "table.csv").sha256 == table.sha256


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"val_labels": None}, "arrays val_labels are missing"),
        ({"train_images": np.zeros((6, 6, 6), np.uint8)}, r"shape \(6, 6, 6\) \(a 2D archive\)"),
        ({"train_labels": np.zeros((6, 3), np.uint8)}, "expected one whole number a case"),
        ({"train_labels": np.zeros((5, 1), np.uint8)}, "train has 6 images and 5 labels"),
        ({"test_labels": np.full((4, 1), 2, np.uint8)}, "has the label 2, but 2 class names"),
        ({"train_images": np.full((6, 6, 6, 6), np.nan)}, "NaN or infinite voxels"),
        ({"val_images": np.zeros((3, 5, 5, 5), np.uint8)}, "images of different shapes"),
    ],
)
def test_archives_that_are_no_medmnist3d(tmp_path, changes, message):
    archive(tmp_path / "nodulemnist3d.npz", **changes)
    with pytest.raises(TableError, match=message):
        import_medmnist(tmp_path / "nodulemnist3d.npz", tmp_path / "out")


def test_damaged_archive_and_other_folder(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK nothing")
    with pytest.raises(TableError, match=r"cannot be read as an .npz archive"):
        import_medmnist(tmp_path / "a.npz", tmp_path / "out")
    with pytest.raises(TableError, match=r"gone.npz: no such file"):
        import_medmnist(tmp_path / "gone.npz", tmp_path / "out")
    archive(tmp_path / "b.npz")
    import_medmnist(tmp_path / "b.npz", tmp_path / "ok")
    with pytest.raises(TableError, match=r"other settings .*spacing_mm = 1.0 there, 2.0 asked"):
        import_medmnist(tmp_path / "b.npz", tmp_path / "ok", spacing_mm=2.0)
    (tmp_path / "mine" / "images").mkdir(parents=True)
    with pytest.raises(TableError, match="holds images or a table that no import made"):
        import_medmnist(tmp_path / "b.npz", tmp_path / "mine")


def test_a_killed_import_goes_on(tmp_path, monkeypatch):
    archive(tmp_path / "a.npz")
    seen = []

    def killed(done, total):
        seen.append(done)
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_medmnist(tmp_path / "a.npz", tmp_path / "out", on_progress=killed)
    assert not (tmp_path / "out" / "table.csv").exists()
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "images").iterdir()}
    assert 5 <= len(kept) < 13
    left = tmp_path / "out" / "images" / ".tmp-1-x.nii.gz"
    left.write_bytes(b"half")
    os.utime(left, (0, 0))
    table = import_medmnist(tmp_path / "a.npz", tmp_path / "out")
    assert len(table) == 13
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert not left.exists()
    assert len(list((tmp_path / "out" / "images").iterdir())) == 13


def scan(path):
    voxels = np.random.default_rng(abs(hash(path.name)) % 1000).random((1, 3, 3, 3))
    write_volume(Volume(voxels, Affine.from_spacing((1, 1, 1))), path)


def test_folder_per_class(tmp_path):
    root = tmp_path / "data"
    for name in ("yes/sub-01_ct.nii.gz", "yes/sub-02/a.nrrd", "no/sub-03_ct.npz"):
        scan(root / name)
    dicom_series.write_series(root / "no" / "sub-04", np.ones((3, 4, 4), np.uint16))
    (root / "no" / "notes.txt").write_text("x")
    table = import_folder_per_class(
        root, tmp_path / "tables" / "t.csv", patient_pattern=r"(sub-\d+)"
    )
    rows = table.frame[["case_id", "patient_id", "label"]].to_numpy().tolist()
    assert rows == [
        ["no_sub-03_ct", "sub-03", "no"],
        ["no_sub-04", "sub-04", "no"],
        ["yes_sub-01_ct", "sub-01", "yes"],
        ["yes_sub-02_a", "sub-02", "yes"],
    ]
    assert "split" not in table.frame
    assert read_volume(table.image_path("no_sub-04")).shape == (3, 4, 4)
    assert [f for f in check_table(table) if f.severity == "fault"] == []


def test_split_folders(tmp_path):
    for name in ("train/a/1.nii", "train/b/2.nii", "val/a/3.nii", "test/b/4.nii"):
        scan(tmp_path / "data" / name)
    table = import_folder_per_class(tmp_path / "data", tmp_path / "data" / "t.csv")
    assert table.frame["split"].tolist() == ["test", "train", "train", "validation"]
    assert table.frame["patient_id"].tolist() == ["4", "1", "2", "3"]
    assert table.frame["label"].tolist() == ["b", "a", "b", "a"]


def test_trees_that_cannot_become_a_table(tmp_path):
    root = tmp_path / "data"
    with pytest.raises(TableError, match="no such folder"):
        import_folder_per_class(root, tmp_path / "t.csv")
    scan(root / "a" / "1.nii")
    with pytest.raises(TableError, match=r"found 1 scans in classes a; expected .* two or more"):
        import_folder_per_class(root, tmp_path / "t.csv")
    scan(root / "b" / "1.nii")
    scan(root / "b" / "1.nrrd")
    (root / "b" / "pic.jpg").write_text("x")
    dicom_series.write_series(root / "c", np.ones((3, 4, 4), np.uint16))
    with pytest.raises(TableError) as error:
        import_folder_per_class(root, tmp_path / "t.csv", patient_pattern=r"b/(\d)")
    text = str(error.value)
    assert "b/pic.jpg: is no scan (by its suffix)" in text
    assert "b/1.nii and b/1.nrrd would share the case_id 'b_1'" in text
    assert "DICOM slices directly in a class folder" in text
    assert r"a/1.nii: patient pattern 'b/(\\d)' does not match 'a/1.nii'" in text
    assert not (tmp_path / "t.csv").exists()
    with pytest.raises(TableError, match="is no regular expression"):
        import_folder_per_class(root, tmp_path / "t.csv", patient_pattern="(")
