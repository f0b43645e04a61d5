"""A crop of an image and its labels by one affine map, against SciPy and against `augment`."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from voxgraft.transforms import Augmentation, augment
from voxgraft.transforms.draws import draw
from voxgraft.transforms.joint import CropMap, crop_matrix, sample_image, sample_labels

MOVES = Augmentation(
    flip_axes=("depth", "height", "width"),
    rotation_degrees=(40, 30, 20),
    rotation_probability=1,
    scale=(0.7, 1.4),
    shear=0.2,
    translation_mm=(3, 4, 5),
)
SIZES = st.tuples(*[st.integers(1, 9)] * 3)


def places(crop: CropMap) -> np.ndarray:
    axes = np.meshgrid(*map(np.arange, crop.size), indexing="ij")
    return crop.places(np.stack(axes, axis=-1).reshape(-1, 3).astype(np.float64))


@given(full=SIZES, size=SIZES, seed=st.integers(0, 10**6), background=st.sampled_from([0.0, -2.5]))
@settings(max_examples=60, deadline=None)
def test_a_crop_is_what_scipy_samples_and_needs_only_its_block(
    full: tuple[int, int, int], size: tuple[int, int, int], seed: int, background: float
) -> None:
    rng = np.random.default_rng(seed)
    volume = rng.normal(size=(2, *full)).astype(np.float32)
    labels = rng.integers(-1, 4, (2, *full)).astype(np.int16)
    matrix, _ = crop_matrix(draw(MOVES, seed, range(1)), 0, np.array([2.0, 1.0, 0.7]))
    crop = CropMap(size, matrix, rng.random(3) * full)
    start, extent = crop.block()
    low = np.clip(start, 0, full)
    high = np.clip(np.add(start, extent), 0, full)
    there = places(crop)
    padded = np.pad(volume, [(0, 0)] + [(20, 20)] * 3, constant_values=background)
    expected = np.stack(
        [ndimage.map_coordinates(c, there.T + 20, order=1, cval=background) for c in padded]
    ).reshape(2, *size)
    if (high <= low).any():
        np.testing.assert_allclose(expected, background, atol=1e-5)
        return
    box = (slice(None), *map(slice, low, high))
    first = (int(low[0]), int(low[1]), int(low[2]))
    found = sample_image(volume[box], first, crop, background)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    near = np.rint(there).astype(int)
    inside = ((near >= 0) & (near < full)).all(axis=1)
    wanted = np.where(inside, labels[(slice(None), *np.clip(near, 0, np.array(full) - 1).T)], 0)
    sure = (np.abs(there - near) < 0.499).all(axis=1)
    got = sample_labels(labels[box], first, crop).reshape(2, -1)
    np.testing.assert_array_equal(got[:, sure], wanted[:, sure])


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 0.8, 1.2)])
@pytest.mark.parametrize("seed", range(4))
def test_the_map_is_that_of_augment(spacing: tuple[float, float, float], seed: int) -> None:
    volume = np.random.default_rng(seed).random((1, 8, 12, 10)).astype(np.float32)
    whole = augment(
        torch.from_numpy(volume)[None], MOVES, seed, background=0.3, spacing_mm=spacing
    )[0]
    matrix, moved = crop_matrix(draw(MOVES, seed, range(1)), 0, np.array(spacing))
    crop = CropMap((8, 12, 10), matrix, np.array([3.5, 5.5, 4.5]) + moved)
    found = sample_image(volume, (0, 0, 0), crop, 0.3)
    np.testing.assert_allclose(found, whole, atol=2e-5)
    assert crop.flips is None


def test_flips_alone_move_whole_voxels() -> None:
    flips = Augmentation(flip_axes=("depth", "width"), flip_probability=1)
    matrix, moved = crop_matrix(draw(flips, 0, range(1)), 0, np.array([3.0, 1.0, 1.0]))
    crop = CropMap((4, 3, 2), matrix, np.array([6.5, 7.0, 7.5]) + moved)
    assert crop.flips == (0, 2)
    assert crop.block() == ((5, 6, 7), (4, 3, 2))
    assert crop.places(np.zeros((1, 3))).tolist() == [[8, 6, 8]]
    assert crop.voxels(np.array([[8.0, 6.0, 8.0]])).tolist() == [[0, 0, 0]]
    assert CropMap((4, 3, 2), matrix, np.array([1.6, 1.0, 0.5])).flips is None
