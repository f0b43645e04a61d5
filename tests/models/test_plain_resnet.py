"""The plain 3D ResNet equals torchvision's r3d_18."""

import re

import pytest
import torch
from torchvision.models.video import r3d_18

from voxgraft.models import build_encoder


def torchvision_name(name: str) -> str:
    """Translate our name of a tensor into torchvision's."""
    name = re.sub(r"^conv1\.", "stem.0.", name)
    name = re.sub(r"^bn1\.", "stem.1.", name)
    name = re.sub(r"\.conv(\d)\.", r".conv\1.0.", name)
    return re.sub(r"\.bn(\d)\.", r".conv\1.1.", name)


def test_it_equals_r3d_18_with_the_same_weights() -> None:
    torch.manual_seed(0)
    theirs = r3d_18()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean, 0.0, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    ours = build_encoder("plain_resnet18_3d", in_channels=3)
    state = theirs.state_dict()
    renamed = {name: state.pop(torchvision_name(name)) for name in ours.state_dict()}
    assert set(state) == {"fc.weight", "fc.bias"}
    ours.load_state_dict(renamed)
    theirs.fc = torch.nn.Identity()
    volume = torch.randn(2, 3, 8, 24, 24)
    for mode in (True, False):
        ours.train(mode)
        theirs.train(mode)
        with torch.no_grad():
            found, expected = ours(volume), theirs(volume)
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", ["plain_resnet10_3d", "plain_resnet50_3d"])
def test_bottleneck_and_basic_blocks_train(name) -> None:
    encoder = build_encoder(name, seed=0)
    encoder(torch.randn(2, 1, 8, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    stages = encoder.eval().forward_stages(torch.randn(1, 1, 16, 32, 32))
    assert [tuple(stage.shape[2:]) for stage in stages] == [
        (16, 16, 16),
        (16, 16, 16),
        (8, 8, 8),
        (4, 4, 4),
        (2, 2, 2),
    ]
