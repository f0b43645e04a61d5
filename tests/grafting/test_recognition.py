"""Unknown files compared with networks for video and volumes too."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from voxgraft.grafting import find_source, graft, inspect_file
from voxgraft.grafting.recognition import NETWORKS
from voxgraft.models import MODELS, build_encoder
from voxgraft.weights.anatomies import kept_anatomy
from voxgraft.weights.likeness import Anatomy


def test_sizes_that_came_with_the_package_are_true() -> None:
    path = Path(__file__).parents[2] / "src/voxgraft/grafting/data/network_sizes.json"
    sizes = json.loads(path.read_text())
    assert not [name for name in sizes if name not in MODELS]
    for name in ("plain_resnet10_3d", "r3d_18", "segresnet_16"):
        with torch.device("meta"):
            state = build_encoder(name).state_dict()
        assert sizes[name] == sum(math.prod(tensor.shape) for tensor in state.values())
        assert NETWORKS.size(name) == sizes[name]


@pytest.mark.parametrize("name", ["r3d_18", "plain_resnet10_3d"])
def test_networks_for_video_and_volumes_are_recognised(tmp_path: Path, name: str) -> None:
    state = build_encoder(name, seed=1).state_dict()
    stem = MODELS.get(name).build().declaration.stem
    state[stem] = state[stem].repeat(1, 3, 1, 1, 1)
    theirs = {f"backbone.{key}": tensor for key, tensor in state.items()}
    theirs["cls_head.fc.weight"] = torch.ones(2, 512)
    torch.save({"state_dict": theirs}, tmp_path / "theirs.pth")
    likely = inspect_file(tmp_path / "theirs.pth")["likely"][0]
    assert (likely["architecture"], likely["prefix"]) == (name, "backbone.")
    assert likely["coverage"] == 1.0
    assert likely["models"] == [name]
    source = find_source(tmp_path / "theirs.pth")
    assert source.architecture == name
    assert source.input.channels == 3
    report = graft(source, name, in_channels=3).report
    assert report.coverage == 1.0
    assert find_source(f"{name}@{tmp_path / 'theirs.pth'}").prefix == "backbone."


def test_a_cache_that_is_broken_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXGRAFT_CACHE", str(tmp_path))
    made: list[int] = []

    def make() -> Anatomy:
        made.append(1)
        return Anatomy(name="n", shapes={"a": (2, 3)}, stems=frozenset({"a"}))

    first = kept_anatomy("n", "key", make)
    assert kept_anatomy("n", "key", make) == first
    assert len(made) == 1
    path = tmp_path / "anatomies" / "key" / "n.json"
    for broken in ("", "[]", "{}", '{"shapes": 3}', '{"shapes": {"a": ["x"]}}', "\0"):
        path.write_text(broken)
        assert kept_anatomy("n", "key", make) == first
    assert len(made) == 7
    monkeypatch.setenv("VOXGRAFT_CACHE", str(path))  # a file: nothing can be kept there
    assert kept_anatomy("n", "key", make) == first
