"""LRCN: slices and their differences, read by a recurrent network within each study."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from voxgraft.errors import ModelError
from voxgraft.grafting import graft, save_graft
from voxgraft.models import build_encoder, exchange_norm
from voxgraft.models.slicewise.join import LrcnJoin, with_differences

CNN = "slicewise:mobilenetv3_small_050"


class PlainLrcn(nn.Module):
    """LRCN written for this test alone: one study, one slice and one direction at a time."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__()
        self.up, self.down = (nn.GRUCell(3 * features, channels) for _ in range(2))
        self.scale, self.shift = (nn.Parameter(torch.zeros(2 * channels)) for _ in range(2))
        self.mean, self.variance = torch.zeros(2 * channels), torch.ones(2 * channels)

    def take(self, join: LrcnJoin) -> None:
        state = join.state_dict()
        for cell, suffix in ((self.up, "_l0"), (self.down, "_l0_reverse")):
            cell.load_state_dict({n: state[f"gru.{n}{suffix}"] for n in cell.state_dict()})
        with torch.no_grad():
            self.scale.copy_(state["norm.weight"])
            self.shift.copy_(state["norm.bias"])
        self.mean, self.variance = state["norm.running_mean"], state["norm.running_var"]

    def read(self, study: list[Tensor], cell: nn.GRUCell, order: range) -> Tensor:
        hidden = torch.zeros(1, cell.hidden_size)
        total = torch.zeros(cell.hidden_size)
        for i in order:
            v = study[i]
            before = v - study[i - 1] if i > 0 else 0 * v
            after = v - study[i + 1] if i < len(study) - 1 else 0 * v
            hidden = cell(torch.cat([v, before, after])[None], hidden)
            total = total + hidden[0]
        return total / len(study)

    def forward(self, studies: list[list[Tensor]]) -> Tensor:
        means = []
        for study in studies:
            up = self.read(study, self.up, range(len(study)))
            down = self.read(study, self.down, range(len(study) - 1, -1, -1))
            means.append(torch.cat([up, down]))
        found = torch.stack(means)
        mean, variance = self.mean, self.variance
        if self.training:
            mean = found.mean(0)
            variance = (found - mean).square().mean(0)
        return (found - mean) / (variance + 1e-5).sqrt() * self.scale + self.shift


def _uneven(features: int, channels: int) -> tuple[LrcnJoin, PlainLrcn]:
    torch.manual_seed(features)
    join, plain = LrcnJoin(features, channels), PlainLrcn(features, channels)
    for tensor in (join.norm.weight, join.norm.bias, join.norm.running_mean):
        nn.init.normal_(tensor)
    nn.init.uniform_(join.norm.running_var, 0.01, 0.2)
    plain.take(join)
    return join, plain


@pytest.mark.parametrize("slices", [1, 2, 9])
@pytest.mark.parametrize("training", [False, True])
def test_it_equals_an_implementation_slice_by_slice(slices: int, training: bool) -> None:
    join, plain = _uneven(5, 4)
    vectors = 3 * torch.randn(3, slices, 5)
    found = join.train(training)(vectors)
    expected = plain.train(training)([list(study) for study in vectors])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.square().sum().backward()
    expected.square().sum().backward()
    for cell, suffix in ((plain.up, "_l0"), (plain.down, "_l0_reverse")):
        for name, parameter in cell.named_parameters():
            own = join.gru.get_parameter(f"{name}{suffix}").grad
            torch.testing.assert_close(own, parameter.grad, rtol=1e-3, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(studies=st.integers(1, 3), slices=st.integers(1, 6), features=st.integers(1, 4))
def test_differences_to_both_neighbors(studies: int, slices: int, features: int) -> None:
    vectors = torch.randn(studies, slices, features)
    found = with_differences(vectors)
    assert found.shape == (studies, slices, 3 * features)
    for i in range(slices):
        own, before, after = found[:, i].split(features, dim=1)
        assert torch.equal(own, vectors[:, i])
        assert torch.equal(before, own - vectors[:, i - 1] if i else torch.zeros_like(own))
        none = i == slices - 1
        assert torch.equal(after, torch.zeros_like(own) if none else own - vectors[:, i + 1])


def test_a_network_with_it_is_the_published_one_in_size() -> None:
    with torch.device("meta"):
        encoder = build_encoder("slicewise_resnext101_32x8d", join="lrcn")
    shapes = {n: tuple(t.shape) for n, t in encoder.state_dict().items() if n.startswith("join.")}
    assert shapes["join.gru.weight_ih_l0"] == (3 * 256, 3 * 2048)
    assert shapes["join.gru.weight_hh_l0_reverse"] == (3 * 256, 256)
    assert shapes["join.norm.weight"] == (512,)
    assert encoder.declaration.num_features == 512
    with torch.no_grad():
        for slices in (1, 24, 150):
            volume = torch.empty(2, 1, slices, 224, 224, device="meta")
            assert encoder.eval()(volume).shape == (2, 512)


def test_the_whole_network_is_its_slices_joined() -> None:
    encoder = build_encoder(CNN, join="lrcn", join_channels=6, planes="all", seed=0).eval()
    original = timm.create_model("mobilenetv3_small_050", in_chans=1, num_classes=0).eval()
    original.load_state_dict(encoder.network.state_dict())
    plain = PlainLrcn(original.head_hidden_size, 6).eval()
    plain.take(encoder.join)
    volume = torch.randn(2, 1, 3, 36, 33, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        planes = [
            plain([[original(image[None])[0] for image in study.movedim(axis + 1, 0)]
                   for study in volume])
            for axis in range(3)
        ]  # fmt: skip
        torch.testing.assert_close(
            encoder(volume), torch.stack(planes).mean(0), rtol=1e-4, atol=1e-5
        )


def test_a_study_alone_cannot_train_it() -> None:
    encoder = build_encoder(CNN, join="lrcn", join_channels=3, seed=0)
    alone = torch.randn(1, 1, 3, 32, 32)
    for prepare in (encoder.train, encoder.network.eval):  # frozen beside the join, too
        prepare()
        with pytest.raises(ModelError, match=r"a batch in training has one study\."):
            encoder(alone)
    assert encoder.eval()(alone).isfinite().all()


def test_a_frozen_network_runs_in_portions_while_the_join_trains() -> None:
    encoder = build_encoder(CNN, join="lrcn", join_channels=3, seed=0).train()
    encoder.pixels_at_once = 4 * 32 * 32
    seen: list[int] = []
    encoder.network.get_submodule("conv_stem").register_forward_pre_hook(
        lambda _, images: seen.append(len(images[0]))
    )
    volumes = torch.randn(2, 1, 3, 32, 32)
    encoder(volumes)
    encoder.network.eval()
    encoder(volumes)
    exchange_norm(encoder.train())
    encoder(volumes)
    assert seen == [6, 4, 2, 4, 2]
    assert isinstance(encoder.join.norm, nn.BatchNorm1d)


def test_gradient_checkpointing_counts_a_batch_once() -> None:
    encoder = build_encoder(CNN, join="lrcn", join_channels=3, seed=0).train()
    volumes = torch.randn(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = []
    for on in (False, True):
        encoder.set_gradient_checkpointing(on)
        encoder.join.norm.reset_running_stats()
        encoder.zero_grad()
        encoder(volumes).square().sum().backward()
        gradients = [p.grad.clone() for p in encoder.parameters() if p.grad is not None]
        found.append((gradients, encoder.join.norm.running_mean.clone()))
        assert int(encoder.join.norm.num_batches_tracked) == 1
    assert len(found[0][0]) == len(list(encoder.parameters()))
    torch.testing.assert_close(found[1][1], found[0][1])
    scale = max(float(g.abs().max()) for g in found[0][0])
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-3, atol=1e-5 * scale)


@pytest.mark.parametrize("adaptation", [{}, {"join_channels": 5}])
def test_a_graft_leaves_the_join_as_it_is_drawn_and_says_so(
    tmp_path: Path, adaptation: dict[str, int]
) -> None:
    state = timm.create_model("mobilenetv3_small_050", num_classes=5).state_dict()
    save_file(state, tmp_path / "weights.safetensors")
    start = f"timm:mobilenetv3_small_050@{tmp_path / 'weights.safetensors'}"
    options = {"join": "lrcn", "seed": 3, **adaptation}
    result = graft(start, CNN, model_options=options)
    joining = [name for name in result.encoder.state_dict() if name.startswith("join.")]
    assert [verdict["name"] for verdict in result.report.fresh] == joining
    assert not result.report.unexplained
    assert {v["because"] for v in result.report.fresh} == {
        "it joins slices, which an image network has not"
    }
    save_graft(result, tmp_path / "saved")
    again = graft(tmp_path / "saved", CNN)
    assert {name: again.model_options[name] for name in options} == options
    assert not again.report.fresh
    own, expected = again.encoder.state_dict(), result.encoder.state_dict()
    assert list(own) == list(expected)
    assert all(torch.equal(own[name], expected[name]) for name in own)


def test_channels_within_a_join() -> None:
    for join, name, shape in (
        ("attention", "join.gate.weight", (7, 1024)),
        ("gru", "join.gru.weight_hh_l0", (21, 7)),
        ("lrcn", "join.gru.weight_hh_l0", (21, 7)),
    ):
        with torch.device("meta"):
            encoder = build_encoder(CNN, join=join, join_channels=7)
            assert encoder.state_dict()[name].shape == shape
            vector = encoder.eval()(torch.empty(1, 1, 2, 32, 32))
        assert vector.shape == (1, encoder.declaration.num_features)
    for wrong in (0, -1, 2.0, True, "7"):
        with pytest.raises(ModelError, match="expected a whole number of at least 1, or None"):
            build_encoder(CNN, join="lrcn", join_channels=wrong)
    for join in ("mean", "max"):
        with pytest.raises(ModelError, match=f"join is '{join}', which learns nothing"):
            build_encoder(CNN, join=join, join_channels=7)
