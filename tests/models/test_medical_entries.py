"""What the registry says of the convolutional networks of the medical field is true of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import pytest
import torch
from torch import Tensor

from voxgraft.errors import ModelError
from voxgraft.models import Encoder, build_encoder
from voxgraft.models.entry import ModelEntry
from voxgraft.models.volumetric.entries_convolutional import ENTRIES
from voxgraft.models.volumetric.medical_resnet import build_medicalnet, build_merlin
from voxgraft.models.volumetric.penet import build_penet

NAMES = [entry.name for entry in ENTRIES]
ENTRY = {entry.name: entry for entry in ENTRIES}
every = pytest.mark.parametrize("name", NAMES)


KINDS = [
    "medicalnet_resnet10_3d",
    "medicalnet_resnet18_3d",
    "medicalnet_resnet50_3d",
    "penet_3d",
    "nnunet_3d",
    "nnunet_5_stages_3d",
    "nnunet_resenc_3d",
    "stunet_s_3d",
]
"""One of each kind: the smallest input follows from strides and normalization."""


@cache
def without_memory(name: str, channels: int = 1) -> tuple[Encoder, ModelEntry]:
    with torch.device("meta"):
        return build_encoder(name, in_channels=channels).eval(), ENTRY[name]


@every
def test_the_declaration_is_true(name: str) -> None:
    encoder, entry = without_memory(name)
    facts = encoder.declaration
    assert (facts.family, facts.native, facts.reference) == (
        entry.family, entry.native, entry.reference,
    )  # fmt: skip
    assert facts.twin_of is None
    assert not any(key.startswith(f"{facts.head}.") for key in encoder.state_dict())
    size = facts.preferred_size
    x = torch.empty(2, 1, *size, device="meta")
    with torch.no_grad():
        stages, features = encoder.forward_stages(x), encoder.forward_features(x)
    assert tuple(stage.shape[1] for stage in stages) == facts.feature_channels
    reductions = [
        tuple(whole // part for whole, part in zip(size, stage.shape[2:], strict=True))
        for stage in stages
    ]
    assert tuple(reductions) == facts.strides
    assert stages[-1].shape == features.shape == (2, facts.num_features, 3, 3, 3)
    assert encoder(x).shape == (2, facts.num_features)


@every
def test_the_declared_stems_and_no_other_tensors_depend_on_the_channels(name: str) -> None:
    one, three = without_memory(name)[0].state_dict(), without_memory(name, 3)[0].state_dict()
    assert list(one) == list(three)
    changed = {key for key in one if one[key].shape != three[key].shape}
    assert changed == without_memory(name)[0].declaration.stems
    assert all(three[key].shape[1] == 3 for key in changed)


@pytest.mark.parametrize("name", KINDS)
def test_the_smallest_input_runs_and_smaller_ones_are_refused(name: str) -> None:
    encoder, _ = without_memory(name)
    smallest = encoder.declaration.min_size
    with torch.no_grad():
        for axis in range(3):
            size = [less + 5 for less in smallest]
            size[axis] = smallest[axis]
            encoder(torch.empty(1, 1, *size, device="meta"))
    if smallest != (1, 1, 1):
        less = (1, 1, smallest[2] - 1)
        with pytest.raises(ModelError, match="this network needs at least"):
            encoder(torch.empty(1, 1, *less, device="meta"))
        with pytest.raises((RuntimeError, ValueError)):
            run_unchecked(encoder, torch.empty(1, 1, *less, device="meta"))


def run_unchecked(encoder: Encoder, x: Tensor) -> None:
    for part in encoder._trunk:
        x = encoder.get_submodule(part)(x)


SMALL: dict[str, Callable[..., Encoder]] = {
    "medicalnet": partial(build_medicalnet, "basic", (1, 1, 1, 1)),
    "merlin": partial(build_merlin, (1, 1, 1, 1)),
    "penet": partial(build_penet, (1, 1, 1, 1)),
    "nnunet": partial(build_encoder, "nnunet_5_stages_3d"),
    "stunet": partial(build_encoder, "stunet_s_3d"),
}


@pytest.mark.parametrize("kind", SMALL)
def test_a_seed_gives_the_same_weights_again(kind: str) -> None:
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    network = SMALL[kind](seed=3)
    first, second = network.state_dict(), SMALL[kind](seed=3).state_dict()
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(first[key], second[key]) for key in first)
    stem = network.declaration.stem
    assert not torch.equal(first[stem], SMALL[kind](seed=4).state_dict()[stem])
    assert all(bool(torch.isfinite(tensor).all()) for tensor in first.values())
