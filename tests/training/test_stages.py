"""Every network of the registry falls into stages, from its stem to its head."""

import pytest
import torch
from torch import nn

from voxgraft.models import MODELS, build_encoder
from voxgraft.training.adapt import Adapt, Adaptation
from voxgraft.training.optimization import Optimization
from voxgraft.training.stages import network_stages

KINDS = {(entry.family, entry.native): entry.name for entry in MODELS}
"""One network of each family: the last that is registered."""


class Whole(nn.Module):
    def __init__(self, name: str, **options: object) -> None:
        super().__init__()
        with torch.device("meta"):
            self.encoder = build_encoder(name, **options)
            self.head = nn.Linear(self.encoder.declaration.num_features, 1)


@pytest.mark.parametrize("name", KINDS.values())
def test_stages_are_a_partition_that_begins_with_the_stem(name: str) -> None:
    network = Whole(name)
    stages = network_stages(network)
    names = [parameter for stage in stages for parameter in stage.parameters]
    assert sorted(names) == sorted(key for key, _ in network.named_parameters())
    assert len(set(names)) == len(names)
    assert len(stages) >= 4, [stage.name for stage in stages]
    declared = network.encoder.declaration
    assert f"encoder.{declared.stem}" in stages[0].parameters
    assert stages[-1].parameters[-2:] == ("head.weight", "head.bias")
    largest = max(len(stage.parameters) for stage in stages)
    assert largest < 0.85 * len(names)


@pytest.mark.parametrize("method", ["frozen", "lora", "layerwise"])
def test_what_no_source_has_trains_with_the_head(method: str) -> None:
    network = Whole("slicewise_resnet18", join="attention")
    joining = {n for n, _ in network.named_parameters() if n.startswith("encoder.join.")}
    assert joining
    if method == "lora":
        network = network.to_empty(device="cpu")
    adaptation = Adaptation(Adapt(method=method), network, steps=10, seed=0)
    assert joining <= adaptation.trainable(0)
    if method == "frozen":
        assert adaptation.trainable(10) == joining | {"head.weight", "head.bias"}
    groups = adaptation.parameter_groups(network, Optimization())
    scales = {name: group["lr_scale"] for group in groups for name in group["names"]}
    assert {scales[name] for name in joining} == {1.0}
