"""Trainings in bf16 on a processor, where PyTorch's gradients are wrong for maps of depth 2."""

import pytest
import torch

from voxgraft.errors import RecipeError
from voxgraft.models import build_segmentation
from voxgraft.training import Adapt
from voxgraft.training.cpu_bf16 import flat_convolutions, refuse_wrong_gradients


@pytest.mark.parametrize(("depth", "level"), [(16, 3), (8, 2), (2, 2)])
def test_layers_that_see_a_depth_of_two_are_found(depth, level):
    network = build_segmentation("segresnet_8", 2, decoder="native", seed=0)
    network.encoder.convInit.eval()
    modes = [module.training for module in network.modules()]
    found = flat_convolutions(network, (1, depth, 16, 24))
    assert [module.training for module in network.modules()] == modes
    blocks = {f"encoder.down_layers.{level}." for _ in found}
    inner = [name for name in found if name.startswith("encoder.down_layers")]
    assert inner
    # Convolutions that halve the map come to a depth of 2, but not from it.
    assert all(name.startswith(tuple(blocks)) for name in inner)
    assert not any(name.startswith(f"encoder.down_layers.{level}.0") for name in inner)
    with pytest.raises(RecipeError, match=r"see maps of depth 2 .*encoder"):
        refuse_wrong_gradients(
            network, (1, depth, 16, 24), encoder_trains=True, channels_last=False
        )


def test_other_depths_train(tiny, tmp_path):
    network = build_segmentation("segresnet_8", 2, decoder="native", seed=0)
    assert flat_convolutions(network, (1, 32, 16, 16)) == []
    assert flat_convolutions(network, (1, 24, 16, 16)) == []
    refuse_wrong_gradients(network, (1, 32, 16, 16), encoder_trains=True, channels_last=True)
    feed = tiny.tiny_feed(tiny.BINARY, 8)
    assert feed.images.shape[2] == 8
    changes = {"precision": "bf16", "steps": 2, "eval_every": 2}
    network, _, result = tiny.train(tmp_path, changes=changes)
    assert not result.diverged
    assert all(torch.isfinite(value).all() for value in network.state_dict().values())


def test_a_training_says_so_before_it_begins(tiny, tmp_path):
    flat = tiny.tiny_feed(tiny.BINARY, 8)
    changes = {"precision": "bf16", "steps": 2, "eval_every": 2}
    found = flat_convolutions(tiny.tiny_network(), flat.image_shape)
    assert found == ["encoder.layer2.0.0"]  # a depthwise one, behind two halvings
    assert flat_convolutions(tiny.tiny_network(), flat.image_shape, grouped=False) == []
    with pytest.raises(RecipeError, match=r"bf16.*CPU.*encoder\.layer2\.0\.0"):
        tiny.train(tmp_path, train_feed=flat, changes=changes, memory_format="channels_last")
    _, _, result = tiny.train(
        tmp_path, train_feed=flat, changes=changes, adapt=Adapt(method="frozen"),
        memory_format="channels_last",
    )  # fmt: skip
    assert result.steps_done == 2
