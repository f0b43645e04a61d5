"""Files of segmented scans: what is read again is what was found, in its place."""

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest

from voxgraft.datasets import Table, read_masks
from voxgraft.datasets.mask_classes import read_structures
from voxgraft.errors import InferenceError
from voxgraft.inference import SegmentedScan, pack_masks, segmentation_files, write_segmented
from voxgraft.volumes import Affine, read_label_map, read_volume

CLASSES = ("liver", "kidney_left", "spleen")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """Return a scan with an oblique, sheared sform that no qform can say."""
    matrix = np.array(
        [[-0.71, 0.05, 0.3, 101.3], [0.02, 0.69, -0.41, -55.7], [0.11, 0.2, 2.4, 733.1], [0] * 4]
    )
    matrix[3, 3] = 1.0
    image = nibabel.Nifti1Image(np.zeros((6, 5, 4), np.int16), None)
    image.set_sform(matrix, code=1)
    path = tmp_path / "scan.nii.gz"
    nibabel.save(image, path)
    return path


def test_a_label_map_is_a_case_of_a_table(scan: Path, tmp_path: Path) -> None:
    own = read_volume(scan)
    labels = np.random.default_rng(0).integers(0, 4, own.shape)
    folder = tmp_path / "out" / "scan"
    written = write_segmented(SegmentedScan(CLASSES, own.affine, labels), folder, each=True)
    assert sorted(written) == sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(written) == 5
    assert [path.name for path in folder.parent.iterdir()] == ["scan"]
    for path in written:
        if path.suffix == ".gz":
            sform = nibabel.load(path).affine
            assert np.abs(sform - nibabel.load(scan).affine).max() < 1e-6
    found = read_label_map(folder / "combined_labels.nii.gz")
    assert found.voxels.dtype == np.uint8
    assert np.array_equal(found.voxels, labels)
    structures = read_structures(folder / "labels.json")
    assert structures.sources == {"liver": (1,), "kidney_left": (2,), "spleen": (3,)}
    for index, name in enumerate(CLASSES):
        mask = read_label_map(folder / "segmentations" / f"{name}.nii.gz")
        assert np.array_equal(mask.voxels, labels == index + 1)


@pytest.mark.parametrize("overlapping", [False, True])
def test_it_can_be_trained_on(scan: Path, tmp_path: Path, overlapping: bool) -> None:
    own = read_volume(scan)
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, own.shape)
    masks = rng.random((3, *own.shape)) < 0.4
    made = pack_masks(enumerate(masks), 3, own.shape) if overlapping else labels
    folder = tmp_path / "found"
    write_segmented(SegmentedScan(CLASSES, own.affine, made), folder)
    assert (folder / "segmentations").exists() is overlapping
    assert (folder / "combined_labels.nii.gz").exists() is not overlapping
    where = folder / "segmentations" if overlapping else folder / "combined_labels.nii.gz"
    frame = pd.DataFrame(
        {
            "case_id": ["a"],
            "patient_id": ["a"],
            "image": [str(scan)],
            "masks": [str(where)],
            "structures": [str(folder / "labels.json")],
        }
    )
    read = read_masks(Table(frame, tmp_path), "a", CLASSES)
    for index, name in enumerate(CLASSES):
        assert np.array_equal(read.mask(name), masks[index] if overlapping else labels == index + 1)


def test_nothing_is_half_written(scan: Path, tmp_path: Path, monkeypatch) -> None:
    own = read_volume(scan)
    found = SegmentedScan(CLASSES, own.affine, np.zeros(own.shape, np.uint8))
    real, calls = segmentation_files.write_on_scan, []

    def failing(path, *arguments, **others) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        real(path, *arguments, **others)

    monkeypatch.setattr(segmentation_files, "write_on_scan", failing)
    with pytest.raises(InferenceError, match="No space left"):
        write_segmented(found, tmp_path / "out", each=True)
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_refusals(tmp_path: Path) -> None:
    affine = Affine.from_spacing((1.0, 1.0, 1.0))
    labels = np.zeros((1, 2, 3), np.uint8)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "notes.txt").write_text("mine")
    with pytest.raises(InferenceError, match="not empty"):
        write_segmented(SegmentedScan(CLASSES, affine, labels), tmp_path / "old")
    names = ("a/b", "Liver", "liver")
    with pytest.raises(InferenceError, match=r"'a/b', 'Liver', 'liver'"):
        write_segmented(SegmentedScan(names, affine, labels), tmp_path / "new", each=True)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    (tmp_path / "empty").mkdir()
    write_segmented(SegmentedScan(names, affine, labels), tmp_path / "empty")
    assert len(list((tmp_path / "empty").iterdir())) == 2
