"""ACS convolutions and the twins that are made of them."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.errors import ModelError
from voxgraft.models import build_encoder
from voxgraft.models.layers.acs import AcsConv3d, laid_axially, three_planes


def directly(layer: AcsConv3d, x: Tensor, pad: int) -> Tensor:
    """Put each 2D kernel into a cube, channel by channel, and convolve with that."""
    size = layer.kernel_size[0]
    cubes = torch.zeros(layer.out_channels, layer.weight.shape[1], size, size, size)
    middle = size // 2
    axial, coronal, _ = layer.split
    for channel in range(layer.out_channels):
        kernel = layer.weight[channel].detach()
        for i, j in itertools.product(range(size), repeat=2):
            if channel < axial:
                cubes[channel, :, middle, i, j] = kernel[:, i, j]
            elif channel < axial + coronal:
                cubes[channel, :, i, middle, j] = kernel[:, i, j]
            else:
                cubes[channel, :, i, j, middle] = kernel[:, i, j]
    return F.conv3d(x, cubes, layer.bias, layer._stride, pad, layer.dilation[0], layer.groups)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_kernel_lies_in_its_plane(data) -> None:
    groups = data.draw(st.integers(1, 5))
    inner, outer = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    size = data.draw(st.integers(1, 5))
    dilation = data.draw(st.integers(1, 2))
    pad = data.draw(st.integers(0, size))
    stride = data.draw(st.tuples(*[st.integers(1, 3)] * 3))
    reach = dilation * (size - 1) + 1
    shape = data.draw(st.tuples(*[st.integers(max(1, reach - 2 * pad), reach + 4)] * 3))
    torch.manual_seed(0)
    layer = AcsConv3d(
        groups * inner, groups * outer, size, stride=stride, padding=pad, dilation=dilation,
        groups=groups, bias=data.draw(st.booleans()),
    )  # fmt: skip
    x = torch.randn(2, groups * inner, *shape)
    if data.draw(st.booleans()):
        x = x.contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(layer(x), directly(layer, x, pad), rtol=1e-4, atol=1e-5)


def test_one_channel_that_lies_channels_last_is_convolved() -> None:
    """PyTorch's own convolution leaves such results unwritten."""
    torch.manual_seed(0)
    layer = AcsConv3d(3, 12, 3, stride=(1, 1, 2), padding=1, groups=3)
    x = torch.randn(2, 3, 2, 2, 1)
    expected = layer(x)
    torch.testing.assert_close(layer(x.contiguous(memory_format=torch.channels_last_3d)), expected)


@pytest.mark.parametrize("groups", [1, 4, 12])
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_are_those_of_the_direct_convolution(groups, stride) -> None:
    torch.manual_seed(0)
    layer = AcsConv3d(12, 24, 3, stride=(stride,) * 3, padding=1, groups=groups)
    plain = nn.Conv3d(12, 24, 3, stride=stride, padding=1, groups=groups)
    x = torch.randn(2, 12, 6, 7, 8)
    weigh = torch.randn(directly(layer, x, 1).shape)
    with torch.no_grad():
        plain.weight.zero_()
        plain.weight[:8, :, 1] = layer.weight[:8]
        plain.weight[8:16, :, :, 1] = layer.weight[8:16]
        plain.weight[16:, ..., 1] = layer.weight[16:]
        plain.bias.copy_(layer.bias)
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    (layer(ours) * weigh).sum().backward()
    (plain(theirs) * weigh).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)
    flat = torch.cat(
        [plain.weight.grad[:8, :, 1], plain.weight.grad[8:16, :, :, 1],
         plain.weight.grad[16:, ..., 1]]
    )  # fmt: skip
    torch.testing.assert_close(layer.weight.grad, flat, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(layer.bias.grad, plain.bias.grad, rtol=1e-4, atol=1e-4)


def test_thirds() -> None:
    assert [three_planes(n) for n in (1, 2, 3, 64, 65)] == [
        (1, 0, 0), (1, 1, 0), (1, 1, 1), (22, 21, 21), (22, 22, 21)
    ]  # fmt: skip


def test_replicated_depth_and_same_padding() -> None:
    torch.manual_seed(0)
    layer = AcsConv3d(3, 9, 3, padding=1, depth_padding="replicate")
    x = torch.randn(1, 3, 4, 6, 6)
    longer = torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2)
    torch.testing.assert_close(layer(x), directly(layer, longer, 1)[:, :, 1:-1])
    same = AcsConv3d(3, 9, 3, stride=(2, 2, 2), same=True)
    even = torch.randn(1, 3, 6, 8, 8)  # one voxel of padding, at the end alone
    torch.testing.assert_close(same(even), directly(same, F.pad(even, (0, 1) * 3), 0))


def test_laid_axially_is_the_2d_layer_slice_by_slice_and_ends() -> None:
    torch.manual_seed(0)
    layer = AcsConv3d(4, 6, 3, stride=(2, 2, 2), padding=1)
    x = torch.randn(1, 4, 5, 6, 6)
    before = layer(x)
    with laid_axially(nn.Sequential(layer)):
        flat = layer(x)
    for index in range(3):
        image = F.conv2d(x[:, :, 2 * index], layer.weight, layer.bias, 2, 1)
        torch.testing.assert_close(flat[:, :, index], image)
    assert torch.equal(layer(x), before)
    assert not torch.allclose(before, flat)


KINDS = ["resnet18", "densenet121", "efficientnet_b0", "mobilenetv3_small_050",
         "convnextv2_atto", "regnety_002", "tf_efficientnet_lite0"]  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_an_acs_twin_has_the_2d_state_dict_and_its_features_when_laid_axially(
    name, randomize
) -> None:
    with torch.device("meta"):
        encoder = build_encoder(f"{name}_3d", convolution="acs").eval()
        reference = encoder.build_reference()
    randomize(reference)
    state = reference.state_dict()
    own = encoder.state_dict()
    assert [(n, t.shape) for n, t in own.items()] == [(n, t.shape) for n, t in state.items()]
    assert encoder.declaration.convolution == "acs"
    encoder.load_state_dict(state, assign=True)
    image = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    depth = max(5, encoder.declaration.min_size[0])
    volume = image.unsqueeze(2).repeat(1, 1, depth, 1, 1)
    with torch.no_grad():
        expected, pooled = reference.forward_features(image), reference(image)
        with laid_axially(encoder):
            found, vector = encoder.forward_features(volume), encoder(volume)
        other = encoder.forward_features(volume)
    scale = expected.abs().max()
    assert ((found - expected.unsqueeze(2)).abs().max() / scale) < 1e-4
    assert ((vector - pooled).abs().max() / pooled.abs().max()) < 1e-4
    assert other.shape == found.shape
    assert not torch.allclose(other, found, atol=float(scale) * 1e-2)


def test_an_acs_twin_trains_with_random_weights_and_thick_slices() -> None:
    encoder = build_encoder("resnet18_3d", convolution="acs", depth_stride=4, seed=0)
    again = build_encoder("resnet18_3d", convolution="acs", depth_stride=4, seed=0)
    assert all(map(torch.equal, encoder.state_dict().values(), again.state_dict().values()))
    features = encoder.forward_features(torch.randn(2, 1, 8, 32, 32))
    assert features.shape == (2, 512, 2, 1, 1)
    features.square().mean().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    assert float(features.detach().std()) > 0.1


def test_what_acs_cannot_be() -> None:
    with pytest.raises(ModelError, match="depth_kernel is 'flat': kernels in the coronal"):
        build_encoder("resnet18_3d", convolution="acs", depth_kernel="flat")
    with pytest.raises(ModelError, match="do not fit into the other planes"):
        build_encoder("convnext_atto_3d", convolution="acs", depth_stride=8)
    with pytest.raises(ModelError, match="expected 'full' or 'acs'"):
        build_encoder("resnet18_3d", convolution="soft")
    with pytest.raises(ModelError, match="no option 'convolution'"):
        build_encoder("plain_resnet10_3d", convolution="acs")
