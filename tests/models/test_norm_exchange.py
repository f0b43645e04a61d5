"""Group normalization in place of batch normalization."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from voxgraft.errors import ModelError
from voxgraft.models import build_encoder, exchange_norm
from voxgraft.models.layers.normalization import BatchNormAct3d, GroupNormAct
from voxgraft.models.norm_exchange import restore_batch_norm


@pytest.mark.parametrize("name", ["resnet18_3d", "efficientnet_lite0_3d", "densenet121_3d"])
def test_every_batch_normalization_goes_and_the_affine_tensors_stay(name) -> None:
    encoder = build_encoder(name, seed=0).eval()
    before = encoder.state_dict()
    norms = sum(isinstance(m, nn.BatchNorm3d) for m in encoder.modules())
    assert exchange_norm(encoder) == norms
    assert not any(isinstance(m, nn.BatchNorm3d) for m in encoder.modules())
    after = encoder.state_dict()
    gone = {"running_mean", "running_var", "num_batches_tracked"}
    assert list(after) == [key for key in before if key.rsplit(".", 1)[1] not in gone]
    assert all(torch.equal(after[key], before[key]) for key in after)
    volume = torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        both, alone = encoder(volume), encoder(volume[:1])
    # Each volume is normalized by itself, whatever else is in the batch.
    assert torch.allclose(both[:1], alone, atol=1e-4 * float(both.abs().max()))
    with torch.no_grad():
        assert torch.equal(encoder.train()(volume), both)


def test_one_layer_is_group_normalization_then_its_activation() -> None:
    norm = BatchNormAct3d(
        48,
        eps=1e-3,
        momentum=0.1,
        affine=True,
        track_running_stats=True,
        drop=nn.Identity(),
        act=nn.ReLU6(),
    )
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    network = nn.Sequential(norm)
    exchange_norm(network, groups=32)
    x = torch.randn(2, 48, 3, 4, 5)
    expected = F.relu6(F.group_norm(x, 16, norm.weight, norm.bias, 1e-3))  # gcd(48, 32) groups
    assert torch.equal(network(x), expected)


def test_what_cannot_be_exchanged_is_refused() -> None:
    with pytest.raises(ModelError, match="has no batch normalization to exchange"):
        exchange_norm(build_encoder("convnext_atto_3d", seed=0))
    encoder = build_encoder("mobilenetv3_small_3d", seed=0)
    with pytest.raises(ModelError, match="norm is 'batch'; expected 'group' or 'instance'"):
        exchange_norm(encoder, "batch")
    with pytest.raises(ModelError, match="groups is 0; expected a whole number"):
        exchange_norm(encoder, groups=0)


def _standardized(layer: nn.BatchNorm3d, seed: int) -> torch.Tensor:
    """Return volumes whose channels have, each, the layer's running mean and variance."""
    x = torch.randn(3, layer.num_features, 4, 5, 6, generator=torch.Generator().manual_seed(seed))
    x = (x - x.mean((2, 3, 4), keepdim=True)) / x.var((2, 3, 4), correction=0, keepdim=True).sqrt()
    shape = (1, -1, 1, 1, 1)
    return x * layer.running_var.view(shape).sqrt() + layer.running_mean.view(shape)


def _uneven(channels: int, eps: float = 1e-3) -> nn.BatchNorm3d:
    torch.manual_seed(channels)
    layer = nn.BatchNorm3d(channels, eps)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    nn.init.normal_(layer.running_mean, 0, 3)
    nn.init.uniform_(layer.running_var, 0.01, 9)
    return layer.eval()


@pytest.mark.parametrize("norm", ["group", "instance"])
@pytest.mark.parametrize("channels", [1, 10, 48, 64])
def test_folded_statistics_keep_the_response_to_volumes_that_have_them(norm, channels) -> None:
    layer = _uneven(channels)
    x = _standardized(layer, 0)
    expected = layer(x)
    folded, bare = nn.Sequential(layer), nn.Sequential(_uneven(channels))
    exchange_norm(folded, norm, groups=6, fold=True)
    exchange_norm(bare, norm, groups=6)
    assert folded[0].num_groups == (channels if norm == "instance" else math.gcd(channels, 6))
    torch.testing.assert_close(folded(x), expected, rtol=1e-3, atol=1e-3)
    alike = torch.allclose(bare(x), expected, rtol=1e-3, atol=1e-3)
    assert alike == (norm == "instance" or channels == 1)


@pytest.mark.parametrize("layer", [
    nn.GroupNorm(4, 12), nn.GroupNorm(1, 12), nn.InstanceNorm3d(12, affine=True),
    nn.InstanceNorm3d(12), GroupNormAct(3, 12, eps=1e-5, drop=nn.Identity(), act=nn.ReLU()),
])  # fmt: skip
def test_batch_normalization_is_restored_from_volumes(layer) -> None:
    torch.manual_seed(0)
    if layer.weight is not None:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    # Volumes that all have the same mean and variance in each channel.
    like = _uneven(12)
    x = torch.cat([_standardized(like, seed) for seed in range(2)])
    network = nn.Sequential(layer).train()
    expected = network(x)
    assert restore_batch_norm(network, x) == 1
    assert network.training
    restored = network[0]
    torch.testing.assert_close(restored.running_mean, like.running_mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(restored.running_var, like.running_var, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.eval()(x), expected, rtol=1e-3, atol=1e-3)
    assert isinstance(restored, nn.BatchNorm3d)


def test_there_and_back_in_a_whole_network() -> None:
    encoder = build_encoder("efficientnet_lite0_3d", seed=0)
    names = list(encoder.state_dict())
    volumes = torch.randn(4, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))
    count = exchange_norm(encoder, "instance", fold=True)
    with torch.no_grad():
        expected = encoder.forward_stages(volumes)[1]
    assert restore_batch_norm(encoder, volumes) == count
    assert list(encoder.state_dict()) == names
    with torch.no_grad():
        found = encoder.eval().forward_stages(volumes)[1]
    # Volumes of noise are much alike, not quite.
    assert float((found - expected).abs().mean() / expected.abs().mean()) < 0.2


def test_networks_on_slices_exchange_their_2d_layers() -> None:
    encoder = build_encoder("slicewise:mobilenetv3_small_050", seed=0).train()
    assert exchange_norm(encoder, fold=True) > 0
    volumes = torch.randn(2, 1, 3, 32, 32)
    with torch.no_grad():
        both, alone = encoder(volumes), encoder(volumes[:1])
    torch.testing.assert_close(both[:1], alone, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_folded_or_restored() -> None:
    bare = nn.Sequential(nn.BatchNorm3d(4, track_running_stats=False))
    with pytest.raises(ModelError, match="keeps no running statistics: there is nothing to fold"):
        exchange_norm(bare, fold=True)
    assert exchange_norm(bare) == 1
    with pytest.raises(ModelError, match="no group or instance normalization to exchange"):
        restore_batch_norm(nn.Sequential(nn.Conv3d(1, 1, 1)), torch.zeros(1, 1, 2, 2, 2))
    flat = nn.Sequential(nn.Flatten(2), nn.GroupNorm(1, 4))
    with pytest.raises(ModelError, match="1 normalized no volume while the network ran"):
        restore_batch_norm(flat, torch.zeros(2, 4, 2, 2, 2))
