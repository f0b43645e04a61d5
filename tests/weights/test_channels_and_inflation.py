"""Kernels for other inputs: the response that they must keep, by hand and by property."""

from __future__ import annotations

import pytest
import scipy.signal
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from voxgraft.errors import ConversionError
from voxgraft.weights import fold_channels, inflate_kernel
from voxgraft.weights.convert import INFLATIONS, STEM_METHODS

_COUNTS = st.integers(1, 7)
_SEEDS = st.integers(0, 2**31)


def _kernel(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def _response(kernel: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    convolve = functional.conv2d if kernel.ndim == 4 else functional.conv3d
    return convolve(image, kernel)


@settings(max_examples=40, deadline=None)
@given(_COUNTS, _COUNTS, st.sampled_from(STEM_METHODS), st.sampled_from([2, 3]), _SEEDS)
def test_response_to_a_grey_image_is_the_one_promised(
    old: int, new: int, method: str, axes: int, seed: int
) -> None:
    kernel = _kernel(seed, 4, old, *[3] * axes)
    grey = _kernel(seed + 1, 1, 1, *[5] * axes)
    folded = fold_channels(kernel, new, method)
    found = _response(folded, grey.repeat(1, new, *[1] * axes))
    if old == new:
        assert folded is kernel
        return
    image = grey.repeat(1, old, *[1] * axes)
    if method == "mean":
        image = image / old
    elif method == "first":
        image[:, 1:] = 0
    torch.testing.assert_close(found, _response(kernel, image))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 4), _SEEDS)
def test_repeat_of_a_multiple_is_tiling_by_the_ratio(times: int, seed: int) -> None:
    kernel = _kernel(seed, 2, 3, 3, 3)
    found = fold_channels(kernel, 3 * times, "repeat")
    torch.testing.assert_close(found, kernel.repeat(1, times, 1, 1) / times)


def test_folding_by_hand() -> None:
    kernel = torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1, 1)
    expected = {
        ("sum", 1): [9.0],
        ("mean", 1): [3.0],
        ("first", 1): [1.0],
        ("repeat", 1): [9.0],
        ("sum", 2): [4.5, 4.5],
        ("repeat", 2): [7.0, 2.0],
        ("repeat", 4): [0.5, 2.0, 6.0, 0.5],
        ("first", 2): [0.5, 0.5],
    }
    for (method, channels), values in expected.items():
        found = fold_channels(kernel, channels, method)
        assert found.flatten().tolist() == values, (method, channels)


def test_folding_refuses() -> None:
    kernel = torch.ones(2, 3, 3, 3)
    with pytest.raises(ConversionError, match="cannot take 0 channels"):
        fold_channels(kernel, 0, "sum")
    with pytest.raises(ConversionError, match="no stem method is called 'max'"):
        fold_channels(kernel, 1, "max")
    with pytest.raises(ConversionError, match=r"shape \(2, 3\), expected \(out, in, ...\)"):
        fold_channels(torch.ones(2, 3), 1, "sum")


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([1, 3, 5, 7]), st.sampled_from(INFLATIONS), st.integers(1, 20), _SEEDS)
def test_inflated_kernels_give_the_2d_response_on_constant_depth(
    depth: int, method: str, channels: int, seed: int
) -> None:
    kernel = _kernel(seed, 3, channels, 3, 3)
    image = _kernel(seed + 1, 1, channels, 6, 6)
    volume = image.unsqueeze(2).expand(-1, -1, depth + 2, -1, -1)
    found = functional.conv3d(volume, inflate_kernel(kernel, depth, method))
    expected = functional.conv2d(image, kernel).unsqueeze(2).expand_as(found)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("method", INFLATIONS)
@pytest.mark.parametrize("depth", [2, 4])
def test_patch_kernels_may_be_even(depth: int, method: str) -> None:
    kernel, image = _kernel(0, 3, 16, 4, 4), _kernel(1, 1, 16, 8, 8)
    inflated = inflate_kernel(kernel, depth, method, patch=True)
    volume = image.unsqueeze(2).expand(-1, -1, 2 * depth, -1, -1)
    found = functional.conv3d(volume, inflated, stride=(depth, 4, 4))
    expected = functional.conv2d(image, kernel, stride=4).unsqueeze(2).expand_as(found)
    torch.testing.assert_close(found, expected)


def test_center_by_hand() -> None:
    found = inflate_kernel(torch.full((1, 1, 1, 1), 6.0), 3, "center")
    assert found.flatten().tolist() == [0.0, 6.0, 0.0]
    found = inflate_kernel(torch.full((1, 1, 1, 1), 6.0), 3, "average")
    assert found.flatten().tolist() == [2.0, 2.0, 2.0]


def test_gaussian_is_scipys_window() -> None:
    window = scipy.signal.windows.gaussian(5, std=5 / 4)
    found = inflate_kernel(torch.full((1, 1, 1, 1), 1.0), 5, "gaussian")
    assert found.flatten().tolist() == pytest.approx((window / window.sum()).tolist())


def test_shift_is_a_shift_of_channels_before_the_2d_convolution() -> None:
    kernel, volume = _kernel(0, 3, 17, 3, 3), _kernel(1, 1, 17, 6, 5, 5)
    found = functional.conv3d(volume, inflate_kernel(kernel, 5, "shift"), padding=(2, 0, 0))
    moved = volume.clone()
    moved[:, :2, :-1], moved[:, :2, -1] = volume[:, :2, 1:], 0
    moved[:, 2:4, 1:], moved[:, 2:4, 0] = volume[:, 2:4, :-1], 0
    expected = [functional.conv2d(moved[:, :, index], kernel) for index in range(6)]
    torch.testing.assert_close(found, torch.stack(expected, dim=2))


@pytest.mark.parametrize("depth", [0, -1, 2, 4])
def test_inflation_refuses_a_depth_without_a_middle(depth: int) -> None:
    with pytest.raises(ConversionError, match=f"depth of {depth}: expected an odd number"):
        inflate_kernel(torch.ones(1, 1, 3, 3), depth, "average")


def test_inflation_refuses_other_kernels_and_methods() -> None:
    with pytest.raises(ConversionError, match=r"shape \(1, 1, 3\), expected a 2D kernel"):
        inflate_kernel(torch.ones(1, 1, 3), 3, "average")
    with pytest.raises(ConversionError, match="no inflation is called 'random'"):
        inflate_kernel(torch.ones(1, 1, 3, 3), 3, "random")
