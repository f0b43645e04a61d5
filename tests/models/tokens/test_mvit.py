"""MViT: as torchvision and PyTorchVideo compute it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import video

from voxgraft.errors import ModelError
from voxgraft.grafting import graft
from voxgraft.models import MODELS, Encoder, ModelEntry
from voxgraft.models.tokens import mvit
from voxgraft.weights import InputContract, LocalFile, Source
from voxgraft.weights.convert import UnitAxes, convert
from voxgraft.weights.layouts import KEY_LAYOUTS, key_layout

TOLERANCE = 1e-4  # relative to the largest value; issue 3, "It must show" 1
SMALL_MVIT = mvit.MViTConfig(
    version=1, reference="small", width=8, blocks=5, starts=(1, 3), input_size=(4, 64, 64)
)
ENTRIES = {
    **{
        f"small_mvit_v{version}": ModelEntry(
            name=f"small_mvit_v{version}", description="in small", family="mvit", native="video",
            build=partial(mvit.build_mvit, replace(SMALL_MVIT, version=version)),
            options=frozenset({"seed", "input_size"}),
        )
        for version in (1, 2)
    },
    "small_pytorchvideo": ModelEntry(
        name="small_pytorchvideo", description="in small", family="mvit", native="video",
        build=partial(mvit.build_mvit, replace(SMALL_MVIT, pool_eps=1e-5)),
    ),
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    for name, entry in ENTRIES.items():
        MODELS.register(name, entry)
    yield
    for name in ENTRIES:
        del MODELS._items[name]


def _drawn(network: nn.Module) -> Any:
    """Give every parameter values under which nothing is trivial: tables and biases too."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan = parameter[0].numel() if parameter.ndim > 1 and "rel" not in name else 4
            shift = 1.0 if name.endswith("weight") and parameter.ndim == 1 else 0.0
            parameter.copy_(shift + noise * fan**-0.5 * (0.2 if shift else 1.0))
    return network.eval()


def _graft(
    folder: Path, state: Mapping[str, Tensor], architecture: str, layout: str, **options: Any
) -> Any:
    path = folder / "file.safetensors"
    save_file({name: tensor.clone() for name, tensor in state.items()}, path)
    stem = ENTRIES[architecture].build(seed=0).declaration.stem.removesuffix(".weight")
    source = Source(
        id="video.small", file=LocalFile(path=str(path)), sha256=None, layout="video",
        input=InputContract(channels=3, mean=(0.45,) * 3, sd=(0.225,) * 3),
        architecture=architecture, stem=(stem,), head=("head",), parameters=None,
        key_layout=layout,
    )  # fmt: skip
    result = graft(source, architecture, **options)
    report = result.report
    assert key_layout(state.keys()) == layout
    assert report.coverage == 1.0
    used = " + ".join(v["from"] for v in (*report.loaded, *report.adapted)).split(" + ")
    assert sorted(used + [v["name"] for v in report.dropped]) == sorted(state)
    return result


def _clip(*size: int, channels: int = 3) -> Tensor:
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(5))


def _assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    scale = float(expected.abs().max())
    assert scale > 1e-2
    assert float((found - expected).abs().max()) / scale < TOLERANCE


def _torchvision_mvit(version: int, classes: int = 5) -> Any:
    second = version == 2
    return _drawn(
        video.MViT(
            spatial_size=(64, 64), temporal_size=4,
            block_setting=mvit._blocks(replace(SMALL_MVIT, version=version)),
            residual_pool=second, residual_with_cls_embed=False, rel_pos_embed=second,
            proj_after_attn=second, num_classes=classes,
        )
    )  # fmt: skip


@pytest.mark.parametrize("channels", [3, 1])
@pytest.mark.parametrize("version", [1, 2])
def test_mvit_is_torchvisions(tmp_path: Path, version: int, channels: int) -> None:
    reference = _torchvision_mvit(version)
    name = f"small_mvit_v{version}"
    result = _graft(
        tmp_path, reference.state_dict(), name, "torchvision-mvit", in_channels=channels
    )
    assert result.report.parity.relative_error < TOLERANCE
    reference.head = nn.Identity()
    volume = _clip(4, 64, 64, channels=channels)
    with torch.no_grad():
        expected = reference(volume.expand(-1, 3, -1, -1, -1))
        _assert_close(result.encoder.eval()(volume), expected)


@pytest.mark.parametrize("channels", [3, 1])
def test_mvit_is_pytorchvideos(tmp_path: Path, channels: int) -> None:
    reference = _pytorchvideo(
        spatial_size=64, temporal_size=4, depth=5, patch_embed_dim=8, num_heads=1,
        embed_dim_mul=[[1, 2.0], [3, 2.0]], atten_head_mul=[[1, 2.0], [3, 2.0]],
        pool_q_stride_size=[[1, 1, 2, 2], [3, 1, 2, 2]], pool_kv_stride_adaptive=[1, 8, 8],
        pool_kvq_kernel=[3, 3, 3], head_num_classes=5,
    )  # fmt: skip
    _drawn(reference)
    result = _graft(
        tmp_path,
        reference.state_dict(),
        "small_pytorchvideo",
        "pytorchvideo-mvit",
        in_channels=channels,
    )
    assert result.report.parity.relative_error < TOLERANCE
    assert any("stacked of 3 tensors" in v["how"] for v in result.report.adapted)
    reference.head = None
    volume = _clip(4, 64, 64, channels=channels)
    with torch.no_grad():
        tokens = reference(volume.expand(-1, 3, -1, -1, -1))
        _assert_close(result.encoder.eval()(volume), tokens[:, 0])
        features = result.encoder.forward_features(volume)
        _assert_close(features.flatten(2).transpose(1, 2), tokens[:, 1:])


def _pytorchvideo(**options: Any) -> Any:
    with warnings.catch_warnings():
        # The package, which nobody maintains, compiles a function while it is imported.
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
        from pytorchvideo.models import vision_transformers

    return vision_transformers.create_multiscale_vision_transformers(**options)


def test_pytorchvideos_published_configuration_is_ours() -> None:
    """The one of 32 slices; that of 16 has shorter tables along depth, and nothing else."""
    config: dict[str, Any] = {
        "spatial_size": 224, "temporal_size": 32,
        "embed_dim_mul": [[1, 2.0], [3, 2.0], [14, 2.0]],
        "atten_head_mul": [[1, 2.0], [3, 2.0], [14, 2.0]],
        "pool_q_stride_size": [[1, 1, 2, 2], [3, 1, 2, 2], [14, 1, 2, 2]],
        "pool_kv_stride_adaptive": [1, 8, 8], "pool_kvq_kernel": [3, 3, 3],
    }  # fmt: skip
    name = "mvit_base_32x3"
    theirs = _pytorchvideo(**config, head=None).state_dict()
    with torch.device("meta"):
        ours, shorter = (MODELS.get(n).build(in_channels=3) for n in (name, "mvit_base_16x4"))
    shapes = {key: tuple(tensor.shape) for key, tensor in ours.state_dict().items()}
    rules = [*KEY_LAYOUTS["pytorchvideo-mvit"](name), UnitAxes()]
    assert convert(theirs, shapes, rules).report.coverage == 1.0
    own = {key: tuple(tensor.shape) for key, tensor in shorter.state_dict().items()}
    assert {key: (shapes[key], own[key]) for key in shapes if shapes[key] != own[key]} == {
        "pos_encoding.temporal_pos": ((16, 96), (8, 96))
    }
    for network in (ours, shorter):
        norm = network.get_submodule("blocks.0.attn.pool_k.norm_act.0")
        assert isinstance(norm, nn.LayerNorm)
        assert norm.eps == 1e-5
        assert network.get_submodule("blocks.0.norm1").eps == 1e-6


@pytest.mark.parametrize("name", ENTRIES)
def test_any_size_runs(name: str) -> None:
    encoder: Encoder = ENTRIES[name].build(in_channels=1, seed=0).eval()
    strides = encoder.declaration.strides
    with torch.no_grad():
        for size in ((1, 1, 1), (3, 40, 97), (9, 33, 64)):
            stages = encoder.forward_stages(_clip(*size, channels=1))
            for stage, stride in zip(stages, strides, strict=True):
                grid = tuple(-(-n // s) for n, s in zip(size, stride, strict=True))
                assert tuple(stage.shape[2:]) == grid
                assert stage.isfinite().all()


@pytest.mark.parametrize("name", ENTRIES)
def test_gradient_checkpointing_gives_the_same_gradients(name: str) -> None:
    encoder: Encoder = ENTRIES[name].build(in_channels=1, seed=0).train()
    gradients = []
    for on in (False, True):
        encoder.set_gradient_checkpointing(on)
        encoder.zero_grad()
        encoder(_clip(4, 64, 64, channels=1)).square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    for plain, checkpointed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_other_input_sizes_of_mvit_have_other_tables() -> None:
    small = replace(SMALL_MVIT, version=2)
    encoder = mvit.build_mvit(small, input_size=(8, 96, 64), seed=0)
    tables = {p.name: p.grid for p in encoder.declaration.positions}
    assert tables["blocks.0.attn.rel_pos_t"] == (4, 1, 1)
    assert tables["blocks.0.attn.rel_pos_h"] == (1, 24, 1)
    plain = mvit.build_mvit(SMALL_MVIT, input_size=(8, 96, 64), seed=0)
    assert plain.state_dict()["pos_encoding.spatial_pos"].shape == (24 * 16, 8)
    for wrong in ((1, 2), (0, 64, 64), "big", (8, 64.0, 64)):
        with pytest.raises(ModelError, match="expected three whole numbers"):
            mvit.build_mvit(SMALL_MVIT, input_size=wrong)
    with pytest.raises(ModelError, match="its class token, which the feature map does not hold"):
        plain.pool(torch.ones(1, 32, 1, 1, 1))


@pytest.mark.parametrize("version", [1, 2])
def test_tables_of_another_input_size_compute_what_interpolated_ones_do(
    tmp_path: Path, version: int
) -> None:
    reference = _torchvision_mvit(version)
    name, layout = f"small_mvit_v{version}", "torchvision-mvit"
    state = reference.state_dict()
    options = {"input_size": (8, 64, 64)}
    resized = _graft(tmp_path, state, name, layout, in_channels=3, model_options=options)
    usual = _graft(tmp_path, state, name, layout, in_channels=3)
    assert any("4×1×1 (interpolated)" in verdict["how"] for verdict in resized.report.adapted)
    volume = _clip(8, 64, 64)
    with torch.no_grad():
        found, expected = resized.encoder.eval()(volume), usual.encoder.eval()(volume)
    _assert_close(found, expected)


@pytest.mark.parametrize("name", ["mvit_v1_b", "mvit_v2_s"])
def test_torchvisions_published_configurations_are_ours(name: str) -> None:
    with torch.device("meta"):
        theirs = getattr(video, name)(weights=None).state_dict()
        ours = MODELS.get(name).build(in_channels=3)
    expected = {k: tensor.shape for k, tensor in theirs.items() if not k.startswith("head")}
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == expected
    assert ours.declaration.reference == f"torchvision.models.video.{name}"
