"""Pixels: signs, bits, padding, rescale, compression."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.uid import JPEG2000, JPEG2000Lossless, RLELossless

from voxgraft.errors import VolumeError
from voxgraft.volumes import read_header, read_volume


def stored(levels=4):
    return np.random.default_rng(0).integers(0, 2000, (levels, 16, 12)).astype(np.uint16)


def hu(levels=4):
    return stored(levels).astype(int) - 1024


def rewrite(folder, change):
    for path in sorted(folder.iterdir()):
        item = dcmread(path)
        change(item)
        item.save_as(path)


def test_signed_pixels(tmp_path, dicom):
    signed = hu().astype(np.int16)
    dicom.write_series(tmp_path, signed, intercept=0.0)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels[0], signed)
    assert (read_header(tmp_path).dtype, volume.notes) == ("int16", ())


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_unused_bits_are_no_part_of_a_value(tmp_path, dicom, syntax):
    """Overlays in the high bits, or whatever stands there, signed and not."""
    junk = (np.random.default_rng(1).integers(0, 16, stored().shape) << 12).astype(np.uint16)

    def pack(item):
        if syntax is not None:
            item.compress(syntax, generate_instance_uid=False)

    dicom.write_series(tmp_path / "a", stored() | junk, BitsStored=12, HighBit=11)
    rewrite(tmp_path / "a", pack)
    np.testing.assert_array_equal(read_volume(tmp_path / "a").voxels[0], hu())

    values = (hu() & 0xFFF).astype(np.uint16)
    tags = {"BitsStored": 12, "HighBit": 11, "PixelRepresentation": 1, "intercept": 0.0}
    dicom.write_series(tmp_path / "b", values | junk, **tags)
    rewrite(tmp_path / "b", pack)
    np.testing.assert_array_equal(read_volume(tmp_path / "b").voxels[0], hu())


def test_values_in_the_high_bits(tmp_path, dicom):
    dicom.write_series(tmp_path, stored() << 4 | 7, BitsStored=12, HighBit=15)
    np.testing.assert_array_equal(read_volume(tmp_path).voxels[0], hu())


def test_bits_that_do_not_fit(tmp_path, dicom):
    dicom.write_series(tmp_path, stored(), BitsStored=12, HighBit=9)
    with pytest.raises(VolumeError, match="BitsStored 12 and HighBit 9 do not fit 16 bits"):
        read_volume(tmp_path)


def padded_disk(padding, dtype):
    values = (stored() if dtype == np.uint16 else hu()).astype(dtype)
    corner = np.zeros(values.shape, bool)
    corner[:, :3, :4] = corner[2] = True  # a whole slice, too
    values[corner] = padding
    return values, corner


@pytest.mark.parametrize(
    ("dtype", "padding", "tag", "intercept"),
    [
        (np.int16, -2000, -2000, 0.0),
        (np.int16, -2000, 63536, 0.0),
        (np.uint16, 63536, 63536, -1024.0),
        (np.uint16, 63536, -2000, -1024.0),
    ],
)
def test_padding_becomes_the_smallest_measured_value(
    tmp_path, dicom, dtype, padding, tag, intercept
):
    values, corner = padded_disk(padding, dtype)

    def pad(item):
        item.add_new("PixelPaddingValue", "SS" if tag < 0 else "US", tag)

    dicom.write_series(tmp_path, values, intercept=intercept)
    rewrite(tmp_path, pad)
    volume = read_volume(tmp_path)
    expected = np.where(corner, hu()[~corner].min(), hu())
    np.testing.assert_array_equal(volume.voxels[0], expected)
    assert volume.voxels.dtype == np.int16
    assert volume.notes == (
        f"{corner.sum()} voxels of PixelPaddingValue were set to the smallest measured value, "
        f"{expected.min()}",
    )


def test_a_range_of_padding_in_unused_bits(tmp_path, dicom):
    values, corner = padded_disk(63536, np.uint16)
    values[:, 0, 0] = 63540
    tags = {"BitsStored": 12, "HighBit": 11, "PixelPaddingValue": 63536}
    dicom.write_series(tmp_path, values, PixelPaddingRangeLimit=63550, **tags)
    expected = np.where(corner, hu()[~corner].min(), hu())
    np.testing.assert_array_equal(read_volume(tmp_path).voxels[0], expected)


def test_padding_that_tissue_has_too_is_kept(tmp_path, dicom):
    dicom.write_series(tmp_path, stored(), PixelPaddingValue=int(stored()[1, 5, 5]))
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels[0], hu())
    assert volume.notes == (
        "PixelPaddingValue lies amid the measured values: voxels that hold it are kept",
    )


def test_only_ct_has_air_around_it(tmp_path, dicom):
    values, _ = padded_disk(3000, np.uint16)
    dicom.write_series(tmp_path, values, PixelPaddingValue=3000, Modality="MR", intercept=0.0)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.voxels[0], values)
    assert volume.notes == ()


def test_what_rescale_leaves_open_is_said(tmp_path, dicom):
    without = {"RescaleSlope": None, "RescaleIntercept": None}
    dicom.write_series(tmp_path / "a", stored(), **without)
    assert read_header(tmp_path / "a").notes == (
        "CT without RescaleSlope and RescaleIntercept: stored values are taken as HU",
    )
    np.testing.assert_array_equal(read_volume(tmp_path / "a").voxels[0], stored())

    dicom.write_series(tmp_path / "b", stored(), RescaleType="MGML")
    assert read_header(tmp_path / "b").notes == ("RescaleType is MGML: values are not HU",)

    dicom.write_series(tmp_path / "c", stored(), PhotometricInterpretation="MONOCHROME1")
    volume = read_volume(tmp_path / "c")
    np.testing.assert_array_equal(volume.voxels[0], hu())
    assert "MONOCHROME1" in volume.notes[0]

    dicom.write_series(tmp_path / "d", stored())
    odd = tmp_path / "d" / "zz.dcm"
    dicom.write_slice(odd, stored()[0], position=(-10, -20, 38), series="1.2.3.4", **without)
    with pytest.raises(VolumeError, match=r"differ in their rescale(.|\n)*-Intercept: zz.dcm"):
        read_header(tmp_path / "d")


def test_files_without_preamble_and_transfer_syntax(tmp_path, dicom):
    """As some stores keep what was sent to them."""
    dicom.write_series(tmp_path / "a", stored())
    for path in sorted((tmp_path / "a").iterdir()):
        item = dcmread(path)
        name = path.with_name(f"IM{path.stem}.{item.InstanceNumber}")
        pydicom.dcmwrite(name, item, implicit_vr=True, little_endian=True, force_encoding=True)
        content = name.read_bytes()
        path.unlink()
        start = content.index(b"\x08\x00\x08\x00")  # behind the file's own header
        name.write_bytes(content[start:])
    np.testing.assert_array_equal(read_volume(tmp_path / "a").voxels[0], hu())


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEG2000])
def test_compressed_slices(tmp_path, dicom, syntax):
    options = {"j2k_cr": [2.0]} if syntax == JPEG2000 else {}
    voxels = np.broadcast_to(np.arange(0, 1600, 40, dtype=np.uint16)[:, None], (3, 40, 48))
    dicom.write_series(tmp_path, np.ascontiguousarray(voxels))
    rewrite(tmp_path, lambda item: item.compress(syntax, generate_instance_uid=False, **options))
    volume = read_volume(tmp_path)
    np.testing.assert_allclose(volume.voxels[0], voxels - 1024.0, atol=20 if options else 0)


def pack_as_jpeg(path, scratch):
    """Compress a slice without loss by GDCM."""
    item = dcmread(path)
    writer = SimpleITK.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.SetFileName(str(scratch))
    writer.UseCompressionOn()
    writer.SetCompressor("JPEG")
    writer.Execute(SimpleITK.GetImageFromArray(item.pixel_array[None]))
    packed = dcmread(scratch)
    item.file_meta.TransferSyntaxUID = packed.file_meta.TransferSyntaxUID
    item["PixelData"] = packed["PixelData"]
    item.save_as(path)
    assert str(item.file_meta.TransferSyntaxUID) == "1.2.840.10008.1.2.4.70"


def test_jpeg_lossless_as_gdcm_writes_it(tmp_path, dicom):
    paths = dicom.write_series(tmp_path / "a", stored())
    for path in paths:
        pack_as_jpeg(path, tmp_path / "packed.dcm")
    np.testing.assert_array_equal(read_volume(tmp_path / "a").voxels[0], hu())


@pytest.mark.parametrize(("rows", "shown"), [(0, "0 x 12"), (65535, "65535 x 12")])
def test_a_stream_of_another_size_is_not_decoded(tmp_path, dicom, rows, shown):
    """Decoders believe it, fill the memory and end the process."""
    path = dicom.write_series(tmp_path / "a", stored())[2]
    pack_as_jpeg(path, tmp_path / "packed.dcm")
    content = bytearray(path.read_bytes())
    frame = content.index(b"\xff\xc3")
    content[frame + 5 : frame + 7] = rows.to_bytes(2, "big")
    path.write_bytes(content)
    expected = f"{path.name}: .* pixels are {shown} with 1 components, .* promises 16 x 12 with 1"
    with pytest.raises(VolumeError, match=expected):
        read_volume(tmp_path / "a")

    path = dicom.write_series(tmp_path / "b", np.zeros((2, 32, 32), np.uint16))[0]
    item = dcmread(path)
    item.compress(JPEG2000Lossless, generate_instance_uid=False)
    size = item.PixelData.index(b"\xff\x4f\xff\x51")
    data = bytearray(item.PixelData)
    data[size + 12 : size + 16] = rows.to_bytes(4, "big")
    item.PixelData = bytes(data)
    item.save_as(path)
    with pytest.raises(VolumeError, match=f"pixels are {rows} x 32 with 1 components"):
        read_volume(tmp_path / "b")


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_padded.dcm",
    ],
)
def test_one_slice_in_all_encodings(tmp_path, name):
    for number, found in enumerate(("MR_small.dcm", name)):
        source = get_testdata_file(found, download=False)
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / found).write_bytes(Path(str(source)).read_bytes())
    one, other = read_volume(tmp_path / "0"), read_volume(tmp_path / "1")
    np.testing.assert_array_equal(one.voxels, other.voxels)
    assert one.affine == other.affine


def test_a_compression_that_nobody_decodes(tmp_path, dicom):
    dicom.write_series(tmp_path, stored())

    def mark(item):
        item.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
        item["PixelData"].VR, item["PixelData"].is_undefined_length = "OB", True
        item.PixelData = pydicom.encaps.encapsulate([b"\0" * 16])

    rewrite(tmp_path, mark)
    with pytest.raises(VolumeError, match="compressed in a way that cannot be undone") as error:
        read_header(tmp_path)
    assert "MPEG-4 AVC/H.264 High Profile / Level 4.1 (1.2.840.10008.1.2.4.102)" in str(error.value)
    assert "000.dcm" in str(error.value)
    assert "gdcmconv --raw" in str(error.value)
