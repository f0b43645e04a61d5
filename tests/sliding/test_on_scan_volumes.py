"""Labels on the scan's own grid keep volumes and places, whatever the ratio and the direction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.sliding import labels_on_scan
from voxgraft.volumes import Affine

LINE = Affine.from_spacing((1.0, 1.0, 1.0))


def ball(size: int, middle: np.ndarray, radius: float) -> np.ndarray:
    grid = np.ogrid[:size, :size, :size]
    return sum((axis - at) ** 2 for axis, at in zip(grid, middle, strict=True)) < radius**2


def grid_around(middle_mm: np.ndarray, ratio: float, size: int, turn: np.ndarray) -> Affine:
    """Return a grid of cubes with an edge of ``ratio`` mm whose middle lies at a place."""
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ LINE.matrix[:3, :3] * ratio
    matrix[:3, 3] = middle_mm - matrix[:3, :3] @ np.full(3, (size - 1) / 2)
    return Affine(matrix)


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.8, 1.25, 1.5, 2.0, 2.4, 3.0])
def test_balls_keep_their_volume_and_place(ratio, oblique) -> None:
    rng = np.random.default_rng(int(100 * ratio) + oblique)
    gains = []
    for number in range(6):
        # At least seven voxels of either grid; a third of the scans has halves along every face.
        radius = rng.uniform(7, 9) * max(1.0, ratio)
        size = 2 * int(np.ceil(radius + 2))
        middle = (size - 1) / 2 + rng.uniform(-1, 1, 3)
        labels = ball(size, middle, radius).astype(np.uint8)
        own = int(np.ceil(size / ratio)) + 2
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0] if oblique else np.eye(3)
        off = np.zeros(3) if number < 2 else rng.uniform(-0.5, 0.5, 3)
        scan = grid_around(np.full(3, (size - 1) / 2) + off, ratio, own, turn)
        found = labels_on_scan(labels, LINE, (own,) * 3, scan)
        gains.append(found.sum() * ratio**3 / labels.sum() - 1)
        center = scan.to_world(np.argwhere(found)).mean(axis=0)
        assert np.abs(center - middle[::-1]).max() < 0.3 * max(1.0, ratio)
    assert abs(np.mean(gains)) < 0.02
    assert np.abs(gains).max() < 0.05


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_boxes_are_kept_to_half_a_voxel_at_two_to_one(seed) -> None:
    rng = np.random.default_rng(seed)
    starts, sizes = rng.integers(1, 6, 3), rng.integers(3, 8, 3)
    labels = np.zeros((16, 16, 16), np.int16)
    labels[tuple(slice(a, a + n) for a, n in zip(starts, sizes, strict=True))] = 3
    scan = grid_around(np.full(3, 7.5), 2.0, 8, np.eye(3))
    found = labels_on_scan(labels, LINE, (8, 8, 8), scan)
    # Inside of the faces that are cut, whole voxels; of two cut faces the one to the left stays.
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        across = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero((found == 3).any(axis=across))
        assert inside[0] == start // 2
        assert inside[-1] == (start + size) // 2 - 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_turned_and_mirrored_grids_give_the_same(seed) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rng.integers(1, 9, 3)).astype(np.uint8)
    shape = tuple(rng.integers(1, 7, 3))
    matrix = np.eye(4)
    matrix[:3, :3] = LINE.matrix[:3, :3] * rng.choice([0.5, 1.0, 2.0, 3.0, 4.0], 3)
    matrix[:3, 3] = rng.choice([0.0, 0.5, 1.5], 3)
    scan = Affine(matrix)
    wanted = labels_on_scan(labels, LINE, shape, scan)

    def turned(voxels: np.ndarray, affine: Affine) -> tuple[np.ndarray, Affine]:
        axes = rng.permutation(3)
        flips = tuple(np.flatnonzero(rng.random(3) < 0.5))
        step = np.eye(4)
        step[:3, :3] = np.eye(3)[:, axes]
        moved = voxels.transpose(axes)
        for axis in flips:
            mirror = np.eye(4)
            mirror[axis, axis], mirror[axis, 3] = -1, moved.shape[axis] - 1
            step = step @ mirror
        return np.flip(moved, flips), Affine(affine.matrix @ step)

    source, source_affine = turned(labels, LINE)
    expected, target_affine = turned(wanted, scan)
    found = labels_on_scan(source, source_affine, expected.shape, target_affine)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("repeat", [2, 3, 5])
def test_what_was_only_repeated_comes_back(repeat) -> None:
    labels = np.random.default_rng(repeat).integers(0, 6, (5, 4, 6)).astype(np.uint8)
    finer = labels
    for axis in range(3):
        finer = finer.repeat(repeat, axis)
    step = np.diag([repeat, repeat, repeat, 1.0])
    step[:3, 3] = (repeat - 1) / 2
    scan = Affine(LINE.matrix @ step)
    assert np.array_equal(labels_on_scan(finer, LINE, labels.shape, scan), labels)
