"""Published files given by a stranger as files alone: recognised, with their own head, no names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from monai.networks.nets.segresnet import SegResNet
from torch import Tensor

from voxgraft.errors import GraftError
from voxgraft.grafting import find_source, graft, graft_segmentation
from voxgraft.models import build_segmentation
from voxgraft.weights import SOURCES


def _saved(path: Path, source_id: str, outputs: int, head: str, in_channels: int = 1) -> Path:
    """Save a whole segmentation network with a source's names and random weights."""
    network = build_segmentation(
        SOURCES.get(source_id).architecture, outputs, decoder="native", seed=2,
        in_channels=in_channels,
    )  # fmt: skip
    state: dict[str, Tensor] = {}
    for name, tensor in network.state_dict().items():
        room, _, rest = name.partition(".")
        if room in ("encoder", "decoder"):
            state[f"module.{rest}"] = tensor
        elif room == "head":
            state[f"module.{head}.{rest}"] = tensor
    torch.save({"state_dict": state, "epoch": 1}, path)
    return path


CASES = {
    "genesis_unet.chest_ct": (1, "out_tr.final_conv", 1),
    "segresnet_16.suprem": (32, "conv_final.2.conv", 1),
    "segresnet_16.brats18": (3, "conv_final.2.conv", 4),
}


@pytest.mark.parametrize("source_id", CASES)
def test_the_source_that_explains_most_is_taken(tmp_path: Path, source_id: str) -> None:
    outputs, head, channels = CASES[source_id]
    path = _saved(tmp_path / "theirs.pt", source_id, outputs, head, channels)
    result = graft(str(path), SOURCES.get(source_id).architecture, check_parity=False)
    assert result.report.coverage == 1.0
    assert not result.report.fresh
    assert any(f"is that of {source_id!r}" in note for note in result.report.notes)
    whole = graft_segmentation(str(path), result.report.model, 3, check_parity=False)
    assert {verdict["name"] for verdict in whole.report.fresh} == {"head.weight", "head.bias"}


def test_an_unknown_files_head_has_no_names(tmp_path: Path) -> None:
    """A file of the shape of SuPreM's may be anyone's: its channels are not called as SuPreM's."""
    path = _saved(tmp_path / "theirs.pt", "segresnet_16.suprem", 32, "conv_final.2.conv")
    names = ("liver", "spleen")
    with pytest.raises(GraftError, match="nobody says what the channels"):
        graft_segmentation(str(path), "segresnet_16", parts="all", classes=names)
    stated = graft_segmentation(
        f"segresnet_16.suprem@{path}", "segresnet_16", parts="all", classes=names
    )
    assert stated.report.coverage == 1.0


@pytest.mark.parametrize("named", [False, True])
def test_a_network_that_nobody_published_has_its_own_decoder(tmp_path: Path, named: bool) -> None:
    torch.manual_seed(4)
    original = SegResNet(
        init_filters=8, in_channels=2, out_channels=3, blocks_down=(1, 2, 2, 4), blocks_up=(1, 1, 1)
    ).eval()
    path = tmp_path / "own.pt"
    torch.save({f"module.{name}": t for name, t in original.state_dict().items()}, path)
    source = find_source(f"segresnet_8@{path}" if named else path)
    named_source = replace(source, classes=("background", "liver", "spleen"))
    result = graft_segmentation(
        named_source, "segresnet_8", parts="all", in_channels=2,
        classes=("background", "spleen", "liver"),
    )  # fmt: skip
    assert result.report.coverage == 1.0
    assert not result.report.dropped
    result.network.input_mean.zero_()
    result.network.input_sd.fill_(1.0)
    volume = torch.randn(1, 2, 8, 16, 24)
    with torch.no_grad():
        found = result.network.eval()(volume)
        torch.testing.assert_close(found, original(volume)[:, [0, 2, 1]], rtol=1e-4, atol=1e-5)
