import importlib.util
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread

from voxgraft.errors import VolumeError
from voxgraft.volumes import (
    GeometryError,
    dicom_slice_uids,
    read_header,
    read_series,
    read_volume,
    series_uid,
)

_spec = importlib.util.spec_from_file_location(
    "dicom_series", Path(__file__).with_name("dicom_series.py")
)
dicom_series = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(dicom_series)
write_series, write_slice = dicom_series.write_series, dicom_series.write_slice


def stored(levels=5):
    return np.random.default_rng(0).integers(0, 2000, (levels, 6, 8)).astype(np.uint16)


def test_sorted_by_place_rescaled_and_placed(tmp_path):
    write_series(tmp_path, stored())
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels[0], stored().astype(int) - 1024)
    assert volume.voxels.dtype == np.int16
    assert volume.spacing_mm == pytest.approx((2.0, 0.8, 0.6))
    assert volume.affine.orientation == "LPS"
    np.testing.assert_allclose(volume.affine.origin_mm, (10, 20, 30))
    header = read_header(tmp_path)
    assert (header.shape, header.affine, header.format) == ((5, 6, 8), volume.affine, "dicom")
    assert series_uid(tmp_path) == "1.2.3.4"


def test_a_series_tells_its_slices_in_the_order_of_the_volume(tmp_path):
    write_series(tmp_path, stored(), StudyInstanceUID="1.9", PatientID=" P7 ", Manufacturer="ACME")
    series = read_series(tmp_path)
    assert (series.series_uid, series.study_uid, series.patient_id) == ("1.2.3.4", "1.9", "P7")
    assert (series.description, series.modality, series.manufacturer) == ("thin", "CT", "ACME")
    volume = read_volume(tmp_path)
    for level, item in enumerate(series.slices):
        x, y, z = item.position_mm
        np.testing.assert_allclose(volume.affine.to_world((level, 0, 0)), (-x, -y, z))
        assert item.instance_number == 5 - level
        assert str(dcmread(item.path).SOPInstanceUID) == item.uid
    assert dicom_slice_uids(tmp_path) == tuple(item.uid for item in series.slices)
    with pytest.raises(VolumeError, match="no such folder"):
        read_series(tmp_path / "none")


def test_same_as_simpleitk_on_an_oblique_series(tmp_path):
    turn = np.deg2rad(20)
    across = (np.cos(turn), np.sin(turn), 0.0)
    down = (0.0, 0.0, -1.0)
    normal = np.cross(across, down)
    for level, pixels in enumerate(stored()):
        place = tuple(np.array([5.0, 6.0, 7.0]) + 1.5 * level * normal)
        path = tmp_path / f"{(3 * level) % 5}.dcm"
        write_slice(path, pixels, position=place, series="1.2", orientation=(*across, *down))
    volume = read_volume(tmp_path)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), volume.voxels[0])
    for index in ((0, 0, 0), (4, 5, 7)):
        x, y, z = image.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose(volume.affine.to_world(index), (-x, -y, z), atol=1e-4)


def test_slope_and_intercept_are_each_slice_own(tmp_path):
    for level in range(3):
        write_slice(
            tmp_path / f"{level}.dcm",
            np.full((4, 4), 100, np.uint16),
            position=(0, 0, level),
            series="1.2",
            slope=0.5 * (level + 1),
            intercept=level,
        )
    assert read_volume(tmp_path).voxels[0, :, 0, 0].tolist() == [50.0, 101.0, 152.0]


def test_missing_and_doubled_slices_name_the_files(tmp_path):
    paths = write_series(tmp_path / "a", stored(6))
    paths[2].unlink()
    with pytest.raises(GeometryError) as error:
        read_volume(tmp_path / "a")
    assert "slices are missing (slices stand every 2 mm)" in str(error.value)
    assert f"4 mm between {paths[1].name} (at 32.00 mm) and {paths[3].name}" in str(error.value)

    paths = write_series(tmp_path / "b", stored(4))
    write_slice(tmp_path / "b" / "zz.dcm", stored()[0], position=(-10, -20, 34), series="1.2.3.4")
    expected = f"{paths[2].name} and zz.dcm both at 34.00 mm, with different pixels"
    with pytest.raises(GeometryError, match=expected):
        read_volume(tmp_path / "b")


def test_uneven_spacing(tmp_path):
    for level, z in enumerate((0, 1, 2, 3.4, 4.7, 6)):
        write_slice(tmp_path / f"{level}.dcm", stored()[0], position=(0, 0, z), series="1.2")
    with pytest.raises(GeometryError, match=r"unevenly spaced: gaps from 1 to 1.4 mm"):
        read_volume(tmp_path)


def test_rounded_positions_are_no_fault(tmp_path):
    for level in range(9):
        z = round(level * 0.625, 1)
        write_slice(tmp_path / f"{level}.dcm", stored()[0], position=(0, 0, z), series="1.2")
    assert read_volume(tmp_path).spacing_mm[0] == pytest.approx(0.625)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixels": np.zeros((7, 8), np.uint16)}, r"differ in size .*6 x 8: .*7 x 8: zz.dcm"),
        (
            {"orientation": (0, 1, 0, -1, 0, 0)},
            r"orientations(.|\n)*axial \(0, 1, .*: zz.dcm",
        ),
        ({"spacing": (0.9, 0.6)}, "differ in PixelSpacing"),
        ({"PixelSpacing": None}, "zz.dcm: no usable PixelSpacing"),
        ({"ImagePositionPatient": None}, "zz.dcm: no usable ImagePositionPatient"),
        ({"spacing": (0.0, 0.6)}, r"zz.dcm: PixelSpacing is \(0.0, 0.6\) mm"),
        ({"NumberOfFrames": 3}, r"is not read: zz.dcm \(3 frames\)"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.5, 1, 0]}, r"zz.dcm: ImageOrientationPatient is"),
        ({"RescaleSlope": 0}, "zz.dcm: cannot be read .* RescaleSlope is 0"),
        ({"PatientID": "P2"}, "name 2 patients: 'P1' in 000.dcm, 'P2' in zz.dcm"),
        ({"SamplesPerPixel": 3}, "zz.dcm are color images"),
    ],
)
def test_a_slice_that_does_not_fit(tmp_path, options, message):
    write_series(tmp_path, stored(), PatientID="P1")
    pixels = options.pop("pixels", stored()[0])
    write_slice(tmp_path / "zz.dcm", pixels, position=(-10, -20, 40), series="1.2.3.4", **options)
    with pytest.raises(VolumeError, match=message):
        read_header(tmp_path)


def test_damaged_slices(tmp_path):
    paths = write_series(tmp_path, stored())
    content = paths[1].read_bytes()
    paths[1].write_bytes(content[:-40])
    with pytest.raises(VolumeError, match=f"{paths[1].name}: cannot be read as a DICOM slice"):
        read_volume(tmp_path)
    paths[1].write_bytes(content[:100])
    with pytest.raises(VolumeError, match=f"1 file cannot be read as DICOM: {paths[1].name}"):
        read_volume(tmp_path)


def test_folders_without_dicom(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    write_series(tmp_path / "inner", stored())
    expected = f"{tmp_path}: holds no DICOM image (found 1 files, subfolders inner)"
    with pytest.raises(VolumeError, match=re.escape(expected)):
        read_volume(tmp_path)


def test_other_files_beside_the_slices_do_not_matter(tmp_path):
    write_series(tmp_path, stored())
    (tmp_path / "LICENSE").write_text("x")
    (tmp_path / "annotations.xml").write_text("<x/>")
    assert read_volume(tmp_path).shape == (5, 6, 8)


def test_a_single_slice_says_where_its_depth_comes_from(tmp_path):
    write_slice(tmp_path / "1.dcm", stored()[0], position=(0, 0, 0), series="1.2")
    assert read_volume(tmp_path).notes == ("a single slice: its thickness of 2 mm is the spacing",)


def test_threads_read_odd_headers_without_warnings(tmp_path):
    """pydicom warns of such values; the filters are the whole process's, and are put back."""
    for path in write_series(tmp_path, stored()):
        path.write_bytes(path.read_bytes().replace(b"1.2.3.4\0", b"1.02.3.4"))
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as threads:
        volumes = list(threads.map(read_volume, [tmp_path] * 16))
    assert warnings.filters == before
    assert all(volume.voxels.sum() == volumes[0].voxels.sum() for volume in volumes)
