import itertools

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from voxgraft.transforms import crop_or_pad, obliquity_degrees, orient
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
