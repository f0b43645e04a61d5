"""Exactly what is meant to move moves, BatchNorm's running statistics included."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from voxgraft.errors import RecipeError, TrainingError
from voxgraft.models import Network, build_encoder
from voxgraft.training import Adapt
from voxgraft.training.adapt import Adaptation, set_training_modes
from voxgraft.training.lora import add_adapters, merge_adapters
from voxgraft.training.stages import network_stages


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])}


def one_update(tiny, tmp_path, adapt, start_step=0, norm="batch"):
    """Return the tensors that one update moves, by training with and without it.

    The network is kept from being evaluated: only the update itself may move anything.
    """
    from voxgraft.tasks import build_task
    from voxgraft.training.session import training_session
    from voxgraft.training.state import TrainingState
    from voxgraft.training.update import make_update

    network, feed = tiny.tiny_network(1, norm), tiny.tiny_feed(tiny.BINARY, 20)
    task = build_task(tiny.BINARY).fit(feed.targets.double().numpy())
    plan = tiny.settings(warmup=0.0, weight_decay=0.5)
    with training_session("cpu", "no", 1, 1) as accelerator:
        state = TrainingState(
            network, task, feed, None, plan, adapt, accelerator,
            folder=tmp_path, seed=0, settings={},
        )  # fmt: skip
        state.progress.step = start_step
        state.adaptation.set_trainable(network, start_step)
        set_training_modes(network)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        assert make_update(state, state.training_batches(), None).fault == ""
        trainable = state.adaptation.trainable(start_step)
    return moved(before, network.state_dict()), trainable, before


def statistics(names):
    return {name for name in names if "running_" in name or "num_batches" in name}


HEAD = {"head.weight", "head.bias"}


@pytest.mark.parametrize("method", ["full", "layerwise"])
def test_full_and_layerwise_move_everything(tiny, tmp_path, method):
    changed, trainable, before = one_update(tiny, tmp_path, Adapt(method=method))
    fixed = {"input_mean", "input_sd"}
    assert changed == set(before) - fixed
    assert trainable == {name for name in before if name not in fixed} - statistics(before)


def test_frozen_moves_the_head_alone(tiny, tmp_path):
    changed, trainable, _ = one_update(tiny, tmp_path, Adapt(method="frozen"))
    assert changed == trainable == HEAD


def test_gradual_thaws_from_the_head_downwards(tiny, tmp_path):
    adapt = Adapt(method="gradual", until=0.5)  # 12 steps, 3 stages: thaw at 2, 4 and 6
    expected = {0: (), 1: (), 2: ("layer2",), 4: ("layer2", "layer1"), 5: ("layer2", "layer1")}
    for step, stages in expected.items():
        changed, trainable, before = one_update(tiny, tmp_path, adapt, step)
        of_stages = {
            name for name in before for stage in stages if name.startswith(f"encoder.{stage}")
        }
        assert changed == HEAD | of_stages
        assert trainable == changed - statistics(changed)
    changed, _, before = one_update(tiny, tmp_path, adapt, 6)
    assert changed == set(before) - {"input_mean", "input_sd"}


def test_lora_moves_factors_and_head_alone(tiny, tmp_path):
    changed, trainable, before = one_update(tiny, tmp_path, Adapt(method="lora", rank=2))
    # the right factors get no gradient while the left ones are zero
    left = {name for name in before if name.endswith(".left")}
    assert trainable == HEAD | left | {name for name in before if name.endswith(".right")}
    assert HEAD | left <= changed <= trainable
    assert len(left) == 4


def test_frozen_parts_drop_nothing_out(tiny):
    network = tiny.tiny_network()
    adaptation = Adaptation(Adapt(method="frozen"), network, 12, 0)
    adaptation.set_trainable(network, 0)
    set_training_modes(network)
    assert not any(module.training for module in network.encoder.modules())
    assert network.dropout.training


def test_groups_decay_matrices_only_and_slow_down_by_depth(tiny):
    network = tiny.tiny_network()
    adaptation = Adaptation(Adapt(method="layerwise", decay=0.5), network, 12, 0)
    groups = adaptation.parameter_groups(network, tiny.settings(weight_decay=0.3))
    of_name = {name: group for group in groups for name in group["names"]}
    assert set(of_name) == {name for name, _ in network.named_parameters()}
    scales = {name: of_name[name]["lr_scale"] for name in of_name}
    assert scales["head.weight"] == 1.0
    assert scales["encoder.layer2.1.0.weight"] == 0.5
    assert scales["encoder.layer1.0.0.bias"] == 0.25
    assert scales["encoder.stem.0.weight"] == 0.125
    for name, parameter in network.named_parameters():
        assert of_name[name]["weight_decay"] == (0.3 if parameter.ndim >= 2 else 0.0)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("resnet18_3d", ["stem", "layer1", "layer2", "layer3", "layer4", "head"]),
        ("efficientnet_lite0_3d", ["stem", *(f"blocks.{n}" for n in range(7)), "head"]),
        ("convnext_atto_3d", ["stem", *(f"stages.{n}" for n in range(4)), "head"]),
        ("plain_resnet10_3d", ["stem", "layer1", "layer2", "layer3", "layer4", "head"]),
        (
            "densenet121_3d",
            ["stem", *(f"features.{part}{n}" for n in (1, 2, 3)
                       for part in ("denseblock", "transition")), "features.denseblock4", "head"],
        ),
    ],
)  # fmt: skip
def test_stages_of_real_networks(model, expected):
    with torch.device("meta"):
        network = Network(build_encoder(model), 1)
    stages = network_stages(network)
    assert [stage.name for stage in stages] == expected
    named = [name for stage in stages for name in stage.parameters]
    assert sorted(named) == sorted(name for name, _ in network.named_parameters())


def test_a_network_without_known_names_has_a_stage_a_child():
    network = nn.Module()
    network.encoder = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    network.head = nn.Linear(2, 1)
    assert [stage.name for stage in network_stages(network)] == ["0", "2", "head"]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 9), st.floats(0.1, 32), st.integers(0, 9))
def test_merged_adapters_give_the_same_outputs_as_a_plain_network(rank, alpha, seed):
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv3d(2, 4, 3, padding=1), nn.Conv3d(4, 4, 3, groups=4, bias=False),
        nn.Conv3d(4, 6, 1), nn.Flatten(), nn.Linear(6 * 8, 3),
    )  # fmt: skip
    names = list(network.state_dict())
    x = torch.randn(2, 2, 4, 4, 4)
    plain = network(x)
    add_adapters(network, rank, alpha, seed)
    torch.testing.assert_close(network(x), plain)  # adapters start at nothing
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            assert name.rsplit(".", 1)[1] in ("left", "right")
            nn.init.normal_(parameter, std=0.5)
    adapted = network(x)
    assert not torch.allclose(adapted, plain)
    merge_adapters(network)
    assert sorted(network.state_dict()) == sorted(names)
    torch.testing.assert_close(network(x), adapted, rtol=1e-5, atol=1e-5)


def test_the_rank_bounds_the_update():
    layer = nn.Sequential(nn.Linear(10, 8, bias=False))
    before = layer[0].weight.detach().clone()
    add_adapters(layer, 3, 8.0, 0)
    nn.init.normal_(layer[0].parametrizations.weight[0].left)
    merge_adapters(layer)
    assert torch.linalg.matrix_rank((layer[0].weight - before).double(), tol=1e-4) == 3


def test_a_trained_lora_network_is_a_plain_one(tiny, tmp_path):
    network, _, result = tiny.train(tmp_path, adapt=Adapt(method="lora", rank=2))
    plain = tiny.tiny_network()
    assert sorted(network.state_dict()) == sorted(plain.state_dict())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert result.parameters == sum(value.numel() for value in plain.parameters())
    assert result.trainable_parameters < result.parameters + 300
    changed = moved(plain.state_dict(), network.state_dict())
    assert {name for name in changed if name.endswith("0.weight")}


def test_an_encoder_without_layers_to_adapt_is_refused():
    with pytest.raises(TrainingError, match="no convolution or linear layer"):
        add_adapters(nn.Sequential(nn.BatchNorm3d(2)), 2, 4.0, 0)


def test_settings_of_another_method_and_impossible_values_are_named_at_once():
    with pytest.raises(RecipeError) as caught:
        Adapt(method="frozen", rank=0, decay=1.5, strengths=())
    text = str(caught.value)
    assert "rank belongs to method 'lora', found 'frozen'" in text
    assert "rank is 0, expected a whole number of at least 1" in text
    assert "decay is 1.5, expected a number above 0, at most 1" in text
    assert "strengths is (), expected one or more numbers above 0" in text
    with pytest.raises(RecipeError, match=r"method is 'half', expected one of \['full', 'frozen'"):
        Adapt(method="half")  # type: ignore[arg-type]
