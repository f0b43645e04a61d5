"""Files of the world, and broken ones: a right volume or a VolumeError, never anything else."""

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
import SimpleITK
from pydicom import dcmread
from pydicom.uid import JPEG2000Lossless, RLELossless

from voxgraft.errors import FetchError, VolumeError
from voxgraft.packages import PackageArchive, package_archive
from voxgraft.volumes import read_header, read_series, read_volume, series_uid

PYDICOM_FILES = Path(pydicom.data.__file__).parent / "test_files"
TOTALSEGMENTATOR = PackageArchive(
    package="totalsegmentator",
    version="2.18.0",
    sha256="5d4223ef93973bc36d710869d11e7742ead2c154c72f7f9edcaaadd5b6c4bd03",
)


def read_or_refuse(folder):
    """Return a volume that keeps its own promises, or None if it was refused in our words."""
    try:
        header, volume = read_header(folder), read_volume(folder)
    except VolumeError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert str(folder) in refusal
        return None
    assert header.shape == volume.shape
    assert header.affine == volume.affine
    assert np.isfinite(volume.voxels).all()
    assert len(read_series(folder).slices) == volume.shape[0]
    return volume


def test_all_files_that_pydicom_tests_itself_with(tmp_path):
    read = {}
    for number, path in enumerate(sorted(PYDICOM_FILES.rglob("*"))):
        if path.is_file() and "TINY_ALPHA" not in path.parts:
            folder = tmp_path / str(number)
            folder.mkdir()
            shutil.copy(path, folder / path.name)
            series_uid(folder)
            read[path.name] = read_or_refuse(folder)
            shutil.rmtree(folder)
    assert len(read) > 100
    for name in ("CT_small", "693_J2KI", "J2K_pixelrep_mismatch", "examples_overlay"):
        assert read[f"{name}.dcm"] is not None, name
    for name in ("rtdose", "MR_truncated", "SC_rgb_jpeg", "liver_1frame", "test-SR", "badVR"):
        assert read[f"{name}.dcm"] is None, name
    reference = dcmread(PYDICOM_FILES / "CT_small.dcm")
    np.testing.assert_array_equal(
        read["CT_small.dcm"].voxels[0, 0], reference.pixel_array.astype(int) - 1024
    )


def test_folders_of_pydicoms_files(tmp_path):
    folders = [path for path in PYDICOM_FILES.rglob("*") if path.is_dir()]
    for folder in [PYDICOM_FILES, *folders]:
        series_uid(folder)
        read_or_refuse(folder)
    volume = read_or_refuse(PYDICOM_FILES / "dicomdirtests" / "98892001" / "CT5N")
    assert volume is not None
    assert volume.shape == (5, 16, 16)


@pytest.mark.parametrize("syntax", [None, RLELossless, JPEG2000Lossless])
def test_bytes_changed_at_random(tmp_path, dicom, syntax):
    """Anywhere: in the header, in the pixels, cut off, or doubled."""
    random = np.random.default_rng(11)
    pixels = random.integers(0, 2000, (3, 32, 32)).astype(np.uint16)
    paths = dicom.write_series(tmp_path, pixels, PixelPaddingValue=0, BitsStored=12, HighBit=11)
    for path in paths:
        item = dcmread(path)
        if syntax is not None:
            item.compress(syntax, generate_instance_uid=False)
        item.save_as(path)
    whole = read_volume(tmp_path)
    content = paths[1].read_bytes()
    header = content.index(b"\xe0\x7f\x10\x00") + 12
    right = 0
    for number in range(60):
        broken = bytearray(content)
        end = (header, len(broken))[number % 2]
        start = (128, header)[number % 2]
        if number % 10 == 9:
            broken = broken[: int(random.integers(len(broken)))]
        else:
            for place in random.integers(start, end, 1 + number % 4):
                broken[place] = random.integers(256)
        paths[1].write_bytes(broken)
        volume = read_or_refuse(tmp_path)
        right += volume is not None and volume.shape == whole.shape
    assert 3 < right < 57
    paths[1].write_bytes(content)
    np.testing.assert_array_equal(read_volume(tmp_path).voxels, whole.voxels)


ODD_VALUES = {
    "Rows": (0, 65535),
    "Columns": (0, 65535),
    "BitsAllocated": (1, 8, 12, 32, 64, 0),
    "BitsStored": (0, 17),
    "HighBit": (0, 16),
    "SamplesPerPixel": (0, 3, 65535),
    "PixelRepresentation": (1, 2),
    "PhotometricInterpretation": ("RGB", "", "YBR_FULL"),
    "NumberOfFrames": ("0", "-1", "2147483647"),
    "PixelSpacing": (["1e-300", "1"], ["1e300", "1e300"], ["-1", "-1"], "1"),
    "ImagePositionPatient": (["1e308", "0", "0"], ["0", "0", "-1e308"], ["1", "2"]),
    "ImageOrientationPatient": (["0"] * 6, ["1e200", "0", "0", "0", "1e200", "0"]),
    "RescaleSlope": ("0", "1e300", "-1", "1e-300"),
    "RescaleIntercept": ("1e300", "-1e38", "4294967296"),
    "SliceThickness": ("0", "-5", "1e300"),
    "PixelPaddingValue": (0, 65535),
    "ImageType": ("", "ORIGINAL", ["", "", ""]),
}


@pytest.mark.parametrize("levels", [1, 3])
def test_impossible_values(tmp_path, dicom, levels):
    """In one slice of three, and in the only one."""
    pixels = np.random.default_rng(2).integers(0, 2000, (levels, 8, 8)).astype(np.uint16)
    path = dicom.write_series(tmp_path, pixels)[levels // 2]
    content = path.read_bytes()
    for name, values in ODD_VALUES.items():
        for value in values:
            item = dcmread(path)
            if isinstance(value, int):
                item[name] = pydicom.DataElement(name, "US", value)
            else:
                vr = pydicom.datadict.dictionary_VR(name)
                mode = pydicom.config.IGNORE
                item[name] = pydicom.DataElement(name, vr, value, validation_mode=mode)
            item.save_as(path)
            read_or_refuse(tmp_path)
            path.write_bytes(content)
    assert read_or_refuse(tmp_path) is not None


@pytest.fixture(scope="session")
def real_series(tmp_path_factory):
    try:
        archive = package_archive(TOTALSEGMENTATOR)
    except FetchError as fault:
        pytest.skip(str(fault))
    folder = tmp_path_factory.mktemp("real")
    with tarfile.open(archive) as packed:
        for member in packed:
            if "/example_ct_dicom/CT." in member.name:
                data = packed.extractfile(member)
                assert data is not None
                (folder / Path(member.name).name).write_bytes(data.read())
    return folder


def test_a_real_ct_as_simpleitk_reads_it(real_series):
    """20 slices of a Siemens PET/CT, JPEG 2000, its identifiers emptied."""
    volume = read_volume(real_series)
    reader = SimpleITK.ImageSeriesReader()
    slices = read_series(real_series).slices
    reader.SetFileNames([str(item.path) for item in slices])
    image = reader.Execute()
    np.testing.assert_array_equal(volume.voxels[0], SimpleITK.GetArrayFromImage(image))
    assert (volume.shape, volume.notes) == ((20, 512, 512), ())
    for index in ((0, 0, 0), (19, 511, 511)):
        x, y, z = image.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose(volume.affine.to_world(index), (-x, -y, z), atol=1e-3)
    assert all(item.uid.startswith("1.3.12.2.1107.5.1.4.60064") for item in slices)


def test_a_real_ct_with_damaged_slices(real_series, tmp_path):
    paths = [item.path for item in read_series(real_series).slices][:2]
    for path in paths:
        shutil.copy(path, tmp_path / path.name)
    random = np.random.default_rng(4)
    content = paths[1].read_bytes()
    start = content.index(b"\xff\x4f\xff\x51")  # of the JPEG 2000 stream
    refused = 0
    for number in range(16):
        broken = bytearray(content)
        end = (start, start + 400, len(broken))[number % 3]
        for place in random.integers(132, end, 5):
            broken[place] = random.integers(256)
        (tmp_path / paths[1].name).write_bytes(broken)
        refused += read_or_refuse(tmp_path) is None
    assert refused > 2
