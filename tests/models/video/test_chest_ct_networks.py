"""The networks of arXiv:2304.00546, whole, each from a file of its published layout.

Random weights made by the public implementation, saved as its file is, grafted by the catalogue's
name: nothing is left unexplained, and the features are those of the public implementation. Most are
run on small volumes here; ``benchmarks/video_parity.py`` does all at 32 x 224 x 224 voxels. PENet's
public code is no package: ``benchmarks/penet_parity.py``.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import video

from voxgraft.grafting import Graft, graft

TOLERANCE = 1e-4  # relative to the largest value

FILES = {
    "r2plus1d_r50": ("r2plus1d_r50.k400_16x4", "R2PLUS1D_16x4_R50.pyth"),
    "csn_r101": ("csn_r101.k400_32x2", "CSN_32x2_R101.pyth"),
    "slowfast_r50": ("slowfast_r50.k400_8x8", "SLOWFAST_8x8_R50.pyth"),
    "slow_r50": ("slow_r50.k400_8x8", "SLOW_8x8_R50.pyth"),
}


def grafted(
    start: str, path: Path, content: Mapping[str, Any], model: str, **options: Any
) -> Graft:
    """Write a file, graft it and take it away again; nothing may be left unexplained."""
    torch.save(content, path)
    result = graft(f"{start}@{path}", model, **{"in_channels": 3, **options})
    path.unlink()
    report = result.report
    assert report.coverage == 1.0
    assert not report.fresh
    assert not report.unexplained
    return result


def clip(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(5))


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    scale = float(expected.abs().max())
    assert 1e-2 < scale < 1e6
    assert float((found - expected).abs().max()) / scale < TOLERANCE


def classifier_input(network: nn.Module, head: str, given: Any) -> Tensor:
    """Run a network and return what its classifier was given."""
    kept: list[Tensor] = []
    handle = network.get_submodule(head).register_forward_pre_hook(
        lambda _, inputs: kept.append(inputs[0].flatten(1))
    )
    with torch.no_grad():
        network(given)
    handle.remove()
    return kept[0]


def both_pathways(x: Tensor) -> list[Tensor]:
    """Split a clip as PyTorchVideo's PackPathway does."""
    slices = torch.linspace(0, x.shape[2] - 1, x.shape[2] // 4).long()
    return [x.index_select(2, slices), x]


@pytest.mark.parametrize("name", FILES)
def test_pytorchvideos_convolutional_files(name: str, references, filled, tmp_path: Path) -> None:
    source, filename = FILES[name]
    with torch.device("meta"):
        original = references[name]()
    state = filled(original).state_dict()
    result = grafted(source, tmp_path / filename, {"model_state": state}, name)
    head = result.encoder.declaration.head
    assert {v["name"] for v in result.report.dropped} == {f"{head}.weight", f"{head}.bias"}
    if name == "slowfast_r50":  # quick enough for the published size, and its untouched windows
        x = clip(1, 3, 32, 224, 224)
        expected = classifier_input(original, head, both_pathways(x))
    else:
        original.blocks[-1].pool = nn.AdaptiveAvgPool3d(1)
        x = clip(1, 3, 8, 48, 40)
        expected = classifier_input(original, head, x)
    with torch.no_grad():
        assert_close(result.encoder.eval()(x), expected)


def drawn(network: nn.Module) -> Any:
    """Give every parameter of a transformer values under which nothing is trivial."""
    pool = torch.randn(99_991, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        for index, (name, parameter) in enumerate(network.named_parameters()):
            fan = parameter[0].numel() if parameter.ndim > 1 and "pos" not in name else 16
            one = name.endswith("weight") and parameter.ndim == 1
            count = parameter.numel()
            values = pool.roll(977 * index).repeat(-(-count // len(pool)))[:count]
            parameter.copy_(values.view_as(parameter) * (0.2 if one else fan**-0.5) + float(one))
    return network.eval()


def test_mvits_file(tmp_path: Path) -> None:
    """For clips of its own size, the only ones that PyTorchVideo's network takes: a small one here.

    The published size differs in the length of two tables (test_mvit.py).
    """
    with warnings.catch_warnings():
        # The package, which nobody maintains, compiles a function while it is imported.
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
        from pytorchvideo.models import vision_transformers
        from pytorchvideo.models.hub.vision_transformers import mvit_video_base_32x3_config
    config = {**mvit_video_base_32x3_config, "temporal_size": 8, "spatial_size": 64}
    original = drawn(vision_transformers.create_multiscale_vision_transformers(**config))
    state = original.state_dict()
    path = tmp_path / "MVIT_B_32x3_f294077834.pyth"
    options = {"input_size": [8, 64, 64]}
    name = "mvit_base_32x3"
    result = grafted(f"{name}.k400", path, {"model_state": state}, name, model_options=options)
    original.head = None
    x = clip(1, 3, 8, 64, 64)
    encoder = result.encoder.eval()
    with torch.no_grad():
        tokens = original(x)
        assert_close(encoder(x), tokens[:, 0])
        assert_close(encoder.forward_features(x).flatten(2).transpose(1, 2), tokens[:, 1:])


def as_the_authors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the tensors of torchvision's Video Swin as the authors' mmaction does."""
    named = {}
    for name, tensor in state.items():
        if name.startswith("head."):
            named[f"cls_head.fc_cls.{name.removeprefix('head.')}"] = tensor
            continue
        place = re.match(r"features\.(\d)\.", name)
        if place:
            stage = int(place[1]) // 2
            part = "downsample" if int(place[1]) % 2 else "blocks"
            name = f"layers.{stage}.{part}.{name[place.end() :]}"
        name = name.replace(".mlp.0.", ".mlp.fc1.").replace(".mlp.3.", ".mlp.fc2.")
        if name.endswith("relative_position_index"):  # a square there, a row here
            tensor = tensor.view(392, 392)
        named[f"backbone.{name}"] = tensor
    return named


def test_video_swins_file_of_its_authors(tmp_path: Path) -> None:
    with torch.device("meta"):
        original = video.swin3d_t(weights=None)
        indices = {n for n, _ in original.named_buffers()}
    drawn(original.to_empty(device="cpu"))
    for name in indices:
        block: Any = original.get_submodule(name.rpartition(".")[0])
        block.define_relative_position_index()
    state = as_the_authors(original.state_dict())
    assert "backbone.layers.2.blocks.5.attn.relative_position_index" in state
    path = tmp_path / "swin_tiny_patch244_window877_kinetics400_1k.pth"
    content = {"meta": {"epoch": 30, "config": "..."}, "state_dict": state}
    result = grafted("swin3d_t.authors_k400_1k", path, content, "swin3d_t", in_channels=1)
    dropped = {verdict["name"] for verdict in result.report.dropped}
    assert len(dropped) == 12 + 2
    assert {"cls_head.fc_cls.weight", "cls_head.fc_cls.bias"} < dropped
    original.head = nn.Identity()
    x = clip(1, 1, 10, 72, 96)
    with torch.no_grad():
        assert_close(result.encoder.eval()(x), original(x.expand(-1, 3, -1, -1, -1)))
