"""Enhanced CT: all slices in one file, each with its place in a functional group."""

import numpy as np
import pytest
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, RLELossless, generate_uid

from voxgraft.errors import VolumeError
from voxgraft.volumes import GeometryError, dicom_slice_uids, read_header, read_series, read_volume

LEVELS = (3, 0, 4, 1, 2)
"""Of the frames, in the order of the file."""


def stored():
    return np.random.default_rng(0).integers(0, 2000, (5, 6, 8)).astype(np.uint16)


def group(name, **values):
    inner = Dataset()
    for key, value in values.items():
        setattr(inner, key, value)
    outer = Dataset()
    setattr(outer, name, [inner])
    return outer


def join(*groups):
    joined = Dataset()
    for item in groups:
        joined.update(item)
    return joined


def enhanced(levels=LEVELS):
    item = Dataset()
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.file_meta.MediaStorageSOPClassUID = item.SOPClassUID = EnhancedCTImageStorage
    item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID = generate_uid()
    item.Modality, item.SeriesInstanceUID, item.InstanceNumber = "CT", "1.2.3", 7
    item.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    item.NumberOfFrames, item.Rows, item.Columns = len(levels), 6, 8
    item.SamplesPerPixel, item.PhotometricInterpretation = 1, "MONOCHROME2"
    item.BitsAllocated = item.BitsStored = 16
    item.HighBit, item.PixelRepresentation = 15, 0
    item.PixelData = stored()[list(levels)].tobytes()
    item.SharedFunctionalGroupsSequence = [
        join(
            group("PixelMeasuresSequence", PixelSpacing=[0.8, 0.6], SliceThickness=3.0),
            group("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        )
    ]
    item.PerFrameFunctionalGroupsSequence = [
        join(
            group("PlanePositionSequence", ImagePositionPatient=[-10, -20, 30 + 2 * level]),
            group(
                "PixelValueTransformationSequence", RescaleSlope=1 + level % 2,
                RescaleIntercept=-1000 - level, RescaleType="HU",
            ),
            group("FrameContentSequence", InStackPositionNumber=level + 1, TemporalPositionIndex=1),
            group("CTImageFrameTypeSequence", FrameType=["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]),
        )
        for level in levels
    ]  # fmt: skip
    return item


def hu():
    level = np.arange(5)[:, None, None]
    return stored().astype(int) * (1 + level % 2) - 1000 - level


def save(item, folder, name="0.dcm"):
    folder.mkdir(exist_ok=True)
    item.save_as(folder / name, enforce_file_format=True)
    return folder


def test_frames_are_slices(tmp_path):
    item = enhanced()
    volume = read_volume(save(item, tmp_path))
    np.testing.assert_array_equal(volume.voxels[0], hu())
    assert volume.voxels.dtype == np.int16
    assert volume.spacing_mm == pytest.approx((2.0, 0.8, 0.6))
    np.testing.assert_allclose(volume.affine.origin_mm, (10, 20, 30))
    assert volume.notes == ()
    header = read_header(tmp_path)
    assert (header.shape, header.affine) == ((5, 6, 8), volume.affine)
    slices = read_series(tmp_path).slices
    assert [info.frame for info in slices] == [2, 4, 5, 1, 3]
    assert [info.instance_number for info in slices] == [1, 2, 3, 4, 5]
    assert [info.position_mm[2] for info in slices] == [30, 32, 34, 36, 38]
    assert dicom_slice_uids(tmp_path) == (item.SOPInstanceUID,) * 5


def test_the_place_is_simpleitks(tmp_path):
    """Frames in order, as ITK takes them; it applies one rescale to all, so pixels are not its."""
    volume = read_volume(save(enhanced((0, 1, 2, 3, 4)), tmp_path))
    image = SimpleITK.ReadImage(str(tmp_path / "0.dcm"))
    assert image.GetSize() == volume.shape[::-1]
    for index in ((0, 0, 0), (4, 5, 7)):
        x, y, z = image.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose(volume.affine.to_world(index), (-x, -y, z), atol=1e-4)


def test_compressed_frames_in_two_files(tmp_path):
    """A concatenation: the frames of one series in several files."""
    for name, levels in (("a.dcm", (4, 0)), ("b.dcm", (1, 3, 2))):
        item = enhanced(levels)
        item.compress(RLELossless, generate_instance_uid=False)
        save(item, tmp_path, name)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels[0], hu())
    assert volume.notes == ()


def test_a_scout_among_the_frames_and_a_missing_one(tmp_path):
    item = enhanced()
    kind = item.PerFrameFunctionalGroupsSequence[2].CTImageFrameTypeSequence[0]
    kind.FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    volume = read_volume(save(item, tmp_path / "a"))
    np.testing.assert_array_equal(volume.voxels[0], hu()[:4])
    assert volume.notes == ("left out 1 localizer: 0.dcm[3]",)
    kind = item.PerFrameFunctionalGroupsSequence[0].CTImageFrameTypeSequence[0]
    kind.FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    item.PerFrameFunctionalGroupsSequence[2].CTImageFrameTypeSequence[0].FrameType[2] = "VOLUME"
    with pytest.raises(GeometryError, match=r"4 mm between 0.dcm\[5\] .* and 0.dcm\[3\]"):
        read_header(save(item, tmp_path / "b"))


def test_time_points_in_one_file_are_refused(tmp_path):
    item = enhanced((0, 1, 2, 0, 1))
    for index in (3, 4):
        content = item.PerFrameFunctionalGroupsSequence[index].FrameContentSequence[0]
        content.TemporalPositionIndex = 2
    item.PixelData = stored().tobytes()
    expected = r"0.dcm\[1\] and 0.dcm\[4\] both at 30.00 mm, .* \(TemporalPositionIndex 1 and 2\)"
    with pytest.raises(GeometryError, match=expected):
        read_volume(save(item, tmp_path))


def test_frames_that_do_not_add_up(tmp_path):
    item = enhanced()
    item.NumberOfFrames = 6
    with pytest.raises(VolumeError, match="describes 5 frames, NumberOfFrames is 6"):
        read_volume(save(item, tmp_path / "a"))
    item = enhanced()
    item.PixelData = item.PixelData[:-96]
    with pytest.raises(VolumeError, match=r"0.dcm: cannot be read as a DICOM slice"):
        read_volume(save(item, tmp_path / "b"))
    item = enhanced()
    del item.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence
    with pytest.raises(VolumeError, match=r"0.dcm\[2\]: no usable ImagePositionPatient"):
        read_volume(save(item, tmp_path / "c"))
    item = enhanced()
    del item.PerFrameFunctionalGroupsSequence
    with pytest.raises(VolumeError, match=r"without a position for each frame .*\(5 frames\)"):
        read_volume(save(item, tmp_path / "d"))
