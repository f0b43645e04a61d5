"""The first I3D against the original's operations, written again from its published code.

The original (piergiaj/pytorch-i3d, pytorch_i3d.py) is no package. Its forward pass is written here
as functions of a state dict with its names, padding included.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from voxgraft.grafting import graft
from voxgraft.models import build_encoder
from voxgraft.weights import SOURCES
from voxgraft.weights.layouts import key_layout

IDS = ("inception_i3d.in1k_k400", "inception_i3d.charades")
ORDER = "1a 2b 2c 3b 3c 4b 4c 4d 4e 4f 5b 5c"
POOLS = {
    "2b": ((1, 3, 3), (1, 2, 2)),
    "3b": ((1, 3, 3), (1, 2, 2)),
    "4b": ((3, 3, 3), (2, 2, 2)),
    "5b": ((2, 2, 2), (2, 2, 2)),
}
"""Pooling before a layer: kernel, stride."""

State = dict[str, Tensor]


def _pad(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """Pad with zeros by compute_pad of the original."""
    pads: list[int] = []
    for axis in (2, 1, 0):
        rest = x.shape[axis + 2] % stride[axis]
        missing = max(kernel[axis] - (stride[axis] if rest == 0 else rest), 0)
        pads += [missing // 2, missing - missing // 2]
    return F.pad(x, pads)


def _unit(x: Tensor, state: State, name: str, step: int = 1) -> Tensor:
    kernel, stride = state[f"{name}.conv3d.weight"], (step,) * 3
    x = F.conv3d(_pad(x, tuple(kernel.shape[2:]), stride), kernel, None, stride)
    mean, variance, scale, shift = (
        state[f"{name}.bn.{part}"].view(1, -1, 1, 1, 1)
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return F.relu((x - mean) / (variance + 1e-3).sqrt() * scale + shift)


def _pool(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    return F.max_pool3d(_pad(x, kernel, stride), kernel, stride)


def _features(x: Tensor, state: State) -> dict[str, Tensor]:
    kept = {}
    for layer in ORDER.split():
        if layer in POOLS:
            x = _pool(x, *POOLS[layer])
        name = f"Mixed_{layer}"
        if layer in ("1a", "2b", "2c"):
            size = {"1a": 7, "2b": 1, "2c": 3}[layer]
            x = _unit(x, state, f"Conv3d_{layer}_{size}x{size}", 2 if layer == "1a" else 1)
        else:
            second = _unit(_unit(x, state, f"{name}.b1a"), state, f"{name}.b1b")
            third = _unit(_unit(x, state, f"{name}.b2a"), state, f"{name}.b2b")
            fourth = _unit(_pool(x, (3, 3, 3), (1, 1, 1)), state, f"{name}.b3b")
            x = torch.cat([_unit(x, state, f"{name}.b0"), second, third, fourth], 1)
        kept[layer] = x
    return kept


@pytest.fixture(scope="module")
def state(filled) -> State:
    with torch.device("meta"):
        network = build_encoder("inception_i3d", in_channels=3)
    return filled(network).state_dict()


@pytest.mark.parametrize("size", [(9, 36, 45), (4, 33, 32), (1, 1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_file_gives_the_originals_features(
    state: State, size: tuple[int, int, int], channels: int, tmp_path: Path
) -> None:
    # The published files are of a PyTorch that did not count batches yet.
    file = {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    file["logits.conv3d.weight"] = torch.zeros(400, 1024, 1, 1, 1)
    file["logits.conv3d.bias"] = torch.zeros(400)
    path = tmp_path / "rgb_imagenet.pt"
    torch.save(file, path, _use_new_zipfile_serialization=False)
    result = graft(f"{IDS[0]}@{path}", "inception_i3d", in_channels=channels)
    assert result.report.coverage == 1.0
    assert {v["name"] for v in result.report.dropped} == {
        "logits.conv3d.weight",
        "logits.conv3d.bias",
    }
    assert result.input_mean == (0.5,) * channels
    encoder = result.encoder.eval()
    volume = torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = _features(volume.expand(-1, 3, -1, -1, -1), state)
        found, vector = encoder.forward_stages(volume), encoder(volume)
    for layer, ours in zip(("1a", "2c", "3c", "4f", "5c"), found, strict=True):
        theirs = expected[layer]
        assert ours.shape == theirs.shape
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4
    torch.testing.assert_close(vector, expected["5c"].mean((2, 3, 4)), rtol=1e-4, atol=1e-4)


def test_the_entries_count_the_originals_values(state: State) -> None:
    backbone = sum(t.numel() for n, t in state.items() if n.endswith(("weight", "bias")))
    for name, classes in zip(IDS, (400, 157), strict=True):
        source = SOURCES.get(name)
        assert source.head_parameters == 1025 * classes
        assert source.parameters == backbone + source.head_parameters
        assert key_layout(state.keys()) == source.key_layout
    assert SOURCES.get(IDS[0]).parameters == 12_697_264
