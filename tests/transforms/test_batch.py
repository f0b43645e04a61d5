from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from voxgraft.errors import PreprocessingError
from voxgraft.transforms import Augmentation, augment
from voxgraft.transforms.draws import draw

EVERYTHING = Augmentation(
    flip_axes=("depth", "height", "width"),
    rotation_degrees=(30, 20, 10),
    scale=(0.8, 1.25),
    shear=0.1,
    translation_mm=(3, 2, 1),
    intensity_shift=0.2,
    intensity_scale=(0.8, 1.2),
    gamma=(0.5, 2.0),
    noise_sd=(0.01, 0.1),
    blur_sigma_mm=(0.3, 1.5),
)
STEPS = [name for name in EVERYTHING.to_dict() if name.endswith("_probability")]


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def only(step: str, **changes: object) -> Augmentation:
    """Everything off but one step, which always happens."""
    return replace(EVERYTHING, **{name: float(name == step) for name in STEPS}, **changes)


def batch_of(count: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(seed))


@given(
    seed=st.integers(-5, 2**64),
    count=st.integers(1, 5),
    shape=st.tuples(st.integers(1, 2), *[st.integers(1, 9)] * 3),
    background=st.sampled_from([0.0, -1.5]),
)
@settings(max_examples=40, deadline=None)
def test_a_batch_is_its_samples_one_by_one_bit_for_bit(
    seed: int, count: int, shape: tuple[int, ...], background: float
) -> None:
    batch = batch_of(count, *shape)
    before = batch.clone()
    spacing = (2.5, 1.0, 0.7)
    whole = augment(batch, EVERYTHING, seed, background, spacing_mm=spacing)
    again = augment(batch, EVERYTHING, seed, background, spacing_mm=spacing)
    assert torch.equal(whole, again)
    assert torch.isfinite(whole).all()
    for i in range(count):
        one = augment(
            batch[i : i + 1], EVERYTHING, seed, background, spacing_mm=spacing, first_index=i
        )
        assert torch.equal(one, whole[i : i + 1])
    assert torch.equal(batch, before)


def test_nothing_happens_where_nothing_was_asked_for() -> None:
    batch = batch_of(4, 1, 6, 7, 8)
    assert augment(batch, Augmentation(), 3) is batch
    off = replace(EVERYTHING, **dict.fromkeys(STEPS, 0.0))
    assert augment(batch, off, 3) is batch
    assert augment(batch[:0], EVERYTHING, 3).shape == (0, 1, 6, 7, 8)


def test_samples_and_seeds_differ_and_a_probability_moves_only_its_own_step() -> None:
    first = draw(EVERYTHING, 1, range(50))
    other = draw(EVERYTHING, 2, range(50))
    assert not np.array_equal(first.intensity_shift, other.intensity_shift)
    assert len(set(first.noise_seed)) == 50
    changed = draw(replace(EVERYTHING, noise_probability=1.0, flip_axes=()), 1, range(50))
    np.testing.assert_array_equal(first.matrices_mm, changed.matrices_mm)
    np.testing.assert_array_equal(first.gamma, changed.gamma)


def test_steps_happen_as_often_as_asked_and_within_their_ranges() -> None:
    chances = dict(zip(STEPS, (0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9, 0.5, 0.25), strict=True))
    drawn = draw(replace(EVERYTHING, **chances), 0, range(4000))
    happened = {
        "flip_probability": drawn.flipped.mean(),
        "translation_probability": (drawn.translation_mm != 0).all(axis=1).mean(),
        "intensity_shift_probability": (drawn.intensity_shift != 0).mean(),
        "intensity_scale_probability": (drawn.intensity_scale != 1).mean(),
        "gamma_probability": (drawn.gamma != 1).mean(),
        "noise_probability": (drawn.noise_sd > 0).mean(),
        "blur_probability": (drawn.blur_sigma_mm > 0).mean(),
    }
    for step, share in happened.items():
        assert share == pytest.approx(chances[step], abs=0.03), step
    assert np.abs(drawn.translation_mm).max(axis=0) == pytest.approx([3, 2, 1], rel=0.01)
    determinants = np.linalg.det(draw(only("scale_probability"), 0, range(4000)).matrices_mm)
    assert determinants.min() == pytest.approx(0.8**3, rel=0.01)
    assert determinants.max() == pytest.approx(1.25**3, rel=0.01)


def test_flips_are_exact() -> None:
    batch = batch_of(20, 1, 4, 5, 6)
    flips = only("flip_probability", flip_axes=("depth", "width"))
    assert torch.equal(augment(batch, flips, 0), batch.flip((2, 4)))


@given(seed=st.integers(0, 10**6), background=st.sampled_from([0.0, 0.7, -2.0]))
@settings(max_examples=15, deadline=None)
def test_the_resampling_equals_scipy_and_fills_with_the_background(
    seed: int, background: float
) -> None:
    spacing = np.array([3.0, 1.0, 0.6])
    moves = replace(
        EVERYTHING,
        flip_probability=0,
        **dict.fromkeys(STEPS[1:5], 1.0),
        **dict.fromkeys(STEPS[5:], 0.0),
    )
    batch = batch_of(2, 1, 8, 11, 14, seed=seed)
    ours = augment(batch, moves, seed, background, spacing_mm=tuple(spacing))
    drawn = draw(moves, seed, range(2))
    center = (np.array(batch.shape[2:]) - 1) / 2
    for i in range(2):
        inverse = np.linalg.inv(drawn.matrices_mm[i])
        matrix = np.diag(1 / spacing) @ inverse @ np.diag(spacing)
        offset = center - matrix @ (center + drawn.translation_mm[i] / spacing)
        # scipy's "constant" fills without interpolating; "grid-constant" interpolates with it.
        theirs = ndimage.affine_transform(
            batch[i, 0].numpy(), matrix, offset, order=1, mode="grid-constant", cval=background
        )
        np.testing.assert_allclose(ours[i, 0], theirs, atol=2e-4)


def test_a_rotation_is_one_in_millimeters() -> None:
    """A quarter turn in the (depth, width) plane of anisotropic voxels moves mm, not voxels."""
    spacing = (2.0, 1.0, 1.0)
    volume = torch.zeros(1, 1, 21, 5, 41)
    volume[0, 0, 10, 2, 30] = 1  # 10 mm to the right of the center
    turn = only("rotation_probability", rotation_degrees=(0, 90, 0))
    drawn = draw(turn, 0, range(1))
    angle = np.arctan2(drawn.matrices_mm[0, 2, 0], drawn.matrices_mm[0, 2, 2])
    place = drawn.matrices_mm[0] @ [0, 0, 10]
    np.testing.assert_allclose(np.linalg.norm(place), 10)
    blurred = ndimage.gaussian_filter(volume[0, 0].numpy(), (1.5, 0.5, 3))
    moved = augment(torch.from_numpy(blurred)[None, None], turn, 0, spacing_mm=spacing)[0, 0]
    found = (np.array(ndimage.center_of_mass(moved.numpy())) - [10, 2, 20]) * spacing
    np.testing.assert_allclose(found, place, atol=0.25)
    assert angle != 0


def test_blur_equals_scipy_for_each_sigma() -> None:
    batch = batch_of(3, 2, 9, 10, 11)
    spacing = (2.0, 1.0, 0.5)
    blur = only("blur_probability", blur_sigma_mm=(0.4, 1.2))
    ours = augment(batch, blur, 5, spacing_mm=spacing)
    sigmas = draw(blur, 5, range(3)).blur_sigma_mm
    assert len(set(sigmas)) == 3
    for i, sigma in enumerate(sigmas):
        for channel in range(2):
            theirs = ndimage.gaussian_filter(
                batch[i, channel].double().numpy(),
                sigma / np.array(spacing),
                mode="nearest",
                truncate=8,
            )
            np.testing.assert_allclose(ours[i, channel], theirs, atol=6e-3)


def test_noise_shift_scale_and_gamma_by_hand() -> None:
    batch = batch_of(2, 1, 20, 20, 20)
    noise = augment(batch, only("noise_probability"), 7) - batch
    sds = draw(only("noise_probability"), 7, range(2)).noise_sd
    np.testing.assert_allclose(noise.std(dim=(1, 2, 3, 4)), sds, rtol=0.03)
    assert abs(float(noise.mean())) < 0.003
    assert not torch.allclose(noise[0] / sds[0], noise[1] / sds[1])
    shifted = augment(batch, only("intensity_shift_probability"), 7) - batch
    shifts = draw(only("intensity_shift_probability"), 7, range(2)).intensity_shift
    np.testing.assert_allclose(shifted.mean(dim=(1, 2, 3, 4)), shifts, atol=1e-6)
    scaled = augment(batch, only("intensity_scale_probability"), 7) / batch
    factors = draw(only("intensity_scale_probability"), 7, range(2)).intensity_scale
    np.testing.assert_allclose(scaled.mean(dim=(1, 2, 3, 4)), factors, atol=1e-6)
    powered = augment(batch * 3 - 1, only("gamma_probability"), 7)
    for i, exponent in enumerate(draw(only("gamma_probability"), 7, range(2)).gamma):
        x = batch[i].double() * 3 - 1
        low, high = x.min(), x.max()
        expected = ((x - low) / (high - low)) ** exponent * (high - low) + low
        np.testing.assert_allclose(powered[i], expected, atol=1e-5)
    flat = torch.full((1, 1, 3, 3, 3), 0.25)
    assert torch.equal(augment(flat, only("gamma_probability"), 7), flat)


def test_half_precision_comes_back_as_it_was_and_other_input_is_refused() -> None:
    batch = batch_of(2, 1, 6, 6, 6).half()
    result = augment(batch, EVERYTHING, 0)
    assert result.dtype == torch.float16
    torch.testing.assert_close(
        result.float(), augment(batch.float(), EVERYTHING, 0), atol=2e-3, rtol=0
    )
    with pytest.raises(PreprocessingError, match=r"shape \(2, 6, 6, 6\) and dtype torch.float32"):
        augment(batch_of(2, 6, 6, 6), EVERYTHING, 0)
    with pytest.raises(PreprocessingError, match=r"dtype torch\.int64"):
        augment(torch.zeros(1, 1, 2, 2, 2, dtype=torch.int64), EVERYTHING, 0)
    with pytest.raises(PreprocessingError, match=r"spacing_mm is \(0, 1, 1\)"):
        augment(batch_of(1, 1, 2, 2, 2), EVERYTHING, 0, spacing_mm=(0, 1, 1))


def test_a_seed_may_be_any_whole_number() -> None:
    batch = batch_of(1, 1, 4, 4, 4)
    expected = augment(batch, EVERYTHING, 2**62 + 1)
    assert torch.equal(augment(batch, EVERYTHING, np.int64(2**62 + 1)), expected)
