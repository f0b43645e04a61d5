import itertools

import nibabel
import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from voxgraft.errors import PreprocessingError
from voxgraft.transforms import crop_or_pad, obliquity_degrees, orient, resample
from voxgraft.volumes import Affine, Volume


def random_volume(seed: int, shape: tuple[int, int, int] = (3, 4, 5)) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, (1, *shape)).astype(np.int16)


def xyz_affine(seed: int, largest_degrees: float) -> np.ndarray:
    """A nibabel affine: an axis permutation with signs, a rotation, a spacing, an origin."""
    rng = np.random.default_rng(seed)
    permutation = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    rotation = Rotation.from_rotvec(np.radians(largest_degrees) * rng.uniform(-1, 1, 3)).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = rotation @ permutation @ np.diag(rng.uniform(0.3, 5, 3))
    affine[:3, 3] = rng.uniform(-300, 300, 3)
    return affine


@given(seed=st.integers(0, 10**6), degrees=st.sampled_from([0.0, 10.0, 25.0, 180.0]))
@settings(max_examples=60, deadline=None)
def test_orient_equals_nibabel_for_every_orientation(seed: int, degrees: float) -> None:
    affine = xyz_affine(seed, degrees)
    voxels = random_volume(seed)
    theirs = nibabel.as_closest_canonical(nibabel.Nifti1Image(voxels[0].T, affine))
    ours = orient(Volume(voxels, Affine(affine[:, [2, 1, 0, 3]])))
    assert ours.affine.orientation == "RAS"
    np.testing.assert_array_equal(ours.voxels[0].T, np.asanyarray(theirs.dataobj))
    np.testing.assert_allclose(ours.affine.to_xyz(), theirs.affine, atol=1e-9)
    again = orient(ours)
    np.testing.assert_array_equal(again.voxels, ours.voxels)


@pytest.mark.parametrize("signs", list(itertools.product([1, -1], repeat=3)))
def test_at_45_degrees_orienting_twice_changes_nothing(signs: tuple[int, int, int]) -> None:
    half = np.sqrt(0.5)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[0, half, half], [0, half, -half], [1, 0, 0]]) * signs
    once = orient(Volume(random_volume(1), Affine(matrix)))
    twice = orient(once)
    np.testing.assert_array_equal(once.voxels, twice.voxels)
    assert once.affine == twice.affine
    assert obliquity_degrees(once.affine) == pytest.approx(45)


def test_obliquity_is_the_angle_of_the_rotation() -> None:
    rotation = Rotation.from_euler("x", 12, degrees=True).as_matrix()
    matrix = np.eye(4)
    matrix[:3, :3] = rotation @ np.diag([0.7, 0.7, 3.0])
    assert obliquity_degrees(Affine.from_xyz(matrix)) == pytest.approx(12)
    assert obliquity_degrees(Affine.from_spacing((3, 2, 1))) == 0


def sitk_resample(volume: Volume, like: Volume) -> np.ndarray:
    """Linear interpolation at the voxels of ``like``, in world coordinates, by SimpleITK."""
    image = SimpleITK.GetImageFromArray(volume.voxels[0].astype(np.float32))
    spacing, origin, direction = volume.affine.to_lps()
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction.ravel().tolist())
    spacing, origin, direction = like.affine.to_lps()
    size = like.voxels.shape[:0:-1]
    return SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(
            image,
            size,
            SimpleITK.Transform(),
            SimpleITK.sitkLinear,
            origin,
            spacing,
            direction.ravel(),
            -1e9,
        )
    )


@given(
    seed=st.integers(0, 10**6),
    ratios=st.tuples(*[st.floats(0.3, 1.0)] * 3),
    shape=st.tuples(*[st.integers(2, 9)] * 3),
)
@settings(max_examples=40, deadline=None)
def test_a_finer_grid_equals_simpleitk_linear_interpolation(
    seed: int, ratios: tuple[float, float, float], shape: tuple[int, int, int]
) -> None:
    volume = Volume(random_volume(seed, shape), Affine.from_xyz(xyz_affine(seed, 20)))
    wanted = tuple(mm * r for mm, r in zip(volume.spacing_mm, ratios, strict=True))
    fine = resample(volume, wanted)
    np.testing.assert_allclose(fine.spacing_mm, wanted, rtol=2e-5)
    theirs = sitk_resample(volume, fine)
    inside = theirs > -1e8
    np.testing.assert_allclose(fine.voxels[0][inside], theirs[inside], atol=0.02)
    assert inside.any()
    # Outside of the voxel centers, linear interpolation goes on with the border's value.
    assert fine.voxels.min() >= volume.voxels.min() - 1e-3
    assert fine.voxels.max() <= volume.voxels.max() + 1e-3


@pytest.mark.parametrize("ratio", [1.1, 1.5, 2.0, 3.7, 30.0])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_coarser_grid_averages_the_interpolated_line(ratio: float, axis: int) -> None:
    values = np.random.default_rng(0).normal(size=17)
    shape = [1, 1, 1, 1]
    shape[axis + 1] = 17
    spacing = [1.0, 1.0, 1.0]
    spacing[axis] = ratio
    ours = resample(
        Volume(values.reshape(shape), Affine.from_spacing((1, 1, 1))), tuple(spacing)
    ).voxels.ravel()
    offsets = (np.arange(4001) / 4000 - 0.5) * np.sqrt(ratio**2 - 1)
    centers = (np.arange(len(ours)) + 0.5) * ratio - 0.5
    expected = [np.interp(c + offsets, np.arange(17), values).mean() for c in centers]
    assert len(ours) == max(1, round(17 / ratio))
    np.testing.assert_allclose(ours, expected, atol=2e-3)


def test_a_pattern_finer_than_the_new_grid_does_not_alias() -> None:
    stripes = np.where(np.arange(300) % 2, 1.0, -1.0).reshape(1, 1, 1, -1)
    for ratio in (1.9, 2.1, 3.0, 4.3):
        coarse = resample(Volume(stripes, Affine.from_spacing((1, 1, 1))), (1, 1, ratio))
        assert np.abs(coarse.voxels[..., 2:-2]).max() < 0.2  # without averaging: 1


@given(seed=st.integers(0, 10**6), ratios=st.tuples(*[st.floats(0.4, 3.0)] * 3))
@settings(max_examples=25, deadline=None)
def test_a_linear_function_of_the_place_stays_that_function(
    seed: int, ratios: tuple[float, float, float]
) -> None:
    affine = Affine.from_xyz(xyz_affine(seed, 30))
    slope = np.random.default_rng(seed).normal(size=3)
    shape = (20, 19, 18)
    index = np.moveaxis(np.indices(shape), 0, -1)
    values = (affine.to_world(index) @ slope).astype(np.float64)[None]
    wanted = tuple(mm * r for mm, r in zip(affine.spacing_mm, ratios, strict=True))
    result = resample(Volume(values, affine), wanted)
    expected = result.affine.to_world(np.moveaxis(np.indices(result.shape), 0, -1)) @ slope
    inner = [slice(round(4 / r), round((n - 5) / r)) for n, r in zip(shape, ratios, strict=True)]
    np.testing.assert_allclose(
        result.voxels[0][tuple(inner)], expected[tuple(inner)], atol=1e-3 * np.abs(values).max()
    )


def test_the_outer_corner_of_the_field_of_view_stays() -> None:
    volume = Volume(random_volume(0, (6, 8, 10)), Affine.from_spacing((2, 1.5, 1), (5, -7, 11)))
    result = resample(volume, (3, 3, 3))
    corner = (-0.5, -0.5, -0.5)
    np.testing.assert_allclose(result.affine.to_world(corner), volume.affine.to_world(corner))
    assert result.shape == (4, 4, 3)


def test_nearest_keeps_labels_and_dtype_and_equal_spacing_does_nothing() -> None:
    labels = np.array([0, 7, 0, 9], dtype=np.uint8).reshape(1, 1, 1, 4)
    volume = Volume(labels, Affine.from_spacing((1, 1, 1)))
    doubled = resample(volume, (1, 1, 0.5), "nearest")
    assert doubled.voxels.dtype == np.uint8
    assert doubled.voxels.ravel().tolist() == [0, 0, 7, 7, 0, 0, 9, 9]
    assert resample(volume, (1, 1, 1.000001)) is volume
    assert resample(volume, (50, 50, 50)).voxels.shape == (1, 1, 1, 1)


def test_an_absurd_number_of_voxels_is_refused() -> None:
    volume = Volume(random_volume(0), Affine.from_spacing((100, 100, 100)))
    with pytest.raises(PreprocessingError, match=r"would have .* voxels at 0\.001 × 0\.001"):
        resample(volume, (0.001, 0.001, 0.001))


@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    size=st.tuples(*[st.integers(1, 8)] * 3),
    center=st.none() | st.tuples(*[st.integers(-9, 14)] * 3),
)
@settings(max_examples=80, deadline=None)
def test_crop_and_pad_keep_every_voxel_at_its_place_in_the_body(
    shape: tuple[int, int, int],
    size: tuple[int, int, int],
    center: tuple[int, int, int] | None,
) -> None:
    volume = Volume(random_volume(3, shape), Affine.from_xyz(xyz_affine(3, 20)))
    result = crop_or_pad(volume, size, center, value=-7)
    assert result.shape == size
    middle = center if center is not None else tuple(n // 2 for n in shape)
    np.testing.assert_allclose(
        result.affine.to_world([n // 2 for n in size]), volume.affine.to_world(middle), atol=1e-9
    )
    for place in itertools.product(*map(range, size)):
        old = np.rint(volume.affine.to_index(result.affine.to_world(place))).astype(int)
        inside = all(0 <= i < n for i, n in zip(old, shape, strict=True))
        expected = volume.voxels[0][tuple(old)] if inside else -7
        assert result.voxels[0][place] == expected
