"""A study's score depends on that study alone, whatever else is in its batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from voxgraft.models import Network, build_encoder, exchange_norm
from voxgraft.types import Size3

TOLERANCE = 1e-5  # relative to the largest score

NETWORKS: dict[str, tuple[str, dict[str, Any], Size3]] = {
    "mvit": ("mvit_base_32x3", {}, (4, 33, 40)),
    "r2plus1d": ("r2plus1d_r50", {}, (4, 33, 40)),
    "csn": ("csn_r101", {}, (4, 33, 40)),
    "slowfast": ("slowfast_r50", {}, (5, 33, 40)),
    "slow": ("slow_r50", {}, (4, 33, 40)),
    "video swin": ("swin3d_t", {}, (4, 33, 40)),
    "penet": ("penet_3d", {}, (4, 33, 40)),
    "resnet18": ("slicewise_resnet18", {"join": "max"}, (4, 33, 40)),
    "resnext101, lrcn": ("slicewise_resnext101_32x8d", {"join": "lrcn"}, (3, 32, 32)),
    "resnext101": ("slicewise_resnext101_32x8d", {"join": "max"}, (2, 32, 32)),
    "dinov2": ("slicewise_vit_small_patch14_dinov2", {"join": "attention"}, (3, 33, 40)),
    "dinov3": ("slicewise_vit_small_patch16_dinov3", {"join": "attention"}, (3, 33, 40)),
}
"""Each with an input that is small, but not so small that all studies look alike."""


def _draw(network: nn.Module) -> None:
    """Make every part count: residuals and layer scales begin at zero or close to it."""
    generator = torch.Generator().manual_seed(2)
    for name, parameter in network.named_parameters():
        if parameter.ndim == 1:
            one = name.endswith(("weight", "gamma"))
            nn.init.uniform_(parameter, *((0.5, 1.0) if one else (-0.2, 0.2)), generator=generator)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.running_mean, -0.2, 0.2, generator=generator)
            nn.init.uniform_(module.running_var, 0.5, 1.5, generator=generator)


@pytest.fixture(scope="module", params=NETWORKS)
def given(request) -> tuple[Network, Tensor]:
    """A network with a head, and three studies."""
    name, options, size = NETWORKS[request.param]
    network = Network(build_encoder(name, seed=0, **options), 2, seed=0)
    with torch.no_grad():
        _draw(network)
    studies = torch.rand(3, 1, *size, generator=torch.Generator().manual_seed(1))
    return network, studies


def worst_dependence(network: nn.Module, studies: Tensor) -> float:
    """Return the largest change of a score through the rest of its batch, relative to all scores.

    Infinite where something that is no number in one study reaches the score of another.
    """
    with torch.no_grad():
        alone = torch.cat([network(study[None]) for study in studies])
        scale = alone.abs().max()
        assert (alone - alone.mean(0)).abs().max() > 1e-4 * scale, "the studies look alike"
        strange = studies.clone()
        strange[0] *= 1e4
        strange[2] = torch.nan
        batches = [
            (studies, [0, 1, 2]),
            (studies[[2, 0, 1]], [2, 0, 1]),
            (studies[[1, 1]], [1, 1]),
            (strange, [None, 1, None]),
        ]
        worst = 0.0
        for batch, origins in batches:
            for score, origin in zip(network(batch), origins, strict=True):
                if origin is not None:
                    change = float((score - alone[origin]).abs().max() / scale)
                    worst = max(worst, change if change == change else float("inf"))
    return worst


def test_in_evaluation_a_score_is_that_of_the_study_alone(given) -> None:
    network, studies = given
    assert worst_dependence(network.eval(), studies) < TOLERANCE


def test_in_training_too_with_group_normalization(given) -> None:
    network, studies = given
    if any(isinstance(m, nn.BatchNorm3d | nn.BatchNorm2d) for m in network.modules()):
        exchange_norm(network)
    batch_norms = [name for name, m in network.named_modules() if isinstance(m, _BatchNorm)]
    if batch_norms:  # LRCN ends in one, over the studies of a batch: it is part of the method
        assert batch_norms == ["encoder.join.norm"]
        network.train().encoder.join.norm.eval()
    else:
        network.train()
    assert worst_dependence(network, studies) < TOLERANCE


def test_what_does_depend_on_the_batch_is_noticed() -> None:
    small = "slicewise:resnet10t"
    studies = torch.rand(3, 1, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    network = Network(build_encoder(small, join="lrcn", join_channels=8, seed=0), 2, seed=0)
    with torch.no_grad():
        _draw(network)
    assert worst_dependence(network.eval(), studies) < TOLERANCE
    network.encoder.join.gru.batch_first = False  # reads from study to study
    assert worst_dependence(network, studies) > 100 * TOLERANCE
    plain = Network(build_encoder(small, seed=0), 2, seed=0)
    with torch.no_grad():
        _draw(plain)
    assert worst_dependence(plain.eval(), studies) < TOLERANCE
    assert worst_dependence(plain.train(), studies) > 100 * TOLERANCE
