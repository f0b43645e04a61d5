"""DICOM segmentations: highdicom reads the same volumes at the same place."""

import importlib.util
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest

from voxgraft.errors import InferenceError
from voxgraft.inference import SegmentedScan, pack_masks, write_dicom_seg
from voxgraft.volumes import Affine, read_volume

_spec = importlib.util.spec_from_file_location(
    "dicom_series", Path(__file__).parents[1] / "volumes" / "dicom_series.py"
)
assert _spec is not None
assert _spec.loader is not None
dicom_series = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(dicom_series)

CLASSES = ("liver", "kidney_left", "my_own_tumor")
OBLIQUE = (0.0, 0.9961947, -0.08715574, 0.0, -0.08715574, -0.9961947)  # sagittal, turned by 5°
UIDS = {"StudyInstanceUID": "1.2.3", "FrameOfReferenceUID": "1.2.5"}


@pytest.fixture(params=["axial", "oblique"])
def series(request, tmp_path: Path) -> Path:
    folder = tmp_path / "ct"
    voxels = np.zeros((5, 8, 7), np.uint16)
    if request.param == "axial":
        dicom_series.write_series(folder, voxels, PatientID="P1", **UIDS)
    else:
        for level in range(5):
            dicom_series.write_slice(
                folder / f"{level}.dcm",
                voxels[level],
                position=(3.0 * level - 10, 5.0, 60.0),
                series="1.2.3.4",
                orientation=OBLIQUE,
                number=level + 1,
                **UIDS,
            )
    return folder


def volumes(path: Path, scan) -> list[np.ndarray]:
    """Return the segments as highdicom has them, on the scan's grid."""
    seg = highdicom.seg.segread(path)
    found = []
    lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    for number in seg.segment_numbers:
        volume = seg.get_volume(segment_numbers=[number], combine_segments=False)
        grid = np.zeros(scan.shape, bool)
        index = np.argwhere(volume.array[..., 0])
        world = np.c_[index, np.ones(len(index))] @ (lps @ volume.affine).T
        place = scan.affine.to_index(world[:, :3])
        assert np.abs(place - np.rint(place)).max(initial=0) < 1e-3
        grid[tuple(np.rint(place).astype(int).T)] = True
        found.append(grid)
    return found


@pytest.mark.parametrize("overlapping", [False, True])
def test_highdicom_reads_what_was_written(series: Path, tmp_path: Path, overlapping: bool) -> None:
    scan = read_volume(series)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, scan.shape)
    masks = np.stack([labels == k + 1 for k in range(3)])
    if overlapping:
        masks = rng.random(masks.shape) < 0.4
    masks[:, 0] = False  # a slice without anything
    labels[0] = 0
    made = pack_masks(enumerate(masks), 3, scan.shape) if overlapping else labels
    path = tmp_path / "seg.dcm"
    write_dicom_seg(SegmentedScan(CLASSES, scan.affine, made), series, path, algorithm="mine")
    assert np.array_equal(volumes(path, scan), masks)
    file = pydicom.dcmread(path)
    assert file.Modality == "SEG"
    assert (file.StudyInstanceUID, file.FrameOfReferenceUID) == ("1.2.3", "1.2.5")
    assert file.SeriesInstanceUID != "1.2.3.4"
    assert [item.SegmentLabel for item in file.SegmentSequence] == list(CLASSES)
    kinds = [item.SegmentedPropertyTypeCodeSequence[0] for item in file.SegmentSequence]
    assert [kind.CodingSchemeDesignator for kind in kinds] == ["SCT", "SCT", "99VOXGRAFT"]
    assert kinds[1].SegmentedPropertyTypeModifierCodeSequence[0].CodeMeaning == "Left"
    referenced = {
        item.ReferencedSOPInstanceUID
        for item in file.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    own = {pydicom.dcmread(each).SOPInstanceUID for each in series.iterdir()}
    assert referenced <= own


def test_a_scan_without_any_structure(series: Path, tmp_path: Path) -> None:
    scan = read_volume(series)
    made = SegmentedScan(CLASSES, scan.affine, np.zeros(scan.shape, np.uint8))
    write_dicom_seg(made, series, tmp_path / "seg.dcm")
    assert not np.any(volumes(tmp_path / "seg.dcm", scan))


def test_a_series_that_does_not_say_how_thick_its_slices_are(series: Path, tmp_path: Path) -> None:
    for path in series.iterdir():
        one = pydicom.dcmread(path)
        one.SliceThickness = None  # DICOM lets it be empty
        if path.name.startswith("0"):
            del one.SliceThickness
        one.save_as(path)
    scan = read_volume(series)
    found = np.zeros(scan.shape, np.uint8)
    found[2, 3:5, 2] = 1
    write_dicom_seg(SegmentedScan(CLASSES, scan.affine, found), series, tmp_path / "seg.dcm")
    assert np.array_equal(volumes(tmp_path / "seg.dcm", scan)[0], found == 1)


def test_refusals(tmp_path: Path) -> None:
    folder = tmp_path / "ct"
    dicom_series.write_series(folder, np.zeros((3, 4, 4), np.uint16))
    scan = read_volume(folder)
    labels = np.zeros(scan.shape, np.uint8)
    made = SegmentedScan(("liver",), scan.affine, labels)
    with pytest.raises(InferenceError, match="no StudyInstanceUID and no FrameOfReferenceUID"):
        write_dicom_seg(made, folder, tmp_path / "seg.dcm")
    away = SegmentedScan(("liver",), Affine.from_spacing((2.0, 0.8, 0.6)), labels)
    with pytest.raises(InferenceError, match="not on the grid"):
        write_dicom_seg(away, folder, tmp_path / "seg.dcm")
    assert not list(tmp_path.glob("*.dcm"))
