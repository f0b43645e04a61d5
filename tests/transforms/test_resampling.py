"""Resampling against SimpleITK, against averages of the interpolated line, and by hand."""

import numpy as np
import pytest
import SimpleITK
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from voxgraft.errors import PreprocessingError
from voxgraft.transforms import resample
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


def test_an_axis_without_a_spacing_stays_as_it_is() -> None:
    volume = Volume(random_volume(0, (6, 8, 10)), Affine.from_spacing((2.5, 0.7, 0.8)))
    thick = resample(volume, (1.25, None, None))
    assert thick.spacing_mm == pytest.approx((1.25, 0.7, 0.8))
    named = resample(volume, (1.25, 0.7, 0.8))
    np.testing.assert_array_equal(thick.voxels, named.voxels)
    assert resample(volume, (None, None, None)) is volume
    assert resample(volume) is volume


@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    size=st.tuples(*[st.none() | st.integers(1, 12)] * 3),
    interpolation=st.sampled_from(["linear", "nearest"]),
)
@settings(max_examples=60, deadline=None)
def test_a_number_of_voxels_keeps_both_ends_of_the_field_of_view(
    seed: int, shape: tuple[int, ...], size: tuple[int | None, ...], interpolation: str
) -> None:
    volume = Volume(random_volume(seed, shape), Affine.from_xyz(xyz_affine(seed, 20)))
    result = resample(volume, None, interpolation, size_voxels=size)
    new = tuple(own if wanted is None else wanted for own, wanted in zip(shape, size, strict=True))
    assert result.shape == new
    for corner, new_corner in (((-0.5,) * 3, (-0.5,) * 3), (shape, new)):
        offset = 0.5 if corner is shape else 0.0
        np.testing.assert_allclose(
            result.affine.to_world(np.array(new_corner) - offset),
            volume.affine.to_world(np.array(corner) - offset),
            atol=1e-9,
        )
    assert result.voxels.min() >= volume.voxels.min() - 1e-3
    assert result.voxels.max() <= volume.voxels.max() + 1e-3
    spacing = tuple(mm * n / m for mm, n, m in zip(volume.spacing_mm, shape, new, strict=True))
    by_spacing = resample(volume, spacing, interpolation)
    if by_spacing.shape == new and interpolation == "linear":  # nearest may be a tie
        np.testing.assert_allclose(result.voxels, by_spacing.voxels, atol=0.05)


def test_half_the_matrix_weighs_neighbors_by_hand() -> None:
    """At ratio 2 the line is averaged over the square root of 3 old voxels about each center."""
    line = np.arange(8, dtype=np.float64) ** 2
    volume = Volume(line.reshape(1, 1, 1, 8), Affine.from_spacing((1, 1, 1)))
    halved = resample(volume, size_voxels=(None, None, 4)).voxels.ravel()
    reach = np.sqrt(3) / 2
    offsets = np.linspace(-reach, reach, 20001)
    expected = [np.interp(c + offsets, np.arange(8), line).mean() for c in (0.5, 2.5, 4.5, 6.5)]
    np.testing.assert_allclose(halved, expected, atol=1e-3)


def test_blocks_of_rows_give_what_whole_slices_give(monkeypatch: pytest.MonkeyPatch) -> None:
    volume = Volume(random_volume(0, (7, 9, 11)), Affine.from_spacing((2, 1, 1)))
    whole = resample(volume, (1.3, 0.8, None)).voxels
    for values in (1, 150):
        monkeypatch.setattr("voxgraft.transforms.resampling._BLOCK_VALUES", values)
        np.testing.assert_array_equal(resample(volume, (1.3, 0.8, None)).voxels, whole)


def test_an_axis_with_a_spacing_and_a_size_is_refused() -> None:
    volume = Volume(random_volume(0), Affine.from_spacing((1, 1, 1)))
    with pytest.raises(PreprocessingError, match="to 2 mm and to 4 voxels"):
        resample(volume, (None, 2.0, None), size_voxels=(None, 4, None))
    with pytest.raises(PreprocessingError, match=r"would have .* voxels at"):
        resample(volume, size_voxels=(10**4, 10**4, 10**4))
