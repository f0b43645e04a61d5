"""The network around an encoder: input contract, head, memory layout."""

import copy

import pytest
import torch

from voxgraft.errors import ModelError
from voxgraft.models import Network, build_encoder, choose_memory_format


@pytest.fixture(scope="module")
def encoder():
    return build_encoder("mobilenetv3_small_3d", in_channels=2, seed=0).eval()


def test_state_dict_has_the_encoder_the_head_and_the_input_contract(encoder) -> None:
    network = Network(encoder, 3, input_mean=(0.1, 0.2), input_sd=0.5)
    names = set(network.state_dict())
    assert names == {f"encoder.{name}" for name in encoder.state_dict()} | {
        "head.weight",
        "head.bias",
        "input_mean",
        "input_sd",
    }
    assert network.input_mean.tolist() == pytest.approx([0.1, 0.2])
    assert network.input_sd.tolist() == [0.5, 0.5]
    assert network.head.bias.abs().max() == 0
    assert network.head.weight.std().item() == pytest.approx(0.01, rel=0.05)


def test_forward_is_standardize_encode_head(encoder) -> None:
    network = Network(encoder, 3, input_mean=(0.1, 0.2), input_sd=(0.5, 2.0), seed=1).eval()
    volume = torch.rand(2, 2, 16, 32, 32)
    by_hand = torch.stack([(volume[:, 0] - 0.1) / 0.5, (volume[:, 1] - 0.2) / 2.0], dim=1)
    with torch.no_grad():
        expected = network.head(encoder(by_hand))
        assert torch.allclose(network(volume), expected, atol=1e-6)
        assert torch.allclose(network.forward_pooled(volume), encoder(by_hand), atol=1e-6)


def test_dropout_acts_in_training_only(encoder) -> None:
    network = Network(encoder, 4, dropout=0.9, seed=1).eval()
    volume = torch.rand(1, 2, 16, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(volume), network(volume))
        network.dropout.train()
        torch.manual_seed(0)
        assert not torch.equal(network(volume), network(volume))


def test_a_seed_decides_the_head(encoder) -> None:
    heads = [Network(encoder, 2, seed=seed).head.weight for seed in (1, 1, 2)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": 0}, "outputs is 0; expected a whole number of at least 1"),
        ({"outputs": 2.0}, "outputs is 2.0; expected a whole number"),
        ({"dropout": 1.0}, "dropout is 1.0; expected a probability"),
        ({"input_mean": (1, 2, 3)}, r"input_mean is \(1, 2, 3\); .* or 2 of them"),
        ({"input_mean": float("nan")}, "input_mean is nan; expected one finite number"),
        ({"input_sd": 0.0}, "input_sd is 0.0; expected positive values"),
        ({"input_sd": (1.0, -1.0)}, r"input_sd is \(1.0, -1.0\); expected positive values"),
    ],
)
def test_impossible_options_are_refused(encoder, options, message) -> None:
    with pytest.raises(ModelError, match=message):
        Network(encoder, **{"outputs": 1, **options})


@pytest.mark.parametrize("shape", [(1, 1, 16, 32, 32), (2, 16, 32, 32), (1, 3, 16, 32, 32)])
def test_a_volume_of_other_channels_is_refused_not_broadcast(encoder, shape) -> None:
    with pytest.raises(ModelError, match=r"expected \(batch, 2, depth, height, width\)"):
        Network(encoder, 1)(torch.zeros(shape))


def test_memory_layout_changes_nothing_but_the_layout(encoder) -> None:
    network = Network(copy.deepcopy(encoder), 2, seed=0)
    volume = torch.rand(2, 2, 16, 32, 32)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        expected = network(volume)
        network.set_memory_format(torch.channels_last_3d)
        found = network(volume)
    assert network.encoder.conv_stem.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.allclose(found, expected, atol=1e-6)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    with pytest.raises(ModelError, match=r"memory_format is torch\.channels_last; expected"):
        network.set_memory_format(torch.channels_last)


def test_choosing_a_layout_leaves_everything_as_it_is() -> None:
    network = Network(build_encoder("mobilenetv3_small_3d", seed=0), 1, dropout=0.5).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    example = torch.rand(2, 1, 8, 32, 32)
    random_state = torch.random.get_rng_state()
    chosen = choose_memory_format(network, example, repeats=1)
    assert chosen in (torch.contiguous_format, torch.channels_last_3d)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert network.memory_format is torch.contiguous_format
