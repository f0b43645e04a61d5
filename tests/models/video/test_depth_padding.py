"""What lies beyond the first and last slice of convolutional video networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from voxgraft.errors import ModelError
from voxgraft.models import build_encoder


@pytest.mark.parametrize("name", ["slow_r50", "slowfast_r50", "x3d_xs"])
def test_padding_along_depth_is_an_option(name) -> None:
    with torch.device("meta"):
        encoder = build_encoder(name, depth_padding="replicate")
    assert encoder.depth_padding == "replicate"
    with pytest.raises(ModelError, match="depth_padding is 'mirror'; expected 'zeros' or"):
        build_encoder(name, depth_padding="mirror")


def test_a_constant_volume_stays_constant_with_replicated_padding() -> None:
    """Otherwise the replication would not reach every layer."""
    encoder = build_encoder("x3d_xs", depth_padding="replicate", seed=0).eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
    image = torch.randn(1, 1, 1, 48, 48, generator=torch.Generator().manual_seed(3))
    flat = image.expand(-1, -1, 6, -1, -1)
    with torch.no_grad():
        features = encoder.forward_features(flat)
    torch.testing.assert_close(features, features[:, :, :1].expand_as(features))
