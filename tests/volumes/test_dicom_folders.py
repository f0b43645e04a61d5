"""What stands beside the slices of a series, and in it."""

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from voxgraft.errors import VolumeError
from voxgraft.volumes import (
    GeometryError,
    dicom_slice_uids,
    read_header,
    read_series,
    read_volume,
    series_uid,
)

CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SAGITTAL = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
LOCALIZER = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}
NOWHERE = {"ImagePositionPatient": None, "ImageOrientationPatient": None, "PixelSpacing": None}


def stored(levels=5):
    return np.random.default_rng(0).integers(0, 2000, (levels, 6, 8)).astype(np.uint16)


def write_report(path, modality):
    item = Dataset()
    item.file_meta = FileMetaDataset()
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.file_meta.MediaStorageSOPClassUID = item.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"
    item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID = generate_uid()
    item.Modality, item.SeriesInstanceUID = modality, "1.2.99"
    item.save_as(path, enforce_file_format=True)


@pytest.fixture
def study(tmp_path, dicom):
    """A folder with a series of five slices, as a hospital exports them: with all the rest."""
    dicom.write_series(tmp_path, stored())

    def add(name, pixels=None, **options):
        options = {"position": (0.0, 0.0, 0.0), "series": "1.2.3.4", **options}
        dicom.write_slice(tmp_path / name, stored()[0] if pixels is None else pixels, **options)

    return tmp_path, add


def test_all_that_is_no_volume_is_left_out_with_a_note(study):
    folder, add = study
    alone = read_volume(folder)
    add("000scout.dcm", np.ones((9, 9), np.uint16), series="1.1", orientation=CORONAL, **LOCALIZER)
    add("zscout2.dcm", np.ones((9, 9), np.uint16), series="1.1", orientation=SAGITTAL, **LOCALIZER)
    add("dose.dcm", series="1.5", SOPClassUID=SECONDARY_CAPTURE, **NOWHERE)
    add("page.dcm", series="1.6", ImageType=["DERIVED", "SECONDARY", "SCREEN SAVE"])
    add("seg.dcm", series="1.7", SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", NumberOfFrames=3)
    add("noplace.dcm", series="1.8", SeriesDescription="film", **NOWHERE)
    for number in range(4):
        place = (0.0, 0.0, 12.0)
        add(f"track{number}.dcm", stored()[number], series="1.9", position=place)
    write_report(folder / "report.dcm", "SR")
    write_report(folder / "state", "PR")
    (folder / "nothing").touch()
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.voxels, alone.voxels)
    assert volume.affine == alone.affine
    assert volume.notes == read_header(folder).notes
    assert volume.notes == (
        "left out empty files: nothing",
        "left out 2 localizers: 000scout.dcm, zscout2.dcm",
        "left out 1 secondary capture: dose.dcm",
        "left out 1 screenshot: page.dcm",
        "left out 1 segmentation: seg.dcm",
        "left out 2 DICOM objects without pixels: report.dcm (SR), state (PR)",
        "left out series 1.8: 1 slice of 6 x 8, CT, 'film' (first file noplace.dcm)",
        "left out series 1.9: 4 slices of 6 x 8, CT, 'thin' (first file track0.dcm)",
    )
    assert series_uid(folder) == "1.2.3.4" == read_series(folder).series_uid
    assert len(dicom_slice_uids(folder)) == 5


def test_several_volumes_are_listed(study):
    folder, add = study
    for level in range(3):
        add(f"b{level}.dcm", series="1.9", position=(0, 0, 4.0 * level), SeriesDescription="thick")
    add("scout.dcm", series="1.1", orientation=CORONAL, **LOCALIZER)
    with pytest.raises(VolumeError, match="holds 2 DICOM series, expected one") as error:
        read_volume(folder)
    assert "series 1.2.3.4: 5 slices of 6 x 8, CT, 'thin' (first file 000.dcm)" in str(error.value)
    assert "series 1.9: 3 slices of 6 x 8, CT, 'thick' (first file b0.dcm)" in str(error.value)
    assert "Move the slices of each series to a folder of their own" in str(error.value)


def test_reformats_give_way_to_the_one_primary_series(study):
    folder, add = study
    derived = ["DERIVED", "SECONDARY", "REFORMATTED"]
    for level in range(3):
        place = (0.0, float(level), 0.0)
        add(f"c{level}", series="1.9", position=place, orientation=CORONAL, ImageType=derived)
    volume = read_volume(folder)
    assert volume.shape == (5, 6, 8)
    assert volume.notes == (
        "left out series 1.9: 3 slices of 6 x 8, CT, derived, 'thin' (first file c0)",
    )


def test_a_derived_series_alone_is_read(tmp_path, dicom):
    dicom.write_series(tmp_path, stored(), ImageType=["DERIVED", "SECONDARY", "AXIAL"])
    assert (read_volume(tmp_path).shape, read_volume(tmp_path).notes) == ((5, 6, 8), ())


def test_only_localizers(tmp_path, dicom):
    dicom.write_series(tmp_path, stored(), **LOCALIZER)
    expected = r"no slice of a scan .* 5 localizers: 000.dcm, .* Give the folder of the diagnostic"
    with pytest.raises(VolumeError, match=expected):
        read_volume(tmp_path)
    assert series_uid(tmp_path) == "1.2.3.4"


def test_scouts_within_the_series_are_left_out(study):
    folder, add = study
    add("scout.dcm", np.ones((9, 9), np.uint16), orientation=SAGITTAL, **LOCALIZER)
    assert read_volume(folder).notes == ("left out 1 localizer: scout.dcm",)
    add("scout2.dcm", np.ones((9, 9), np.uint16), orientation=SAGITTAL)  # does not say so
    volume = read_volume(folder)
    assert volume.shape == (5, 6, 8)
    assert volume.notes[1:] == (
        "left out 1 slice of another plane than the rest: scout2.dcm "
        "(sagittal (0, 1, 0, 0, 0, -1))",
    )


def test_two_planes_in_one_series_are_no_volume(study):
    folder, add = study
    for level in range(2):
        add(f"c{level}", position=(0.0, float(level), 0.0), orientation=CORONAL)
    with pytest.raises(GeometryError, match="different orientations") as error:
        read_volume(folder)
    assert "5 slices axial (1, 0, 0, 0, 1, 0): 000.dcm" in str(error.value)
    assert "2 slices coronal (1, 0, 0, 0, 0, -1): c0, c1" in str(error.value)


def test_copies_are_read_once(study):
    folder, add = study
    uids = dicom_slice_uids(folder)
    add("copy.dcm", stored()[1], position=(-10, -20, 32), SOPInstanceUID=uids[1])
    add("other.dcm", stored()[3] * 2, position=(-10, -20, 36), slope=0.5)
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.voxels[0], stored().astype(int) - 1024)
    assert volume.notes == ("left out 2 copies: copy.dcm (of 002.dcm), other.dcm (of 001.dcm)",)
    assert dicom_slice_uids(folder) == uids


def test_time_points_are_no_copies(study):
    folder, add = study
    tags = {"AcquisitionNumber": 2, "AcquisitionTime": "101500"}
    add("later.dcm", stored()[2], position=(-10, -20, 32), **tags)
    with pytest.raises(GeometryError, match="slices at the same position") as error:
        read_header(folder)
    assert (
        "002.dcm and later.dcm both at 32.00 mm, with different pixels "
        "(AcquisitionNumber none and 2; AcquisitionTime none and 101500)"
    ) in str(error.value)


def test_one_uid_at_two_places_is_two_slices(study):
    folder, add = study
    uid = dicom_slice_uids(folder)[4]
    add("next.dcm", stored()[0], position=(-10, -20, 40), SOPInstanceUID=uid)
    volume = read_volume(folder)
    assert volume.shape[0] == 6
    assert volume.notes == (f"1 SOPInstanceUID of several different files: {uid}",)


def test_emptied_identifiers(tmp_path, dicom):
    """As some programs make files anonymous: the UID is left in the file's own header only."""
    dicom.write_series(tmp_path, stored(), StudyInstanceUID="", SOPClassUID="")
    uids = dicom_slice_uids(tmp_path)
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        for old in (b"1.2.3.4\0", *(uid.encode() for uid in uids)):
            head, tail = content[:400], content[400:]
            content = head + tail.replace(old, b"\0" * len(old))
        path.write_bytes(content)
    series = read_series(tmp_path)
    assert (series.series_uid, len(series.slices)) == ("", 5)
    assert read_volume(tmp_path).shape == (5, 6, 8)


def test_a_slice_with_a_damaged_uid_is_not_just_left_out(study):
    folder, add = study
    place = (-10.0, -20.0, 40.0)
    add("last.dcm", series="1.2.3.5", position=place)
    with pytest.raises(GeometryError, match=r"name another(.|\n)*last.dcm: series 1.2.3.5"):
        read_header(folder)
    add("last.dcm", series="1.2.3.5", position=(-10.0, -20.0, 37.1))  # bolus tracking
    assert read_header(folder).shape == (5, 6, 8)
    add("last.dcm", series="1.2.3.5", position=place, spacing=(0.5, 0.5))
    assert read_header(folder).shape == (5, 6, 8)


def test_what_may_not_be_opened(study, monkeypatch):
    folder, _ = study

    def refuse(*_args, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pydicom.dcmread", refuse)
    for read in (read_volume, read_header, read_series):
        with pytest.raises(VolumeError, match="cannot be opened: Permission denied"):
            read(folder)
    assert series_uid(folder) is None
