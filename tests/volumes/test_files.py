"""Each format against nibabel or SimpleITK, and against itself."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from voxgraft.errors import VolumeError
from voxgraft.volumes import (
    Affine,
    DimensionsError,
    GeometryError,
    LabelMap,
    MissingScanError,
    Volume,
    VoxelValuesError,
    read_header,
    read_label_map,
    read_volume,
    write_volume,
)

SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".mha", ".npz")


def oblique(angles=(10, 20, 30), spacing=(0.7, 0.8, 2.5), flip=-1.0):
    matrix = np.eye(4)
    turned = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, :3] = turned @ np.diag([flip * spacing[0], spacing[1], spacing[2]])
    matrix[:3, 3] = [10, -20, 30]
    return Affine.from_xyz(matrix)


def numbers(shape=(1, 3, 4, 5), dtype=np.int16):
    return (np.random.default_rng(0).random(shape) * 100).astype(dtype)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "i8", "f8"])
@pytest.mark.parametrize("channels", [1, 3])
def test_round_trip(tmp_path, suffix, dtype, channels):
    volume = Volume(numbers((channels, 3, 4, 5), np.dtype(dtype)), oblique())
    path = tmp_path / f"scan{suffix}"
    write_volume(volume, path)
    read, header = read_volume(path), read_header(path)
    np.testing.assert_array_equal(read.voxels, volume.voxels)
    assert read.voxels.dtype == volume.voxels.dtype
    assert read.affine.isclose(volume.affine, 1e-4)
    assert (header.shape, header.channels, header.affine) == ((3, 4, 5), channels, read.affine)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 10)] * 3),
    flip=st.sampled_from([-1.0, 1.0]),
)
def test_simpleitk_sees_the_same_geometry(tmp_path, suffix, angles, spacing, flip):
    volume = Volume(numbers(), oblique(angles, spacing, flip))
    path = tmp_path / f"scan{suffix}"
    write_volume(volume, path)
    assert read_volume(path).affine.isclose(volume.affine, 1e-3)
    image = SimpleITK.ReadImage(str(path))
    assert image[4, 3, 2] == volume.voxels[0, 2, 3, 4]
    for index in ((0, 0, 0), (2, 3, 4)):
        x, y, z = image.TransformIndexToPhysicalPoint(index[::-1])
        np.testing.assert_allclose((-x, -y, z), volume.affine.to_world(index), atol=2e-3)


def test_nibabel_writes_we_read(tmp_path):
    array = numbers((5, 4, 3))
    matrix = oblique().to_xyz()
    nib.save(nib.Nifti1Image(array, matrix), tmp_path / "a.nii.gz")
    volume = read_volume(tmp_path / "a.nii.gz")
    assert volume.voxels.shape == (1, 3, 4, 5)
    assert volume.voxels[0, 2, 1, 3] == array[3, 1, 2]
    np.testing.assert_allclose(
        volume.affine.to_world([2, 1, 3]), nib.affines.apply_affine(matrix, [3, 1, 2]), atol=1e-4
    )


def test_nifti_slope_rgb_and_trailing_axis(tmp_path):
    image = nib.Nifti1Image(numbers((5, 4, 3)), np.eye(4))
    image.header.set_slope_inter(2, -1024)
    nib.save(image, tmp_path / "slope.nii")
    volume = read_volume(tmp_path / "slope.nii")
    expected = np.asarray(nib.load(tmp_path / "slope.nii").dataobj).T
    np.testing.assert_array_equal(volume.voxels[0], expected)

    rgb = np.zeros((5, 4, 3), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    rgb["G"][1, 2, 0] = 7
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "rgb.nii")
    assert read_volume(tmp_path / "rgb.nii").voxels[:, 0, 2, 1].tolist() == [0, 7, 0]

    nib.save(nib.Nifti1Image(numbers((5, 4, 3, 1)), np.eye(4)), tmp_path / "one.nii")
    assert read_volume(tmp_path / "one.nii").shape == (3, 4, 5)


def test_nifti_without_orientation_says_so(tmp_path):
    image = nib.Nifti1Image(numbers((5, 4, 3)), None)
    image.header.set_zooms((0.5, 0.6, 2))
    nib.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert volume.spacing_mm == pytest.approx((2, 0.6, 0.5))
    assert volume.affine.orientation == "LAS"
    assert "no orientation (sform and qform codes are 0)" in volume.notes[0]


def test_nifti_in_other_units_is_converted(tmp_path):
    image = nib.Nifti1Image(numbers((5, 4, 3)), np.diag([700.0, 700, 2000, 1]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "a.nii")
    volume = read_volume(tmp_path / "a.nii")
    assert volume.spacing_mm == pytest.approx((2, 0.7, 0.7))
    assert volume.notes == ("the header's unit is micron: converted to mm",)


def test_gzip_is_recognized_whatever_the_suffix(tmp_path):
    write_volume(Volume(numbers(), oblique()), tmp_path / "a.nii.gz")
    (tmp_path / "b.nii").write_bytes((tmp_path / "a.nii.gz").read_bytes())
    (tmp_path / "c.nii.gz").write_bytes(gzip.decompress((tmp_path / "a.nii.gz").read_bytes()))
    for name in ("b.nii", "c.nii.gz"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).voxels, numbers())


def test_npz_keys_and_geometry(tmp_path):
    np.savez(tmp_path / "a.npz", image=numbers((3, 4, 5)), spacing_mm=[2, 1, 0.5], age=3)
    volume = read_volume(tmp_path / "a.npz")
    assert (volume.shape, volume.spacing_mm, volume.notes) == ((3, 4, 5), (2, 1, 0.5), ())
    np.savez(tmp_path / "b.npz", numbers((3, 4, 5)))
    assert "1 mm voxels in RAS+ are assumed" in read_volume(tmp_path / "b.npz").notes[0]
    np.savez(tmp_path / "c.npz", voxels=numbers((2, 3, 4, 5)), affine=oblique().matrix)
    assert read_volume(tmp_path / "c.npz").affine == oblique()


def test_label_maps(tmp_path):
    labels = LabelMap(numbers((3, 4, 5), np.uint8), oblique())
    write_volume(labels, tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.nii.gz").voxels, labels.voxels)
    write_volume(Volume(labels.voxels[None].astype(np.float32), oblique()), tmp_path / "f.nii")
    assert read_label_map(tmp_path / "f.nii").voxels.dtype == np.int32
    write_volume(Volume(np.full((1, 2, 2, 2), 0.5), oblique()), tmp_path / "half.nii")
    with pytest.raises(VolumeError, match=r"8 voxels hold fractions \(the first is 0.5\)"):
        read_label_map(tmp_path / "half.nii")
    write_volume(Volume(numbers((2, 3, 4, 5)), oblique()), tmp_path / "two.nii")
    with pytest.raises(VolumeError, match="has 2 channels; a label map has one"):
        read_label_map(tmp_path / "two.nii")


def with_pixdim(tmp_path, value):
    content = bytearray(nib.Nifti1Image(numbers((5, 4, 3)), np.eye(4)).to_bytes())
    content[80:84] = np.float32(value).tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    return tmp_path / "a.nii"


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_impossible_spacing(tmp_path, value):
    with pytest.raises(GeometryError, match=r"a.nii: spacing in the header .* three positive"):
        read_volume(with_pixdim(tmp_path, value))


@pytest.mark.parametrize("value", [0.001, 1000])
def test_absurd_spacing_names_the_bounds(tmp_path, value):
    with pytest.raises(GeometryError, match=r"each between 0.01 and 100 mm"):
        read_volume(with_pixdim(tmp_path, value))
    volume = Volume(numbers(), Affine.from_spacing((1, 1, value)))
    with pytest.raises(GeometryError, match=r"each between 0.01 and 100 mm"):
        write_volume(volume, tmp_path / "b.nii.gz")
    assert not (tmp_path / "b.nii.gz").exists()


def test_affine_that_cannot_be_inverted(tmp_path):
    content = bytearray(nib.Nifti1Image(numbers((5, 4, 3)), np.eye(4)).to_bytes())
    content[320:324] = np.float32(0).tobytes()
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(GeometryError, match=r"a.nii: the affine cannot be inverted"):
        read_volume(tmp_path / "a.nii")


def test_time_series_and_pictures_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(numbers((5, 4, 3, 6)), np.eye(4)), tmp_path / "t.nii.gz")
    with pytest.raises(DimensionsError, match=r"4 axes with shape \(5, 4, 3, 6\); expected a 3D"):
        read_volume(tmp_path / "t.nii.gz")
    nib.save(nib.Nifti1Image(numbers((5, 4)), np.eye(4)), tmp_path / "p.nii.gz")
    with pytest.raises(DimensionsError, match="2 axes"):
        read_header(tmp_path / "p.nii.gz")
    SimpleITK.WriteImage(
        SimpleITK.GetImageFromArray(numbers((2, 3, 4, 5)), False), str(tmp_path / "t.nrrd")
    )
    with pytest.raises(DimensionsError, match=r"shape \(5, 4, 3, 2\)"):
        read_volume(tmp_path / "t.nrrd")
    np.savez(tmp_path / "t.npz", image=numbers((2, 3, 4, 5)))
    with pytest.raises(DimensionsError, match="'image' has shape"):
        read_volume(tmp_path / "t.npz")


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".npz"])
def test_nan_voxels_are_counted_and_placed(tmp_path, suffix):
    voxels = numbers(dtype=np.float32)
    voxels[0, 1, 2, 3] = np.nan
    voxels[0, 2, 0, 0] = np.inf
    write_volume(Volume(voxels, oblique()), tmp_path / f"a{suffix}")
    with pytest.raises(VoxelValuesError, match=r"2 of 60 voxels .* = \(0, 1, 2, 3\)"):
        read_volume(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_and_empty_files(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_volume(Volume(numbers((1, 9, 9, 9)), oblique()), path)
    content = path.read_bytes()
    for keep in (1, 40, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:keep])
        with pytest.raises(VolumeError, match=f"a{suffix}: .*(truncated|damaged|another format)"):
            read_volume(path)
    path.write_bytes(b"")
    with pytest.raises(VolumeError, match=r"the file is empty \(0 bytes\)"):
        read_volume(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_random_damage_never_ends_in_a_raw_error(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_volume(Volume(numbers((1, 4, 4, 4)), oblique()), path)
    content = path.read_bytes()
    random = np.random.default_rng(3)
    refused = 0
    for _ in range(80):
        broken = bytearray(content)
        for place in random.integers(0, min(400, len(broken)), 4):
            broken[place] = random.integers(256)
        path.write_bytes(broken)
        try:
            read_volume(path)
        except VolumeError as error:
            refused += str(path) in str(error)
    assert refused > 5


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha", ".npz"])
def test_a_flipped_bit_in_compressed_voxels_is_found(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    volume = Volume(numbers((1, 12, 12, 12)), oblique())
    write_volume(volume, path)
    content = path.read_bytes()
    for place in range(900, len(content) - 300, 97):
        broken = bytearray(content)
        broken[place] ^= 16
        path.write_bytes(broken)
        try:
            same = np.array_equal(read_volume(path).voxels, volume.voxels)
        except VolumeError:
            same = True
        assert same, f"byte {place} of {len(content)} changed voxels unseen"


def test_a_header_that_promises_too_much_is_no_memory_error(tmp_path):
    content = bytearray(nib.Nifti1Image(numbers((5, 4, 3)), np.eye(4)).to_bytes())
    content[42:48] = np.array([32000, 32000, 32000], np.int16).tobytes()
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(VolumeError, match="its header promises 65,536,000,000,000 bytes"):
        read_volume(tmp_path / "a.nii.gz")


def test_paths_that_are_no_scan(tmp_path):
    with pytest.raises(MissingScanError, match=r"gone.nii: no such file or folder"):
        read_volume(tmp_path / "gone.nii")
    (tmp_path / "a.jpg").write_text("x")
    with pytest.raises(VolumeError, match=r"unknown suffix '.jpg'; expected one of .nii, .nii.gz"):
        read_volume(tmp_path / "a.jpg")
    (tmp_path / "a.dcm").write_text("x")
    with pytest.raises(VolumeError, match="is one DICOM file; expected the folder"):
        read_volume(tmp_path / "a.dcm")
    with pytest.raises(VolumeError, match=r"unknown suffix '.mhd'"):
        write_volume(Volume(numbers(), oblique()), tmp_path / "a.mhd")


def test_volumes_check_themselves():
    with pytest.raises(VolumeError, match="expected 4 axes"):
        Volume(np.zeros((2, 2, 2)), Affine.from_spacing((1, 1, 1)))
    with pytest.raises(VolumeError, match="expected integers or real floats"):
        Volume(np.zeros((1, 2, 2, 2), complex), Affine.from_spacing((1, 1, 1)))
    with pytest.raises(VolumeError, match="a label map holds integers, found dtype float64"):
        LabelMap(np.zeros((2, 2, 2)), Affine.from_spacing((1, 1, 1)))


def test_sheared_axes_need_a_format_that_holds_them(tmp_path):
    matrix = np.eye(4)
    matrix[0, 1] = 0.4
    volume = Volume(numbers(), Affine(matrix @ Affine.from_spacing((1, 1, 1)).matrix))
    with pytest.raises(VolumeError, match=r"not at right angles, which .mha cannot hold"):
        write_volume(volume, tmp_path / "a.mha")
    write_volume(volume, tmp_path / "a.nii.gz")
    assert read_volume(tmp_path / "a.nii.gz").affine.isclose(volume.affine)
