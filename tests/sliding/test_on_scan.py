"""Labels on the scan's own grid: by hand, against SimpleITK, against eight voxels each."""

import itertools

import numpy as np
import pytest
import SimpleITK
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.errors import InferenceError
from voxgraft.sliding import PackedMasks, labels_on_scan, masks_on_scan
from voxgraft.transforms.geometry import orient
from voxgraft.volumes import Affine, Volume

LINE = Affine.from_spacing((1.0, 1.0, 1.0))


def on_line(labels, spacing, size, first=0.0):
    """Return labels along width on a line of ``size`` voxels, the first of them at ``first``."""
    target = Affine.from_spacing((1.0, 1.0, spacing), (first, 0.0, 0.0))
    return labels_on_scan(np.array([[labels]]), LINE, (1, 1, size), target)[0, 0].tolist()


def test_by_hand() -> None:
    # Half way between two voxels the one to the right has it, whichever it is.
    assert on_line([0, 1, 1], 0.25, 9) == [0, 0, 1, 1, 1, 1, 1, 1, 1]
    assert on_line([1, 0, 0], 0.25, 9) == [1, 1, 0, 0, 0, 0, 0, 0, 0]
    # Classes are no numbers: nothing between 1 and 3 is a 2.
    assert on_line([1, 3], 0.25, 5) == [1, 1, 3, 3, 3]
    # The edge goes on for half a voxel, then nothing was seen.
    assert on_line([2, 2], 0.25, 10, first=-0.75) == [0, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    assert on_line([2, 2], 0.25, 6, first=0.75) == [2, 2, 2, 2, 0, 0]
    # Three classes in a corner, 3/8 each of two and 1/4 of the third: the 5 lies to the right.
    corner = np.array([[[7, 7, 5], [7, 5, 5]], [[4, 4, 4], [5, 5, 4]]], np.uint8)
    half = Affine.from_spacing((1.0, 1.0, 1.0), (0.5, 0.5, 0.5))
    assert labels_on_scan(corner, LINE, (1, 1, 1), half).tolist() == [[[5]]]


def test_coarser_voxels_have_what_covers_most_of_them() -> None:
    # Three to one: voxels 0-2, 3-5, 6-8.
    assert on_line([1, 1, 0, 0, 2, 0, 0, 3, 3], 3.0, 3, first=1.0) == [1, 0, 3]
    # Five to two: voxel 2 is shared, half of it either way; 1 covers 2.5, then 1.5 of 2.5.
    assert on_line([1, 1, 1, 1, 0], 2.5, 2, first=0.75) == [1, 1]
    assert on_line([1, 1, 1, 0, 2], 2.5, 2, first=0.75) == [1, 0]
    # Four to one, of which two are seen half: what lies at the edge goes on.
    assert on_line([1, 2, 2, 2], 4.0, 1, first=0.5) == [2]
    # Two to one: where halves are equal the voxel to the right decides, wherever a 1 begins.
    for first in range(1, 8):
        for length in range(1, 8):
            line = [int(first <= place < first + length) for place in range(16)]
            found = on_line(line, 2.0, 8, first=0.5)
            assert found == line[1::2]
            assert abs(2 * sum(found) - length) <= 1


def test_a_thin_structure_vanishes_where_it_is_the_smaller_part() -> None:
    assert on_line([0, 1, 0], 0.2, 11) == [0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0]


def test_what_was_turned_comes_back_as_it_was() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2000, (5, 6, 7)).astype(np.int16)
    for axes in itertools.permutations(range(3)):
        for signs in itertools.product((1, -1), repeat=3):
            matrix = np.eye(4)
            matrix[:3, :3] = np.eye(3)[list(axes)] * signs * (2.0, 0.7, 1.3)
            matrix[:3, 3] = (-13.0, 5.0, 120.0)
            scan = Volume(labels[None], Affine(matrix))
            turned = orient(scan)
            found = labels_on_scan(turned.voxels[0], turned.affine, scan.shape, scan.affine)
            assert found.dtype == labels.dtype
            assert np.array_equal(found, labels)


def test_crops_and_pads_are_copies() -> None:
    labels = np.arange(1, 28, dtype=np.uint8).reshape(3, 3, 3)
    found = labels_on_scan(labels, LINE, (5, 2, 4), LINE.shifted((-1, 1, -3)))
    assert found[1:4, :, 3].tolist() == labels[:, 1:, 0].tolist()
    assert found.sum() == labels[:, 1:, 0].sum()
    assert not labels_on_scan(labels, LINE, (2, 2, 2), LINE.shifted((9, 0, 0))).any()


def linear_shares(labels, values, at):
    """Return what eight voxels say at places (..., 3), and where anything was seen."""
    last = np.array(labels.shape) - 1
    seen = ((at >= -0.5 - 1e-6) & (at <= last + 0.5 + 1e-6)).all(axis=-1)
    at = at.clip(0, last)
    below = np.floor(at).astype(int)
    pair = (below, np.minimum(below + 1, last))
    share = at - below
    shares = np.zeros((len(values), *at.shape[:-1]))
    for corner in itertools.product((0, 1), repeat=3):
        place = tuple(pair[side][..., axis] for axis, side in enumerate(corner))
        weight = np.prod(
            [share[..., a] if side else 1 - share[..., a] for a, side in enumerate(corner)], axis=0
        )
        for one, value in zip(shares, values, strict=True):
            one += weight * (labels[place] == value)
    return shares, seen


def by_definition(labels, affine, shape, scan_affine):
    """Return each value's share, and where anything was seen: point by point."""
    values = np.unique(np.append(labels, 0))
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    matrix = affine.inverse @ scan_affine.matrix
    steps = matrix[:3, :3]
    centers = index @ steps.T + matrix[:3, 3]
    _, seen = linear_shares(labels, values, centers)
    if np.count_nonzero(steps) == 3:  # points that lie close, along one axis after another
        shares = np.stack([labels == value for value in values]).astype(float)
        for axis, along in enumerate(np.abs(steps).argmax(axis=0)):
            step, width = steps[along, axis], max(1.0, abs(steps[along, axis]))
            points = (np.arange(round(64 * width)) + 0.5) / 64 - width / 2
            at = step * np.arange(shape[axis])[:, None] + matrix[along, 3] + points
            near = np.rint(at.clip(0, labels.shape[along] - 1))[..., None]
            weights = (near == np.arange(labels.shape[along])).mean(axis=1)
            shares = np.moveaxis(np.tensordot(weights, shares, (1, along + 1)), 0, along + 1)
        order = np.abs(steps).argmax(axis=0)
        shares = shares.transpose(0, *(order + 1))
    else:
        counts = np.maximum(1, np.rint(np.linalg.norm(steps, axis=0)).astype(int))
        shares = np.zeros((len(values), *shape))
        for points in itertools.product(*map(range, counts)):
            offset = steps @ ((np.array(points) + 0.5) / counts - 0.5)
            beside = np.clip(centers + offset, -0.5, np.array(labels.shape) - 0.5)
            shares += linear_shares(labels, values, beside)[0] / np.prod(counts)
    return values, shares * seen, seen


@st.composite
def grids(draw):
    size = st.integers(1, 7)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    source, target = (tuple(draw(size) for _ in range(3)) for _ in range(2))
    labels = rng.integers(draw(st.sampled_from([-1, 0])), 4, source)
    labels[rng.random(source) < draw(st.sampled_from([0.0, 0.8]))] = 0
    matrix = np.eye(4)
    if draw(st.booleans()):
        matrix[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.4, 2.6, 3)
    else:
        steps = rng.choice([-3, -2, -1.25, -1, -0.5, 0.5, 1, 1.5, 2, 2.5], 3)
        matrix[:3, :3] = np.eye(3)[rng.permutation(3)] * steps
    matrix[:3, 3] = rng.choice([0.0, 1.0, 2.0, 0.25, 3.5], 3)
    return labels, target, Affine(matrix)


@settings(max_examples=80, deadline=None)
@given(grids())
def test_it_is_what_the_definition_says(case) -> None:
    labels, shape, scan_affine = case
    found = labels_on_scan(labels, LINE, shape, scan_affine)
    values, shares, seen = by_definition(labels, LINE, shape, scan_affine)
    ordered = np.sort(np.concatenate([shares, np.zeros((1, *shape))]), axis=0)
    clear = ordered[-1] - ordered[-2] > 0.02
    wanted = np.where(seen, values[shares.argmax(axis=0)], 0)
    assert np.array_equal(found[clear | ~seen], wanted[clear | ~seen])
    bits = torch.from_numpy(sum((labels == k + 1) << k for k in range(3)).astype(np.uint8))
    masks = dict(masks_on_scan(PackedMasks(bits[None], 3), LINE, shape, scan_affine))
    assert list(masks) == [0, 1, 2]
    for k, mask in masks.items():
        share = shares[values == k + 1].sum(axis=0)
        clear = np.abs(share - 0.5) > 0.01
        assert np.array_equal(mask[clear], (share > 0.5)[clear])


def test_against_simpleitk() -> None:
    grid = np.stack(np.meshgrid(*map(np.arange, (12, 30, 26)), indexing="ij"), axis=-1)
    labels = np.zeros((12, 30, 26), np.uint8)
    for k, middle in enumerate([(5, 9, 9), (6, 20, 11), (4, 14, 19)], start=1):
        labels[((grid - middle) ** 2 / (9, 40, 40)).sum(axis=-1) < 1.2] = k
    affine = Affine.from_spacing((3.0, 1.5, 1.5), (-20.0, 4.0, 11.0))
    turn = np.radians(12)
    matrix = np.eye(4)
    matrix[:3, :3] = [
        [0, np.sin(turn), np.cos(turn)],
        [0, np.cos(turn), -np.sin(turn)],
        [1, 0, 0],
    ]
    matrix[:3, :3] *= (2.0, 0.9, 0.8)
    matrix[:3, 3] = (-24.0, 9.0, 8.0)
    target, shape = Affine(matrix), (20, 40, 44)
    shares = []
    for k in range(4):
        image = SimpleITK.GetImageFromArray((labels == k).astype(np.float64))
        spacing, origin, direction = affine.to_lps()
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        image.SetDirection(direction.ravel().tolist())
        spacing, origin, direction = target.to_lps()
        resampled = SimpleITK.Resample(
            image,
            [shape[2], shape[1], shape[0]],
            SimpleITK.Transform(),
            SimpleITK.sitkLinear,
            origin,
            spacing,
            direction.ravel().tolist(),
            1.0 if k == 0 else 0.0,
        )
        shares.append(SimpleITK.GetArrayFromImage(resampled))
    found = labels_on_scan(labels, affine, shape, target)
    ordered = np.sort(shares, axis=0)
    clear = ordered[-1] - ordered[-2] > 0.01
    assert clear.mean() > 0.98
    assert set(np.unique(found)) == {0, 1, 2, 3}
    assert np.array_equal(found[clear], np.argmax(shares, axis=0)[clear])


def test_rounding_in_headers_makes_no_grid_oblique() -> None:
    labels = np.random.default_rng(1).integers(0, 5, (6, 9, 8)).astype(np.uint8)
    noisy = LINE.matrix.copy()
    noisy[:3] += np.random.default_rng(2).normal(size=(3, 4)) * 1e-6
    assert np.array_equal(labels_on_scan(labels, LINE, labels.shape, Affine(noisy)), labels)


def test_tensors_large_labels_and_nothing() -> None:
    labels = torch.tensor([[[0, 70_000, -3]]])
    target = Affine.from_spacing((1.0, 1.0, 0.5))
    found = labels_on_scan(labels, LINE, (1, 1, 6), target)
    assert found.tolist() == [[[0, 70_000, 70_000, -3, -3, -3]]]
    assert found.dtype == np.int64
    assert not labels_on_scan(np.zeros((2, 3, 4), np.uint8), LINE, (4, 4, 4), target).any()


@pytest.mark.parametrize(
    ("labels", "shape", "said"),
    [
        (np.zeros((2, 2, 2), np.float32), (2, 2, 2), "float32"),
        (np.zeros((1, 2, 2, 2), np.uint8), (2, 2, 2), r"\(1, 2, 2, 2\)"),
        (np.zeros((2, 0, 2), np.uint8), (2, 2, 2), r"\(2, 0, 2\)"),
        (np.zeros((2, 2, 2), np.uint8), (2, 0, 2), r"\(2, 0, 2\)"),
        (np.zeros((2, 2, 2), np.uint8), (1, 2, 2, 2), r"\(1, 2, 2, 2\)"),
    ],
)
def test_what_is_no_label_map_is_refused(labels, shape, said) -> None:
    with pytest.raises(InferenceError, match=said):
        labels_on_scan(labels, LINE, shape, LINE)
