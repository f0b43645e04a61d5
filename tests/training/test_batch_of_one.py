"""A batch of one case: BatchNorm over many voxels trains, over a single value it cannot."""

import pytest
import torch
from torch import nn

from voxgraft.errors import ModelError, RecipeError
from voxgraft.models import build_segmentation
from voxgraft.training import Adapt
from voxgraft.training.batchnorm import batchnorm_layers, single_values


def segmenter(tiny):
    """The tiny encoder and a U-Net's decoder, both with BatchNorm."""
    return build_segmentation(tiny.TinyEncoder(), 2, decoder_norm="batch", decoder_width=4, seed=0)


@pytest.mark.parametrize("edge", [4, 5, 8])
@pytest.mark.parametrize("kind", ["cases", "voxels"])
def test_it_is_refused_where_pytorch_refuses_it(tiny, edge, kind):
    network = tiny.tiny_network() if kind == "cases" else segmenter(tiny)
    layers = batchnorm_layers(network)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = single_values(network, layers, (1, edge, edge, edge))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    refused = set()
    for name, layer in network.named_modules():  # each layer alone in training mode
        if layer in layers:
            network.eval()
            layer.train()
            try:
                network(torch.zeros(1, 1, edge, edge, edge))
            except (ValueError, ModelError):
                refused.add(name)
    assert set(found) == refused
    if kind == "cases":
        assert bool(refused) == (edge <= 4)


def test_one_value_a_channel_is_refused_by_the_layers_name(tiny, tmp_path):
    feed = tiny.tiny_feed(tiny.BINARY, 20)
    small = tiny.TinyFeed(feed.images[..., :4, :4, :4], feed.targets.numpy())
    with pytest.raises(RecipeError, match=r"single value a channel.*encoder\.layer1\.0\.1"):
        tiny.train(tmp_path, train_feed=small, changes={"batch_size": 1})
    with pytest.raises(ModelError, match="one value a channel"):
        tiny.tiny_network().train()(small.images[:1])


def test_many_voxels_of_one_case_train_with_a_notice(tiny, tmp_path):
    network, _, result = tiny.train(tmp_path, changes={"batch_size": 1})
    assert result.steps_done == 12
    assert not result.diverged
    (notice,) = result.notices
    layers = sum(isinstance(layer, nn.BatchNorm3d) for layer in network.modules())
    assert f"so {layers} BatchNorm layers" in notice
    assert result.to_dict()["notices"] == [notice]
    # Running statistics are looked at as with larger batches.
    assert result.batchnorm["start"]["before"] > 0


def test_frozen_layers_do_not_count_but_those_of_a_decoder_do(tiny, tmp_path):
    _, _, result = tiny.train(tmp_path, changes={"batch_size": 1}, adapt=Adapt(method="frozen"))
    assert result.notices == ()
    from voxgraft.training.checks import training_notices

    network = segmenter(tiny)
    inner = len(batchnorm_layers(network)) - len(batchnorm_layers(network.encoder))
    feed, settings = tiny.tiny_feed(tiny.BINARY, 4), tiny.settings(batch_size=1)
    (notice,) = training_notices(network, feed, settings, Adapt(method="frozen"))
    assert f"so {inner} BatchNorm layers" in notice
