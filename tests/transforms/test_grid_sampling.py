"""What stays within slices is resampled slice by slice, and is what the 3D path makes of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.transforms import Augmentation, augment, batch
from voxgraft.transforms.draws import draw
from voxgraft.transforms.grid_sampling import resample_slices, resample_volumes

IN_PLANE = Augmentation(
    flip_axes=("width",),
    rotation_degrees=(20, 0, 0),
    rotation_probability=0.8,
    scale=(0.8, 1.25),
    shear=0.1,
    translation_mm=(0, 3, 5),
    in_plane=True,
)


def batch_of(count: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(seed))


@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 13), *[st.integers(1, 20)] * 2),
    background=st.sampled_from([0.0, 0.7, -2.0]),
)
@settings(max_examples=40, deadline=None)
def test_both_paths_agree(seed: int, shape: tuple[int, ...], background: float) -> None:
    volumes = batch_of(3, *shape, seed=seed)
    drawn = draw(IN_PLANE, seed, range(3))
    assert drawn.within_slices.all()
    matrices = np.linalg.inv(drawn.matrices_mm)
    shifts = drawn.translation_mm
    flat = resample_slices(volumes, matrices, shifts, background)
    deep = resample_volumes(volumes, matrices, shifts, background)
    torch.testing.assert_close(flat, deep, atol=1e-5, rtol=0)
    assert flat.is_contiguous()


def test_augment_takes_the_quick_path_sample_by_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that were drawn a tilt go through 3D, the others slice by slice; both equal 3D."""
    mixed = replace(IN_PLANE, in_plane=False, rotation_degrees=(20, 10, 0), scale=(1, 1), shear=0.0)
    volumes = batch_of(6, 2, 5, 12, 14)
    drawn = draw(mixed, 5, range(6))
    assert 0 < (drawn.within_slices & drawn.moved).sum() < drawn.moved.sum()
    seen = []

    def spied(part: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(len(part))
        return resample_slices(part, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(batch, "resample_slices", spied)
    quick = augment(volumes, mixed, 5, -1.0, spacing_mm=(2.5, 0.7, 0.9))
    assert seen == [(drawn.within_slices & drawn.moved).sum()]
    monkeypatch.setattr(batch, "resample_slices", resample_volumes)
    slow = augment(volumes, mixed, 5, -1.0, spacing_mm=(2.5, 0.7, 0.9))
    torch.testing.assert_close(quick, slow, atol=1e-5, rtol=0)


def test_the_corners_that_a_rotation_opens_have_the_background() -> None:
    turn = Augmentation(rotation_degrees=(45, 0, 0), rotation_probability=1.0)
    turned = augment(torch.ones(1, 1, 3, 21, 21), turn, 1, -0.25)
    assert abs(np.degrees(np.arcsin(draw(turn, 1, range(1)).matrices_mm[0, 1, 2]))) > 20
    assert torch.equal(turned[0, 0, :, 0, 0], torch.full((3,), -0.25))
    torch.testing.assert_close(turned[0, 0, :, 10, 10], torch.ones(3))


def test_in_plane_draws_the_same_and_leaves_depth_alone() -> None:
    free = draw(replace(IN_PLANE, in_plane=False, translation_mm=(0, 0, 0)), 3, range(50))
    kept = draw(replace(IN_PLANE, translation_mm=(0, 0, 0)), 3, range(50))
    for matrix, whole in zip(kept.matrices_mm, free.matrices_mm, strict=True):
        np.testing.assert_array_equal(matrix[0], [1, 0, 0])
        np.testing.assert_array_equal(matrix[:, 0], [1, 0, 0])
        np.testing.assert_allclose(matrix[1:, 1:], whole[1:, 1:], rtol=1e-12)
    assert len({matrix.tobytes() for matrix in kept.matrices_mm}) > 30
    assert kept.within_slices.all()
    assert not free.within_slices.all()
