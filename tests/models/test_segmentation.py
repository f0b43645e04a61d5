"""Segmentation networks around encoders of every family."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from voxgraft.errors import ModelError, RegistryError
from voxgraft.models import (
    MODELS,
    Declaration,
    Encoder,
    Network,
    SegmentationNetwork,
    UNetDecoder,
    build_encoder,
    build_segmentation,
)
from voxgraft.models.decoders import NATIVE_DECODERS, native_decoder
from voxgraft.models.decoders.unet import _next_finer


def _one_of_each_family() -> list[str]:
    first: dict[tuple[str, str], str] = {}
    for entry in MODELS:
        first.setdefault((entry.family, entry.native), entry.name)
    return list(first.values())


@pytest.mark.parametrize("name", _one_of_each_family())
def test_every_family_becomes_a_segmentation_network(name: str) -> None:
    with torch.device("meta"):
        network = build_segmentation(name, 3, in_channels=2, decoder_width=4, deep_supervision=True)
        facts = network.encoder.declaration
        volume = torch.empty(1, 2, *(edge + 1 for edge in facts.min_size))
        assert network(volume).shape == (1, 3, *volume.shape[2:])
        levels = network.forward_levels(volume)
    size = network.padded_size(volume.shape[2:])
    for axis in range(3):
        assert all(size[axis] % stride[axis] == 0 for stride in facts.strides)
        assert size[axis] >= max(volume.shape[axis + 2], facts.min_size[axis])
    assert network.decoder.strides[0] == (1, 1, 1)
    for level, stride in zip(levels, network.level_strides, strict=True):
        expected = [-(-volume.shape[axis + 2] // stride[axis]) for axis in range(3)]
        assert list(level.shape) == [1, 3, *expected]


# After the last stage: there for a classification, with no part in a segmentation.
AFTER = {
    "mobilenetv2_3d": ("conv_head.", "bn2."),
    "convnext_atto_3d": ("head.norm.",),
    "x3d_xs": ("blocks.5.pool.",),
    "vit_tiny_patch16_224_3d": ("norm.",),
    "mvit_v1_b": ("norm.",),
}
LEARNERS = [
    "plain_resnet10_3d",
    "medicalnet_resnet10_3d",
    "stunet_s_3d",
    "segresnet_8",
    "swin_unetr_12",
    "genesis_unet",
    "residual_unet_256",
    "slicewise_resnet18",
    *AFTER,
]


@pytest.mark.parametrize("name", LEARNERS)
def test_one_step_changes_all_that_takes_part(name: str) -> None:
    torch.manual_seed(0)
    network = build_segmentation(name, 2, decoder_width=4, decoder_norm="group", seed=1)
    with torch.no_grad():  # some blocks begin as the identity
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01, eps=1e-12)
    size = [max(edge, 17) for edge in network.encoder.declaration.min_size]
    volume = torch.randn(2, 1, *size)
    logits = network(volume)
    assert logits.isfinite().all()
    labels = torch.randint(0, 2, (2, *size))
    nn.functional.cross_entropy(logits, labels).backward()
    optimizer.step()
    same = [key for key, p in network.named_parameters() if torch.equal(p, before[key])]
    outside = tuple(f"encoder.{part}" for part in AFTER.get(name, ()))
    assert [key for key in same if not key.startswith(outside)] == [] if outside else same == []


def test_the_encoder_is_an_encoder_again() -> None:
    network = build_segmentation("plain_resnet10_3d", 2, decoder_width=4, seed=1)
    volume = torch.randn(1, 1, 17, 20, 24)
    classifier = Network(network.encoder, 3, input_mean=0.5, input_sd=0.25).eval()
    alone = build_encoder("plain_resnet10_3d", seed=1)
    alone.load_state_dict(
        {
            name.removeprefix("encoder."): tensor
            for name, tensor in network.state_dict().items()
            if name.startswith("encoder.")
        },
        strict=True,
    )
    with torch.no_grad():
        expected = alone.eval()((volume - 0.5) / 0.25)
        torch.testing.assert_close(classifier.forward_pooled(volume), expected)
    again = build_segmentation(network.encoder, 4, decoder_width=4)
    assert again.encoder is network.encoder
    assert again.training


def test_names_of_the_state_dict() -> None:
    network = build_segmentation("segresnet_8", 2, deep_supervision=True)
    rooms = {name.partition(".")[0] for name in network.state_dict()}
    assert rooms == {"encoder", "decoder", "head", "deep_heads", "input_mean", "input_sd"}
    assert network.head.weight.shape[:2] == (2, network.decoder.channels[0])
    assert len(network.deep_heads) == len(network.decoder.channels) - 2
    plain = build_segmentation("segresnet_8", 2)
    assert not any(name.startswith("deep_heads") for name in plain.state_dict())
    with pytest.raises(ModelError, match="built without deep supervision"):
        plain.forward_levels(torch.zeros(1, 1, 8, 8, 8))


def test_the_seed_makes_all_weights() -> None:
    first, again, other = (
        build_segmentation("segresnet_8", 2, seed=seed).state_dict() for seed in (3, 3, 4)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    for part in ("encoder.convInit.conv", "decoder.levels.0.up", "head"):
        assert not torch.equal(first[f"{part}.weight"], other[f"{part}.weight"])


def test_borders_are_extended_and_cut() -> None:
    """A volume in whole strides gives the same inside, with its borders repeated by hand."""
    network = build_segmentation("segresnet_8", 2, decoder_width=4, seed=2).eval()
    volume = torch.randn(1, 1, 9, 16, 13)
    index = [torch.arange(16).clamp_max(size - 1) for size in (9, 16, 13)]
    whole = volume[:, :, index[0]][:, :, :, index[1]][:, :, :, :, index[2]]
    with torch.no_grad():
        expected = network(whole)[:, :, :9, :16, :13]
        torch.testing.assert_close(network(volume), expected)


def test_standardization_is_the_input_contract() -> None:
    network = build_segmentation(
        "segresnet_8", 1, in_channels=2, input_mean=(1.0, 2.0), input_sd=(2.0, 4.0), seed=2
    ).eval()
    plain = build_segmentation(
        "segresnet_8", 1, in_channels=2, input_mean=0.0, input_sd=1.0, seed=2
    ).eval()
    volume = torch.randn(1, 2, 8, 8, 16)
    shape = (1, 2, 1, 1, 1)
    ready = (volume - torch.tensor([1.0, 2.0]).view(shape)) / torch.tensor([2.0, 4.0]).view(shape)
    with torch.no_grad():
        torch.testing.assert_close(network(volume), plain(ready))


class _Maps(Encoder):
    """An encoder that makes maps of any channels and strides by averaging."""

    def __init__(self, channels: list[int], strides: list[tuple[int, int, int]]) -> None:
        declaration = Declaration(
            family="maps",
            stem="stem",
            head="head",
            feature_channels=tuple(channels),
            strides=tuple(strides),
            num_features=channels[-1],
            min_size=(1, 1, 1),
            preferred_size=(1, 1, 1),
            twin_of=None,
        )
        super().__init__(declaration, in_channels=1)
        self.scale = nn.Parameter(torch.ones(()))

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        facts = self.declaration
        return [
            nn.functional.avg_pool3d(self.scale * x, stride, stride).expand(-1, width, -1, -1, -1)
            for width, stride in zip(facts.feature_channels, facts.strides, strict=True)
        ]


_FACTORS = st.sampled_from([1, 1, 2, 2, 3])


@given(
    steps=st.lists(st.tuples(_FACTORS, _FACTORS, _FACTORS), min_size=1, max_size=3),
    channels=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    norm=st.sampled_from(["instance", "group", "batch"]),
)
@settings(max_examples=40, deadline=None)
def test_any_maps_are_decoded(steps, channels, size, norm) -> None:
    strides, stride = [], (1, 1, 1)
    for step in steps:
        stride = tuple(a * b for a, b in zip(stride, step, strict=True))
        strides.append(stride)
    if strides == [(1, 1, 1)]:
        return
    encoder = _Maps(channels[: len(strides)], strides)
    network = build_segmentation(encoder, 2, decoder_width=2, decoder_norm=norm)
    volume = torch.randn(1, 1, *size)
    logits = network(volume)
    assert logits.shape == (1, 2, *size)
    logits.square().mean().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert network.decoder.strides[0] == (1, 1, 1)


@given(st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40)))
def test_steps_lead_to_the_volumes_grid(stride) -> None:
    steps = 0
    while stride != (1, 1, 1):
        finer = _next_finer(stride)
        assert all(a % b == 0 for a, b in zip(stride, finer, strict=True))
        assert math.prod(finer) < math.prod(stride)
        stride = finer
        steps += 1
    assert steps <= 16


def test_what_cannot_be_built_is_said() -> None:
    with pytest.raises(ModelError, match="'plain_resnet' have no decoder of their own"):
        build_segmentation("plain_resnet10_3d", 2, decoder="native")
    with pytest.raises(ModelError, match="decoder is 'vnet'"):
        build_segmentation("segresnet_8", 2, decoder="vnet")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="norm is 'layer'"):
        build_segmentation("segresnet_8", 2, decoder_norm="layer")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="outputs is 0; expected a whole number"):
        build_segmentation("segresnet_8", 0)
    with pytest.raises(ModelError, match="width is 0"):
        build_segmentation("segresnet_8", 2, decoder_width=0)
    with pytest.raises(ModelError, match="'drop_path' would build an encoder by name"):
        build_segmentation(build_encoder("segresnet_8"), 2, drop_path=0.1)
    with pytest.raises(RegistryError, match="segresnet"):
        build_segmentation("segresnet_9", 2)
    with pytest.raises(ModelError, match=r"strides \(2, 2, 2\) and \(3, 4, 4\)"):
        build_segmentation(_Maps([2, 2], [(2, 2, 2), (3, 4, 4)]), 2)
    with pytest.raises(ModelError, match="nothing to decode"):
        UNetDecoder(_Maps([2], [(1, 1, 1)]).declaration, in_channels=1)


def test_wrong_volumes_are_said() -> None:
    network = build_segmentation("segresnet_8", 2, in_channels=2, decoder_width=4)
    with pytest.raises(ModelError, match=r"shape \(1, 1, 8, 8, 8\)"):
        network(torch.zeros(1, 1, 8, 8, 8))
    with pytest.raises(ModelError, match="Add the missing axes"):
        network(torch.zeros(2, 8, 8, 8))
    with pytest.raises(ModelError, match=r"volumes of \(0, 8, 8\) voxels"):
        network(torch.zeros(1, 2, 0, 8, 8))


def test_families_with_decoders_of_their_own() -> None:
    for name in ("segresnet_8", "swin_unetr_12", "genesis_unet", "monai_vit_b16"):
        with torch.device("meta"):
            encoder = build_encoder(name, in_channels=3)
            decoder = native_decoder(encoder)
            network = SegmentationNetwork(encoder, decoder, 2, deep_supervision=True)
            volume = torch.empty(1, 3, 20, 17, 33)
            assert network(volume).shape == (1, 2, 20, 17, 33)
            assert len(network.forward_levels(volume)) == len(decoder.channels) - 1
        assert encoder.declaration.family in NATIVE_DECODERS
        for stem in network.stems:
            assert network.get_parameter(stem).shape[1] == 3
