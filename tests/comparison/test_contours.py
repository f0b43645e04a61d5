"""How a slice of a scan comes onto the screen, whichever way the scan is stored."""

from itertools import permutations, product

import numpy as np
import pytest

from voxgraft.comparison.contours import Screen
from voxgraft.runs.slices import axial_axis
from voxgraft.volumes import Affine

SHAPE, SPACING_MM = (4, 5, 6), (3.0, 2.0, 1.5)
VOXELS = np.arange(120).reshape(SHAPE)
"""Depth to superior, height to anterior, width to the right."""
ON_SCREEN = VOXELS[1, ::-1, ::-1]
"""Anterior up, the right at the left."""


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_every_orientation_gives_the_same_picture(order):
    for flips in product((False, True), repeat=3):
        index = np.eye(4)
        index[:3, :3] = np.eye(3)[:, order]
        for axis, flip in enumerate(flips):
            if flip:
                index[order[axis], 3] = SHAPE[order[axis]] - 1
                index[order[axis], axis] = -1
        affine = Affine.from_spacing(SPACING_MM).compose(index)
        stored = VOXELS.transpose(order)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
        axis = axial_axis(affine)
        assert axis == order.index(0)
        place = SHAPE[0] - 2 if flips[axis] else 1
        screen = Screen.of(affine, axis)
        plane = np.take(stored, place, axis)
        np.testing.assert_array_equal(screen.turned(plane), ON_SCREEN)
        np.testing.assert_array_equal(screen.turned(np.stack([plane, plane]))[1], ON_SCREEN)
        assert screen.pixel_mm == pytest.approx(SPACING_MM[1:])


def test_a_tilted_scan_is_turned_like_the_next_straight_one():
    angle = np.radians(20)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    affine = Affine(turn @ Affine.from_spacing((2.0, 2.0, 2.0)).matrix)
    assert axial_axis(affine) == 0
    np.testing.assert_array_equal(Screen.of(affine, 0).turned(VOXELS[1]), ON_SCREEN)
