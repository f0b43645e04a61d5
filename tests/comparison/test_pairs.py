"""Paired differences rest on the same cases for both starts."""

import numpy as np
import pytest

from voxgraft.comparison.pairs import on_common_cases
from voxgraft.metrics import METRICS

NAN = np.nan


def scores(*dice: float) -> np.ndarray:
    """Return one run's matrix of one structure: Dice, and surface Dice alike."""
    table = np.full((1, len(dice), 4), NAN)
    table[0, :, 0] = table[0, :, 1] = dice
    return table


def test_a_false_positive_of_one_start_takes_part_in_no_difference():
    # Two cases with the structure; two without, where the second start draws it once.
    target = np.array([[1.0], [1.0], [0.0], [0.0]])
    first, second = scores(0.8, 0.6, NAN, NAN), scores(0.7, 0.5, 0.0, NAN)
    dice = METRICS["dice"].function("segmentation")
    assert dice(target, second[0]) == pytest.approx(0.4)  # its own value has the false positive
    own, other = on_common_cases(first, second)
    assert dice(target, own[0]) - dice(target, other[0]) == pytest.approx(0.1)
    np.testing.assert_array_equal(np.isnan(own), np.isnan(other))


def test_every_run_of_both_counts():
    first = np.concatenate([scores(0.8, 0.0, NAN), scores(0.8, NAN, NAN)])
    second = np.concatenate([scores(0.2, 0.0, 0.0)] * 3)
    own, other = on_common_cases(first, second)
    assert own.shape == first.shape
    assert other.shape == second.shape
    defined = [0]
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(own[:, :, 0]).any(axis=0)), defined)
    np.testing.assert_array_equal(np.flatnonzero(~np.isnan(other[:, :, 0]).any(axis=0)), defined)
