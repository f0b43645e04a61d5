"""Group normalization in place of batch normalization."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from voxgraft.errors import ModelError
from voxgraft.models import build_encoder, exchange_norm
from voxgraft.models.layers.normalization import BatchNormAct3d


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
    with pytest.raises(ModelError, match="norm is 'batch'; expected 'group'"):
        exchange_norm(encoder, "batch")
    with pytest.raises(ModelError, match="groups is 0; expected a whole number"):
        exchange_norm(encoder, groups=0)
