import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxgraft.datasets.windows import (
    Windows,
    check_windows,
    pool_windows,
    window_labels,
    window_starts,
)
from voxgraft.errors import RecipeError


@given(depth=st.integers(1, 700), size=st.integers(1, 64), data=st.data())
def test_every_slice_lies_in_a_window(depth, size, data):
    stride = data.draw(st.integers(1, size))
    starts = window_starts(depth, size, stride)
    seen = {index for start in starts for index in range(start, start + size)}
    assert set(range(depth)) <= seen
    assert list(starts) == sorted(set(starts))
    if depth >= size:
        assert starts[0] == 0
        assert starts[-1] + size == depth  # no window reaches beyond the study
        assert all(b - a <= stride for a, b in itertools.pairwise(starts))
        assert len(starts) == 1 + -(-(depth - size) // stride)  # and none is superfluous
    else:
        assert len(starts) == 1
        before, after = -starts[0], starts[0] + size - depth
        assert abs(before - after) <= 1  # a short study stands in the middle


def test_window_starts_by_hand():
    assert window_starts(100, 32, 32) == (0, 32, 64, 68)
    assert window_starts(96, 32, 32) == (0, 32, 64)
    assert window_starts(33, 32, 16) == (0, 1)
    assert window_starts(20, 24, 24) == (-2,)
    assert window_starts(1, 1, 1) == (0,)


@given(
    positive=st.lists(st.booleans(), min_size=1, max_size=90),
    size=st.integers(1, 40),
    data=st.data(),
)
def test_window_labels_count_slices(positive, size, data):
    least = data.draw(st.integers(1, size))
    starts = window_starts(len(positive), size, data.draw(st.integers(1, size)))
    found = window_labels(np.array(positive)[:, None], starts, size, least)
    counted = [
        sum(positive[i] for i in range(max(0, start), min(len(positive), start + size)))
        for start in starts
    ]
    assert found[:, 0].tolist() == [float(count >= least) for count in counted]


def test_pooling_by_hand():
    scores = np.array([[0.1], [0.8], [0.5], [0.2], [0.4]])
    studies = np.array([0, 0, 0, 1, 1])

    def pooled(how, **options):
        return pool_windows(scores, studies, 2, how, **options)[:, 0].tolist()

    assert pooled("max") == [0.8, 0.4]
    assert pooled("mean") == pytest.approx([1.4 / 3, 0.3])
    assert pooled("top_k", top_k=2) == pytest.approx([0.65, 0.3])
    assert pooled("top_k", top_k=9) == pytest.approx([1.4 / 3, 0.3])
    assert pooled("noisy_or") == pytest.approx([1 - 0.9 * 0.2 * 0.5, 1 - 0.8 * 0.6])


@given(st.permutations(range(6)), st.sampled_from(["max", "mean", "top_k", "noisy_or"]))
def test_pooling_does_not_depend_on_the_order(order, how):
    scores = np.linspace(0.05, 0.9, 12).reshape(6, 2)
    studies = np.array([0, 0, 1, 2, 2, 2])
    expected = pool_windows(scores, studies, 3, how)
    found = pool_windows(scores[list(order)], studies[list(order)], 3, how)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_impossible_windows_name_every_fault():
    with pytest.raises(RecipeError) as caught:
        Windows(
            size_voxels=(32, 0, 224),
            top_k=0,
            aggregate="median",  # type: ignore[arg-type]
            neighbors=-1,
        )
    for part in ("size_voxels", "top_k", "aggregate", "neighbors"):
        assert part in str(caught.value)
    with pytest.raises(RecipeError, match="seen by none"):
        Windows(size_voxels=(16, 64, 64), stride_slices=17)
    with pytest.raises(RecipeError, match="none could be positive"):
        Windows(size_voxels=(2, 64, 64))
    assert Windows(size_voxels=(1, 64, 64), min_positive_slices=1).stride == 1


def test_pooling_that_means_nothing_is_refused():
    windows = Windows(size_voxels=(8, 16, 16))
    check_windows(windows, "binary")
    with pytest.raises(RecipeError, match="regression"):
        check_windows(windows, "regression")
    check_windows(dataclasses.replace(windows, aggregate="mean"), "regression")
