"""Whole segmentation networks of nnU-Net and STU-Net, decoder and head from the file too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from voxgraft.errors import ModelError
from voxgraft.grafting.segmentation import graft_segmentation
from voxgraft.models import build_segmentation
from voxgraft.weights import SOURCES
from voxgraft.weights.source import LocalFile


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_a_whole_nnunet_gives_what_the_original_gives(
    tmp_path: Path, kind: str, files: ModuleType
) -> None:
    blocks = (2, 2, 2, 2) if kind == "plain" else (1, 2, 2, 1)
    original = files.nnunet(kind, 3, (8, 12, 16, 16), blocks)
    state = files.randomized(original.state_dict(keep_vars=True))
    original.load_state_dict(state)
    path = tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": state}, path)
    name = "nnunet.totalsegmentator_291" if kind == "plain" else "nnunet_resenc.openmind_mae"
    # The heads of a network with fewer levels.
    heads = tuple(f"decoder.seg_layers.{level}" for level in range(3))
    classes = ("background", "liver", "spleen")
    file = LocalFile(path=str(path))
    source = replace(SOURCES.get(name), file=file, head=heads, classes=classes)
    result = graft_segmentation(source, source.architecture, parts="all", classes=classes)
    assert result.decoder == "native"
    assert result.report.coverage == 1.0
    assert not [verdict for verdict in result.report.fresh if "input_" not in verdict["name"]]
    kept = {verdict["name"] for verdict in result.report.dropped}
    assert {name for name in kept if "seg_layers" in name} == {
        f"decoder.seg_layers.{level}.{part}" for level in (0, 1) for part in ("weight", "bias")
    }
    x = torch.randn(1, 1, 16, 24, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = original(x)
        found = result.network.eval()(x)
        odd = result.network(x[..., :13, :9])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert odd.shape == (1, 3, 16, 13, 9)


def stunet_reference(state: dict[str, Tensor], stages: list[Tensor]) -> Tensor:
    """STU-Net's decoder of its tensors alone, in the original's order of operations."""

    def layer(x: Tensor, name: str) -> Tensor:
        weight = state[f"{name}.weight"]
        return functional.conv3d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def norm(x: Tensor, name: str) -> Tensor:
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        return functional.instance_norm(x, weight=weight, bias=bias)

    x = stages[-1]
    for level in range(5):
        x = functional.interpolate(x, scale_factor=2, mode="nearest")
        x = torch.cat([layer(x, f"upsample_layers.{level}.conv"), stages[-2 - level]], dim=1)
        name = f"conv_blocks_localization.{level}.0."
        residual = functional.leaky_relu(norm(layer(x, f"{name}conv1"), f"{name}norm1"))
        residual = norm(layer(residual, f"{name}conv2"), f"{name}norm2")
        x = functional.leaky_relu(residual + layer(x, f"{name}conv3"))
    return layer(x, "seg_outputs.4")


def test_a_whole_stunet_gives_what_is_described(tmp_path: Path, files: ModuleType) -> None:
    state = files.randomized(files.stunet("s"))
    path = tmp_path / "small_ep4k.model"
    torch.save({"state_dict": state}, path)
    classes = tuple(f"structure {place}" for place in range(105))
    file = LocalFile(path=str(path))
    source = replace(SOURCES.get("stunet_s.totalsegmentator"), file=file, classes=classes)
    result = graft_segmentation(source, "stunet_s_3d", parts="all", classes=classes)
    assert (result.decoder, result.report.coverage) == ("native", 1.0)
    x = torch.randn(1, 1, 32, 32, 64, generator=torch.Generator().manual_seed(2))
    network = result.network.eval()
    with torch.no_grad():
        expected = stunet_reference(state, network.encoder.forward_stages(x))
        found = network(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_an_encoder_without_its_decoder_gets_a_new_one(tmp_path: Path, files: ModuleType) -> None:
    around = files.nnunet("residual", 1, (8, 12, 16, 16), (1, 2, 2, 1))
    encoder = {f"encoder.{n}": t for n, t in files.randomized(around.encoder.state_dict()).items()}
    encoder["projector.layer1.0.weight"] = torch.ones(4, 4)
    path = tmp_path / "checkpoint_final.pth"
    torch.save({"network_weights": encoder}, path)
    source = replace(SOURCES.get("nnunet_resenc.openmind_voco"), file=LocalFile(path=str(path)))
    lists = {
        "features": [8, 12, 16, 16],
        "blocks": [1, 2, 2, 1],
        "kernels": [[3, 3, 3]] * 4,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * 3],
    }
    result = graft_segmentation(source, "nnunet_resenc_3d", 2, model_options=lists, seed=1)
    assert "strides of this nnU-Net cannot be seen" in str(result.report.notes)
    assert {verdict["because"] for verdict in result.report.fresh} == {
        "the source has no decoder",
        "the task's own head",
    }


def test_a_decoder_must_end_on_the_volumes_grid() -> None:
    options = {"strides": [[1, 2, 2], *[[2, 2, 2]] * 5]}
    with pytest.raises(ModelError, match=r"strides\[0\] of this nnU-Net is \(1, 2, 2\)"):
        build_segmentation("nnunet_3d", 2, decoder="native", **options)
    network = build_segmentation("nnunet_3d", 2, decoder="unet", seed=1, **options)
    assert network.decoder.strides[0] == (1, 1, 1)
