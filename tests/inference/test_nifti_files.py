"""Files beside a scan: every reader sees both at one place, whatever the scan's header says."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from voxgraft.inference import SegmentedScan, write_segmented
from voxgraft.volumes import Affine, Volume, read_volume, write_volume

PLACE = ("qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c")
PLACE += ("quatern_d", "qoffset_x", "qoffset_y", "qoffset_z")
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0] * [1.1, 1.3, 2.2]
OBLIQUE[:3, 3] = (12.3, -45.6, 78.9)
LEFT = OBLIQUE * [-1, 1, 1, 1]
FAR = OBLIQUE.copy()
FAR[:3, 3] = (1234567.8, -9876543.2, 345678.9)
MOVED = OBLIQUE.copy()
MOVED[:3, 3] += 1.5
SHEARED = OBLIQUE.copy()
SHEARED[:3, 0] += 0.2 * SHEARED[:3, 1]

# sform, its code, qform, its code, dtype, shape
KINDS = {
    "both": (OBLIQUE, 1, OBLIQUE, 1, np.int16, (7, 6, 5)),
    "sform only": (OBLIQUE, 2, None, 0, np.int8, (7, 6, 5)),
    "qform only": (None, 0, OBLIQUE, 1, np.uint16, (7, 6, 5)),
    "left-handed": (None, 0, LEFT, 1, np.float64, (7, 6, 5)),
    "left-handed sform": (LEFT, 1, None, 0, np.int16, (7, 6, 5)),
    "of an atlas": (OBLIQUE, 4, OBLIQUE, 2, np.int16, (7, 6, 5)),
    "in contradiction": (OBLIQUE, 2, MOVED, 1, np.int16, (7, 6, 5)),
    "nowhere": (None, 0, None, 0, np.int16, (7, 6, 5)),
    "one frame": (OBLIQUE, 1, OBLIQUE, 1, np.int16, (7, 6, 5, 1)),
    "far away": (FAR, 1, FAR, 1, np.int16, (7, 6, 5)),
    "sheared": (SHEARED, 1, None, 0, np.int16, (7, 6, 5)),
}


def found_on(path: Path, out: Path) -> np.ndarray:
    """Write random labels as found on a scan; return them."""
    scan = read_volume(path)
    labels = np.random.default_rng(1).integers(0, 3, scan.shape).astype(np.uint8)
    write_segmented(SegmentedScan(("a", "b"), scan.affine, labels, path), out, each=True)
    return labels


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_header_says_what_the_scans_header_says(kind, suffix, tmp_path) -> None:
    sform, sform_code, qform, qform_code, dtype, shape = KINDS[kind]
    image = nibabel.Nifti1Image(np.ones(shape, dtype), None)
    image.set_sform(sform, sform_code)
    image.set_qform(qform, qform_code)
    if qform is None and sform is not None:
        image.header["pixdim"][1:4] = np.linalg.norm(sform[:3, :3], axis=0)
    path = tmp_path / f"größe{suffix}"
    nibabel.save(image, path)
    labels = found_on(path, tmp_path / "out")
    source = nibabel.load(path)
    for name in ("combined_labels", "segmentations/a", "segmentations/b"):
        made = nibabel.load(tmp_path / "out" / f"{name}.nii.gz")
        for field in PLACE:
            assert np.array_equal(made.header[field], source.header[field])
        assert np.array_equal(made.header["pixdim"][:4], source.header["pixdim"][:4])
        assert np.abs(made.affine - source.affine).max() < 1e-6
        assert made.header.get_intent()[0] == "label"
        assert made.get_data_dtype() == np.uint8
    combined = tmp_path / "out" / "combined_labels.nii.gz"
    assert np.array_equal(np.asarray(nibabel.load(combined).dataobj).T, labels)
    assert read_volume(combined).affine.isclose(read_volume(path).affine, 1e-6)
    if kind == "sheared":  # ITK has no place for it
        return
    here, there = (SimpleITK.ReadImage(str(one)) for one in (path, combined))
    here = here[..., 0] if here.GetDimension() == 4 else here
    for get in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize"):
        assert getattr(here, get)() == getattr(there, get)()
    assert np.array_equal(SimpleITK.GetArrayFromImage(there), labels)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".npz"])
def test_scans_of_other_formats_lie_in_scanner_coordinates(suffix, tmp_path) -> None:
    path = tmp_path / f"scan{suffix}"
    affine = Affine.from_xyz(OBLIQUE)
    write_volume(Volume(np.ones((1, 5, 6, 7), np.float32), affine), path)
    labels = found_on(path, tmp_path / "out")
    made = nibabel.load(tmp_path / "out" / "combined_labels.nii.gz")
    assert np.array_equal(np.asarray(made.dataobj).T, labels)
    # In single precision, as NIfTI has it.
    assert np.array_equal(made.affine, OBLIQUE.astype(np.float32))
    assert (int(made.header["qform_code"]), int(made.header["sform_code"])) == (1, 1)
    np.testing.assert_allclose(made.get_qform(), OBLIQUE, atol=1e-4)
    if suffix != ".npz":
        here = SimpleITK.ReadImage(str(path))
        there = SimpleITK.ReadImage(str(tmp_path / "out" / "combined_labels.nii.gz"))
        for get in ("GetOrigin", "GetSpacing", "GetDirection"):
            np.testing.assert_allclose(getattr(here, get)(), getattr(there, get)(), atol=1e-5)


def test_a_nifti2_scan_keeps_its_precision(tmp_path) -> None:
    path = tmp_path / "scan.nii"
    nibabel.save(nibabel.Nifti2Image(np.ones((7, 6, 5), np.int16), OBLIQUE), path)
    labels = found_on(path, tmp_path / "out")
    made = nibabel.load(tmp_path / "out" / "combined_labels.nii.gz")
    assert isinstance(made, nibabel.Nifti2Image)
    assert np.array_equal(made.affine, OBLIQUE)
    assert np.array_equal(np.asarray(made.dataobj).T, labels)
