"""The fast depthwise convolution equals PyTorch's, and so do its gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from voxgraft.models.layers.convolution import Conv3d
from voxgraft.models.layers.depthwise import depthwise_conv3d, fast_depthwise_fits

TOLERANCE = 1e-5


def gradients(convolve, x, weight):
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    out = convolve(x, weight)
    mask = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    (out * mask).sum().backward()
    return out.detach(), x.grad, weight.grad


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_values_and_gradients_equal_float64_conv3d(data: st.DataObject) -> None:
    axis = st.integers(1, 5)
    kernel = data.draw(st.tuples(axis, axis, axis), label="kernel")
    stride = tuple(data.draw(st.integers(1, min(kernel)), label="stride") for _ in range(3))
    padding = tuple(data.draw(st.integers(0, k), label="padding") for k in kernel)
    size = tuple(
        data.draw(st.integers(max(1, k - 2 * p), 9), label="size")
        for k, p in zip(kernel, padding, strict=True)
    )
    batch, channels = data.draw(st.integers(1, 3)), data.draw(st.integers(2, 5))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 2**16)))
    x = torch.randn(batch, channels, *size, generator=generator)
    weight = torch.randn(channels, 1, *kernel, generator=generator)
    assert fast_depthwise_fits(x, weight, stride, (1, 1, 1), channels)
    fast = gradients(lambda a, w: depthwise_conv3d(a, w, None, stride, padding), x, weight)
    exact = gradients(
        lambda a, w: F.conv3d(a, w, None, stride, padding, 1, channels), x.double(), weight.double()
    )
    for found, expected in zip(fast, exact, strict=True):
        scale = max(1.0, expected.abs().max().item())
        assert found.shape == expected.shape
        assert (found - expected).abs().max() <= TOLERANCE * scale


def test_it_is_deterministic_bit_by_bit() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 8, 9, 9, 9), torch.randn(8, 1, 3, 3, 3)
    for stride in ((1, 1, 1), (2, 2, 2)):
        once, again = (
            gradients(lambda a, w: depthwise_conv3d(a, w, None, stride, (1, 1, 1)), x, weight)  # noqa: B023
            for _ in range(2)
        )
        assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_frozen_weight_and_frozen_input_take_no_gradient() -> None:
    x, weight = torch.randn(2, 4, 5, 5, 5), torch.randn(4, 1, 3, 3, 3)
    depthwise_conv3d(x, weight.requires_grad_(), None, (1, 1, 1), (1, 1, 1)).sum().backward()
    assert x.grad is None
    assert weight.grad is not None
    frozen = weight.detach()
    depthwise_conv3d(x.requires_grad_(), frozen, None, (2, 2, 2), (1, 1, 1)).sum().backward()
    assert x.grad is not None
    assert frozen.grad is None


@pytest.mark.parametrize("mode", ["zeros", "replicate"])
def test_the_layer_uses_it_with_bias_and_depth_padding(mode) -> None:
    torch.manual_seed(0)
    layer = Conv3d(4, 4, (3, 3, 3), stride=(1, 2, 2), padding=(1, 1, 1), groups=4)
    layer.depth_padding = mode
    x = torch.randn(2, 4, 5, 8, 8)
    fast = layer(x)
    assert type(fast.grad_fn).__name__ == "AddBackward0"
    exact = layer.double()(x.double())
    assert (fast - exact).abs().max() < TOLERANCE


@pytest.mark.parametrize(
    ("x", "groups"),
    [
        (torch.randn(1, 4, 3, 3, 3, dtype=torch.float64), 4),
        (torch.randn(1, 4, 3, 3, 3), 2),
        (torch.empty(0, 4, 3, 3, 3), 4),
        (torch.empty(1, 4, 3, 3, 3, device="meta"), 4),
    ],
    ids=["float64", "grouped", "empty", "not on the CPU"],
)
def test_other_convolutions_are_left_to_pytorch(x, groups) -> None:
    weight = torch.randn(4, 4 // groups, 3, 3, 3, dtype=x.dtype)
    assert not fast_depthwise_fits(x, weight, (1, 1, 1), (1, 1, 1), groups)


def test_autocasting_is_left_to_pytorch() -> None:
    x, weight = torch.randn(1, 4, 3, 3, 3), torch.randn(4, 1, 3, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not fast_depthwise_fits(x, weight, (1, 1, 1), (1, 1, 1), 4)
