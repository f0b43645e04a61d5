"""Pairs of odd-shaped masks with anisotropic spacing."""

import numpy as np
import pytest
from hypothesis import strategies as st
from scipy import ndimage


@st.composite
def mask_pairs(draw):
    """Two overlapping masks that may touch the border, and a spacing in mm."""
    shape = draw(st.tuples(*[st.integers(1, 14)] * 3))
    spacing = draw(st.tuples(*[st.sampled_from([0.5, 0.78125, 1.0, 1.5, 2.5, 5.0])] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    smooth = draw(st.sampled_from([0.3, 0.8, 1.5, 3.0]))
    field = ndimage.gaussian_filter(rng.normal(size=shape), smooth)
    other = ndimage.gaussian_filter(rng.normal(size=shape), smooth)
    mixed = field + draw(st.sampled_from([0.1, 0.5, 2.0])) * other
    level = draw(st.floats(0.05, 0.95))
    one, two = field >= np.quantile(field, level), mixed >= np.quantile(mixed, level)
    return one, two, spacing


@pytest.fixture(scope="session")
def pairs_of_masks():
    return mask_pairs
