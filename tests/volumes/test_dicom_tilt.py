"""Where slices lie: patient positions, flipped axes, a tilted gantry."""

import itertools

import numpy as np
import pytest
import SimpleITK

from voxgraft.volumes import GeometryError, read_header, read_series, read_volume

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def coded(x, y, z):
    """Whole HU that differ for each place on a grid of 0.2 mm."""
    return 5 * x + 25 * y - 15 * z


def bumps(x, y, z):
    return 300 * np.cos(x / 9) * np.cos((y + 3) / 11) + 8 * z - 200


def turned(degrees, axis):
    turn = np.deg2rad(degrees)
    matrix = np.eye(3)
    i, j = ((1, 2), (2, 0), (0, 1))[axis]
    matrix[i, i] = matrix[j, j] = np.cos(turn)
    matrix[i, j], matrix[j, i] = -np.sin(turn), np.sin(turn)
    return matrix


def places(volume):
    """(x, y, z) in mm, LPS+, of all voxels."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in volume.shape], indexing="ij"), axis=-1)
    return np.moveaxis(volume.affine.to_world(index) * (-1, -1, 1), -1, 0)


@pytest.mark.parametrize("way", [-1.0, 1.0])
def test_any_direction_of_rows_columns_and_table(tmp_path, dicom, way):
    """Head or feet first, on the back or the face, scanned up or down: places are kept."""
    for number, (first, second) in enumerate(itertools.permutations(range(3), 2)):
        for signs in itertools.product((-1.0, 1.0), repeat=2):
            axes = np.zeros((2, 3))
            axes[0, first], axes[1, second] = signs
            normal = np.cross(*axes)
            folder = tmp_path / f"{number}{signs}"
            options = {"orientation": tuple(axes.ravel()), "step": tuple(way * 2.0 * normal)}
            dicom.write_world(folder, coded, shape=(3, 4, 5), **options)
            volume = read_volume(folder)
            assert (volume.shape, volume.notes) == ((3, 4, 5), ())
            np.testing.assert_array_equal(volume.voxels[0], coded(*places(volume)).round())
            sorted_places = [item.position_mm for item in read_series(folder).slices]
            assert (np.diff(sorted_places, axis=0) @ normal > 0).all()


@pytest.mark.parametrize(
    ("tilt", "turn"), [((0, 0.7, 0.0), None), ((0.4, -0.9, 0.0), None), ((0, -0.47, 0), (15, 0))]
)
def test_a_tilted_stack_is_put_upright_in_place(tmp_path, dicom, tilt, turn):
    axes = np.eye(3) if turn is None else turned(*turn)
    across, down, normal = axes.T
    step = tuple(tilt[0] * across + tilt[1] * down + 2.0 * normal)
    shape = (9, 24, 20)
    orientation = (*across, *down)
    dicom.write_world(tmp_path, bumps, orientation=orientation, step=step, shape=shape)
    volume = read_volume(tmp_path)
    assert volume.affine.is_orthogonal
    assert volume.spacing_mm == pytest.approx((2.0, 0.8, 0.6), abs=1e-4)
    degrees = np.degrees(np.arctan(np.hypot(*tilt[:2]) / 2.0))
    grown = [int(np.ceil(8 * abs(t) / mm)) for t, mm in ((tilt[1], 0.8), (tilt[0], 0.6))]
    assert volume.shape == (9, 24 + grown[0], 20 + grown[1]) == read_header(tmp_path).shape
    assert volume.notes == (
        f"gantry tilt of {degrees:.1f} degrees: slices of 24 x 20 pixels were shifted in their "
        f"plane onto an upright grid of {volume.shape[1]} x {volume.shape[2]}; outside them "
        "stands the smallest value",
    )
    assert read_series(tmp_path).tilt_degrees == pytest.approx(degrees, abs=0.01)
    x, y, z = places(volume)
    origin = np.array((-11.0, -7.0, 30.0))
    inside = np.ones(volume.shape, bool)
    level = np.arange(9)[:, None, None]
    for axis, mm, size, aside in ((down, 0.8, 24, tilt[1]), (across, 0.6, 20, tilt[0])):
        pixel = ((np.stack([x, y, z], -1) - origin) @ axis - level * aside) / mm
        inside &= (pixel >= -1e-6) & (pixel <= size - 1 + 1e-6)
    assert inside.sum() > 0.8 * np.prod(shape)
    expected = bumps(x, y, z)
    assert np.abs(volume.voxels[0] - expected)[inside].max() < 2.0  # rounded twice; linear
    near = inside
    for axis in (1, 2):  # the border pixel fades into the outside
        near = near | np.roll(near, 1, axis) | np.roll(near, -1, axis)
    assert (volume.voxels[0][~near] == volume.voxels.min()).all()


def test_the_same_as_simpleitk_resampling_the_sheared_stack(tmp_path, dicom):
    shape, aside = (7, 18, 16), 0.55
    values = np.random.default_rng(3).integers(0, 2000, shape).astype(np.uint16)
    for level, pixels in enumerate(values):
        place = (0.0, aside * level, 1.5 * level)
        path = tmp_path / f"{level}.dcm"
        dicom.write_slice(path, pixels, position=place, series="1.2", spacing=(0.8, 0.8))
    volume = read_volume(tmp_path)
    image = SimpleITK.GetImageFromArray(values.astype(np.float64) - 1024)
    shear = SimpleITK.AffineTransform(3)  # from the upright grid's index to the stack's
    shear.SetMatrix((1, 0, 0, 0, 1, -aside / 0.8, 0, 0, 1))
    grid = SimpleITK.Image(volume.shape[::-1], SimpleITK.sitkFloat64)
    low = float(volume.voxels.min())
    same = SimpleITK.Resample(image, grid, shear, SimpleITK.sitkLinear, low)
    same = SimpleITK.GetArrayFromImage(same)
    place = np.arange(volume.shape[1])[None, :] - np.arange(7)[:, None] * aside / 0.8
    inside = (place >= 0) & (place <= 17)
    assert inside.sum() > 7 * 16
    np.testing.assert_allclose(volume.voxels[0][inside], same[inside], atol=0.5 + 1e-6)


def test_half_a_degree_is_no_tilt(tmp_path, dicom):
    dicom.write_world(tmp_path, coded, step=(0.0, 0.016, 2.0))
    volume = read_volume(tmp_path)
    assert (volume.shape, volume.notes) == ((5, 6, 8), ())
    np.testing.assert_allclose(volume.affine.to_world((4, 0, 0)), (11, 7 - 0.064, 38))


def test_a_steep_stack_is_refused(tmp_path, dicom):
    dicom.write_world(tmp_path, coded, step=(0.0, 1.3, 2.0))
    with pytest.raises(GeometryError, match=r"tilted by 33.0 degrees .* 000.dcm to 003.dcm slices"):
        read_volume(tmp_path)


def test_one_slice_aside_is_refused(tmp_path, dicom):
    dicom.write_world(tmp_path, coded, shape=(6, 6, 8))
    pixels = np.ones((6, 8), np.uint16)
    dicom.write_slice(tmp_path / "002.dcm", pixels, position=(-11.0, -1.0, 34.0), series="1.2.3.4")
    with pytest.raises(GeometryError, match=r"002.dcm is 6 mm sideways of the line"):
        read_volume(tmp_path)
