import math
import re

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from voxgraft.volumes import Affine, GeometryError

finite = st.floats(-500, 500, allow_nan=False)
spacings = st.floats(0.05, 20)


@st.composite
def affines(draw):
    angles = [draw(st.floats(-180, 180)) for _ in range(3)]
    matrix = np.eye(4)
    flips = np.diag([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    order = draw(st.permutations([0, 1, 2]))
    steps = np.diag([draw(spacings) for _ in range(3)])
    turned = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, :3] = (turned @ flips)[:, order] @ steps
    matrix[:3, 3] = [draw(finite) for _ in range(3)]
    return Affine(matrix)


def test_hand_computed_case():
    affine = Affine.from_spacing((2.5, 0.8, 0.6), origin_mm=(10, 20, 30))
    assert affine.spacing_mm == (2.5, 0.8, 0.6)
    assert affine.orientation == "RAS"
    assert affine.to_world([1, 2, 3]).tolist() == pytest.approx([10 + 1.8, 20 + 1.6, 30 + 2.5])
    assert affine.origin_mm == (10, 20, 30)
    assert affine.shifted((1, 0, 0)).origin_mm == (10, 20, 32.5)


@given(affines(), st.lists(st.tuples(finite, finite, finite), min_size=1, max_size=5))
def test_index_to_world_and_back(affine, points):
    back = affine.to_index(affine.to_world(points))
    np.testing.assert_allclose(back, points, atol=1e-6)


@given(affines())
def test_conventions_round_trip(affine):
    assert Affine.from_xyz(affine.to_xyz()) == affine
    assert Affine.from_lps(*affine.to_lps()).isclose(affine, 1e-9)
    assert affine.orientation == "".join(nib.aff2axcodes(affine.to_xyz()))
    np.testing.assert_allclose(
        affine.spacing_mm[::-1], nib.affines.voxel_sizes(affine.to_xyz()), rtol=1e-12
    )
    assert affine.is_orthogonal


@given(affines(), st.tuples(finite, finite, finite))
def test_composing_with_a_flip_keeps_every_place(affine, index):
    flip = np.diag([1.0, -1.0, 1.0, 1.0])
    flip[1, 3] = 9.0
    flipped = affine.compose(flip)
    moved = (index[0], 9.0 - index[1], index[2])
    np.testing.assert_allclose(flipped.to_world(moved), affine.to_world(index), atol=1e-8)


def test_equal_by_value_and_never_changed():
    affine = Affine.from_spacing((1, 2, 3))
    assert affine == Affine.from_spacing((1, 2, 3))
    assert len({affine, Affine.from_spacing((1, 2, 3))}) == 1
    assert affine != Affine.from_spacing((1, 2, 4))
    with pytest.raises(ValueError, match="read-only"):
        affine.matrix[0, 0] = 5


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(3), "shape (4, 4), found (3, 3)"),
        (np.diag([1, math.nan, 1, 1]), "NaN or infinite"),
        (np.diag([1, 0, 1, 1]), "a spacing is zero"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "axes are parallel"),
        (np.diag([1, 1, 1, 2]), "last row of an affine must be 0 0 0 1"),
        ("abc", "4 x 4 numbers, found str"),
    ],
)
def test_impossible_matrices(matrix, message):
    with pytest.raises(GeometryError, match=re.escape(message)):
        Affine(matrix)


@pytest.mark.parametrize("spacing", [(0, 1, 1), (1, -1, 1), (1, 1, math.nan), (math.inf, 1, 1)])
def test_impossible_spacing(spacing):
    with pytest.raises(GeometryError, match="expected three positive numbers"):
        Affine.from_spacing(spacing)
