"""Learning rates of a segmentation: head, decoder fine to coarse, encoder deep to shallow."""

import pytest
import torch

from voxgraft.models import build_segmentation
from voxgraft.training import Adapt, Optimization
from voxgraft.training.adapt import Adaptation
from voxgraft.training.stages import decoder_levels, network_stages


def build(name, tiny):
    if name == "unet":
        return build_segmentation(tiny.TinyEncoder(), 2, decoder_width=4, seed=0)
    return build_segmentation(name, 2, decoder="native", deep_supervision=True, seed=0)


def rates(network, loaded, **adapt):
    groups = Adaptation(
        Adapt(method="layerwise", decay=0.5, **adapt), network, 10, 0, loaded
    ).parameter_groups(network, Optimization())
    return {name: group["lr_scale"] for group in groups for name in group["names"]}


@pytest.mark.parametrize("name", ["segresnet_8", "unet", "genesis_unet"])
def test_each_parameter_of_a_decoder_is_of_one_level(name, tiny):
    network = build(name, tiny)
    levels = decoder_levels(network)
    assert network.training
    flat = [each for level in levels for each in level]
    own = {n for n, _ in network.named_parameters() if n.startswith("decoder.")}
    assert len(flat) == len(set(flat))
    network(torch.randn(1, 1, 16, 16, 32)).sum().backward()
    moved = {n for n in own if network.get_parameter(n).grad is not None}
    assert moved == set(flat)
    sizes = [sum(network.get_parameter(n).numel() for n in level) for level in levels]
    assert len(sizes) >= 2 if name == "unet" else 3


def test_levels_of_segresnet_by_hand():
    network = build("segresnet_8", None)
    levels = decoder_levels(network)
    parts = [{".".join(name.split(".")[1:3]) for name in level} for level in levels]
    # ``up_samples`` are pointwise convolutions before the grid is doubled.
    assert parts == [
        {"up_layers.2", "conv_final.0"},
        {"up_layers.1", "up_samples.2"},
        {"up_layers.0", "up_samples.1"},
        {"up_samples.0"},
    ]


def test_rates_fall_through_a_loaded_decoder_and_then_the_encoder():
    network = build("segresnet_8", None)
    levels = decoder_levels(network)
    names = [name for name, _ in network.named_parameters()]
    found = rates(network, [name for name in names if name.startswith("decoder.")])
    assert set(found) == set(names)
    heads = [name for name in names if name.startswith(("head.", "deep_heads."))]
    assert {found[name] for name in heads} == {1.0}
    for number, level in enumerate(levels):
        assert {found[name] for name in level} == {0.5 ** (number + 1)}
    encoder = [stage.parameters for stage in network_stages(network)[:-1]]
    for below, stage in enumerate(reversed(encoder)):
        assert {found[name] for name in stage} == {0.5 ** (len(levels) + 1 + below)}


def test_a_fresh_decoder_has_the_heads_rate_and_so_has_a_fresh_level():
    network = build("segresnet_8", None)
    levels = decoder_levels(network)
    fresh = rates(network, [])
    assert {fresh[name] for level in levels for name in level} == {1.0}
    assert fresh["encoder.down_layers.3.4.conv1.conv.weight"] == 0.5
    coarse = rates(network, levels[-1][:1])
    assert {coarse[name] for name in levels[-1]} == {0.5}
    assert {coarse[name] for level in levels[:-1] for name in level} == {1.0}
    assert coarse["encoder.down_layers.3.4.conv1.conv.weight"] == 0.25


@pytest.mark.parametrize("method", ["frozen", "gradual", "full", "lora"])
def test_other_methods_train_the_decoder_with_the_head(method):
    network = build("segresnet_8", None)
    loaded = [name for name, _ in network.named_parameters() if name.startswith("decoder.")]
    adaptation = Adaptation(Adapt(method=method), network, 10, 0, loaded)
    assert set(loaded) <= adaptation.trainable(0)
