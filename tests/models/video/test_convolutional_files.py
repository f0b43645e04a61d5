"""Published files of convolutional video networks: every tensor has its place."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from voxgraft.errors import GraftError, SourceError
from voxgraft.grafting import graft
from voxgraft.models import MODELS, Encoder, build_encoder
from voxgraft.weights import (
    SOURCES,
    FoldChannels,
    LocalFile,
    Source,
    convert,
    naming_rules,
    resolve_source,
)
from voxgraft.weights.catalog.video_convolutional import SOURCES as ALL
from voxgraft.weights.layouts import KEY_LAYOUTS, key_layout
from voxgraft.weights.source import BroughtFile, WebFile, source_from_dict

ELSEWHERE = ("mmaction-resnet3d", "inception-i3d")
"""Layouts with tests of their own (test_openmmlab_networks.py, test_inception_i3d.py)."""
OURS = [source for source in ALL if source.key_layout not in ELSEWHERE]
IDS = [source.id for source in OURS]
EACH = list({(s.architecture, s.key_layout): s.id for s in OURS}.values())
"""One source of each architecture and layout."""

CLASSES = {"k400": 400, "ssv2": 174, "charades": 157, "clip8": 487, "clip32": 359}


# From the README of kenshohara/3D-ResNets-PyTorch (--n_pretrain_classes).
HARA = {"k": 700, "km": 1039, "kms": 1139, "ks": 800, "m": 339, "ms": 439, "s": 100}


def _classes(source: Source) -> int:
    tag = source.id.partition(".")[2]
    if source.key_layout == "hara":
        return HARA[tag.removesuffix("_200ep")]
    kind = re.search(r"k400|kinetics400|ssv2|charades|clip8|clip32", tag)
    assert kind is not None
    return CLASSES.get(kind[0], 400)


def _published(source: Source, references) -> nn.Module:
    """Build the network whose state dict the source's file holds, head included."""
    with torch.device("meta"):
        network: nn.Module = references[source.architecture](classes=_classes(source))
    return network


@pytest.fixture(scope="module")
def published(references) -> Callable[[Source], nn.Module]:
    """Build such a network without memory, each architecture once, with any number of classes."""
    built: dict[str, nn.Module] = {}

    def build(source: Source) -> nn.Module:
        if source.architecture not in built:
            built[source.architecture] = _published(source, references)
        return built[source.architecture]

    return build


@cache
def _empty(name: str, channels: int) -> Encoder:
    with torch.device("meta"):
        return build_encoder(name, in_channels=channels)


# From slowfast/models/{stem,resnet,head}_helper.py and contrastive.py of PySlowFast.
def _pyslowfast_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the tensors of PyTorchVideo's Slow R50 as PySlowFast's contrastive training does."""
    parts = {"conv": "", "norm": "_bn"}
    named = {}
    for name, tensor in state.items():
        stem = re.fullmatch(r"blocks\.0\.(conv|norm)\.(\w+)", name)
        block = re.fullmatch(r"blocks\.(\d)\.res_blocks\.(\d+)\.(.*)\.(\w+)", name)
        if stem:
            part = {"conv": "conv", "norm": "bn"}[stem[1]]
            named[f"backbone.s1.pathway0_stem.{part}.{stem[2]}"] = tensor
        elif block:
            inner = re.sub(r"branch1_(conv|norm)", lambda m: f"branch1{parts[m[1]]}", block[3])
            inner = re.sub(r"(conv|norm)_([abc])", lambda m: m[2] + parts[m[1]], inner)
            place = f"s{int(block[1]) + 1}.pathway0_res{block[2]}"
            named[f"backbone.{place}.{inner}.{block[4]}"] = tensor
    copies = {name.replace("backbone", "backbone_hist", 1): t for name, t in named.items()}
    memory = {
        "ptr": torch.tensor([0]),
        "iter": torch.zeros([1], dtype=torch.long),
        "queue_x": torch.ones(16, 8),
        "knn_mem.memory": torch.ones(4, 1, 8),
        "backbone.head.projection.projection.0.weight": torch.ones(8, 2048),
        "backbone.head.predictors.0.projection.0.weight": torch.ones(8, 8),
    }
    return {**named, **copies, **memory}


def _file_names(source: Source, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return _pyslowfast_names(state) if source.key_layout == "pyslowfast" else state


@pytest.mark.parametrize("name", IDS)
def test_each_entry_is_complete_and_true_of_its_network(name: str, published) -> None:
    source = SOURCES.get(name)
    assert source.id == name
    assert re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", name)
    assert name.startswith(f"{source.architecture}.")
    assert (source.layout, source.licence, source.verified) == ("video", "unstated", False)
    assert re.fullmatch(r"arXiv:\d{4}\.\d{5}", source.paper)
    assert source.trained_on
    assert "licence is stated" in source.note
    if isinstance(source.file, BroughtFile):
        layers, data = re.fullmatch(r"hara_resnet(\d+)_3d\.(\w+)_200ep", name).groups()  # type: ignore[union-attr]
        assert source.file.filename == f"r3d{layers}_{data.upper()}_200ep.pth"
        address = source.file.where
    else:
        assert isinstance(source.file, WebFile)
        address = source.file.url
    assert address.startswith("https://")
    assert (source.sha256_begins is not None) == ("download.pytorch.org" in address)
    if source.sha256_begins is not None:
        assert f"-{source.sha256_begins}.pth" in address
    assert source_from_dict(json.loads(json.dumps(source.to_dict()))) == source
    declared = _empty(source.architecture, 3).declaration
    assert {f"{stem}.weight" for stem in source.stem} == declared.stems
    assert source.input.channels == 3
    if source.key_layout == "pyslowfast":
        return
    assert source.head == (declared.head,)
    sizes = {n: tuple(p.shape) for n, p in published(source).named_parameters()}
    heads = [n for n in sizes if n.startswith(f"{declared.head}.")]
    # A weight and a bias: the classes are their first axis, whatever else the network has.
    head = _classes(source) * sum(math.prod(sizes[n][1:]) for n in heads)
    assert source.head_parameters == head
    rest = sum(math.prod(size) for n, size in sizes.items() if n not in heads)
    assert source.parameters == rest + head


def test_torchvisions_files_are_those_of_its_weights() -> None:
    for name in ("R3D_18", "MC3_18", "R2Plus1D_18", "S3D"):
        weights = getattr(torchvision.models.video, f"{name}_Weights").KINETICS400_V1
        source = SOURCES.get(f"{name.lower()}.kinetics400_v1")
        assert source.file == WebFile(url=weights.url)
        assert source.parameters == weights.meta["num_params"]
        preset = weights.transforms()
        assert source.input.mean == tuple(preset.mean)
        assert source.input.sd == tuple(preset.std)
        if source.input.size is not None:
            assert source.input.size[1:] == tuple(preset.crop_size)


def test_pytorchvideos_files_are_those_of_its_hub(references) -> None:
    from pytorchvideo.models.hub import csn, r2plus1d, resnet, slowfast, x3d

    urls = {
        source.architecture: source.file.url
        for source in reversed(OURS)
        if isinstance(source.file, WebFile) and source.key_layout == "pytorchvideo"
    }
    for module in (csn, r2plus1d, resnet, slowfast, x3d):
        for name, url in module.checkpoint_paths.items():
            if not name.endswith("_detection"):
                assert urls[name] == url


@pytest.mark.parametrize("name", EACH)
def test_nothing_is_unexplained_in_either_direction(name: str, published) -> None:
    source = SOURCES.get(name)
    state = _file_names(source, published(source).state_dict())
    for channels in (1, 3):
        encoder = _empty(source.architecture, channels)
        targets = {n: tuple(t.shape) for n, t in encoder.state_dict().items()}
        rules = [*naming_rules(source), FoldChannels(encoder.declaration.stems, "sum")]
        report = convert(state, targets, rules, source=name, model=source.architecture).report
        assert report.coverage == 1.0
        assert not report.fresh
        adapted = {verdict["name"] for verdict in report.adapted}
        assert adapted == (set() if channels == 3 else encoder.declaration.stems)
        kept = len(report.loaded) + len(report.adapted)
        assert kept == len(targets)
        assert kept + len(report.dropped) == len(state)
        if source.key_layout != "pyslowfast":
            assert all(v["name"].startswith(source.head[0]) for v in report.dropped)
            assert len(report.dropped) == 2


@pytest.mark.parametrize("name", EACH)
def test_a_files_layout_is_told_by_its_names(name: str, published) -> None:
    source = SOURCES.get(name)
    state = published(source).state_dict()
    if source.key_layout == "hara":  # the names are those of a 2D ResNet
        assert key_layout(state.keys()) == "timm"
        return
    assert key_layout(_file_names(source, state).keys()) == source.key_layout
    if source.key_layout == "pytorchvideo":
        assert key_layout([f"model.{n}" for n in state]) == "pytorchvideo"


def test_images_are_not_taken_for_video() -> None:
    ours = {"torchvision-video", "pytorchvideo", "pyslowfast"}
    for build in ("resnet18", "mobilenet_v3_small", "efficientnet_b0", "densenet121", "swin_t"):
        with torch.device("meta"):
            names = getattr(torchvision.models, build)().state_dict().keys()
        assert key_layout(names) not in ours


@pytest.mark.parametrize(
    ("name", "wrapped"),
    [("mc3_18.kinetics400_v1", False), ("s3d.kinetics400_v1", False), ("x3d_m.k400", True)],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_files_graft_by_name(
    name: str, wrapped: bool, channels: int, references, filled, tmp_path: Path
) -> None:
    source = SOURCES.get(name)
    original = filled(_published(source, references))
    path = tmp_path / "file.pyth"
    state = original.state_dict()
    torch.save({"model_state": state, "epoch": 3} if wrapped else state, path)
    entry = replace(resolve_source(f"{name}@{path}"), sha256_begins=None)
    assert entry.file == LocalFile(path=str(path))
    result = graft(entry, source.architecture, in_channels=channels)
    report = result.report
    assert report.coverage == 1.0
    assert not report.fresh
    assert report.parity.relative_error is not None
    assert report.parity.relative_error <= 1e-4
    assert result.input_mean == source.input.carried_to(channels)[0]
    volume = torch.randn(1, channels, 6, 33, 34, generator=torch.Generator().manual_seed(0))
    vector: list[Tensor] = []
    for module in list(original.modules()):
        for child_name, child in list(module.named_children()):
            if isinstance(child, nn.AvgPool3d):
                setattr(module, child_name, nn.AdaptiveAvgPool3d(1))
    original.get_submodule(source.head[0]).register_forward_pre_hook(
        lambda _, given: vector.append(given[0].flatten(1))
    )
    with torch.no_grad():
        original(volume.expand(-1, 3, -1, -1, -1))
        found = result.encoder.eval()(volume)
    error = (found - vector[0]).abs().max() / vector[0].abs().max()
    assert float(error) < 1e-4


def _small(name: str, channels: int) -> Encoder:
    build = MODELS.get(name).build
    plan = replace(build.args[0], blocks=(2, 2, 2, 2))  # type: ignore[attr-defined]
    return build.func(plan, in_channels=channels)  # type: ignore[attr-defined]


def test_both_stems_of_slowfast_are_folded(
    references, two_blocks_a_stage, filled, tmp_path: Path
) -> None:
    source = SOURCES.get("slowfast_r50.ssv2_8x8")
    original = filled(_published(source, references))
    state = {f"model.{name}": tensor for name, tensor in original.state_dict().items()}
    path = tmp_path / "SLOWFAST_8x8_R50.pyth"
    torch.save({"model_state": state}, path)
    result = graft(f"{source.id}@{path}", _small("slowfast_r50", 1))
    assert {verdict["name"] for verdict in result.report.adapted} == {
        "blocks.0.multipathway_blocks.0.conv.weight",
        "blocks.0.multipathway_blocks.1.conv.weight",
    }
    assert any("blue, green, red" in note for note in result.report.notes)
    vector: list[Tensor] = []
    original.blocks[5].pool[0] = nn.AdaptiveAvgPool3d(1)  # type: ignore[union-attr, operator, index]
    original.blocks[5].pool[1] = nn.AdaptiveAvgPool3d(1)  # type: ignore[union-attr, operator, index]
    original.get_submodule(source.head[0]).register_forward_pre_hook(
        lambda _, given: vector.append(given[0].flatten(1))
    )
    grey = torch.randn(1, 1, 8, 32, 32, generator=torch.Generator().manual_seed(0))
    clip = grey.expand(-1, 3, -1, -1, -1)
    with torch.no_grad():
        original([clip[:, :, [0, 7]], clip])
        found = result.encoder.eval()(grey)
    assert float((found - vector[0]).abs().max() / vector[0].abs().max()) < 1e-4


def test_a_self_supervised_file_grafts_whole(
    references, two_blocks_a_stage, filled, tmp_path: Path
) -> None:
    source = SOURCES.get("slow_r50.moco_8x8_rho4_k400")
    plain = filled(_published(source, references)).state_dict()
    path = tmp_path / "MoCo_SlowR50_8x8_T4_epoch_00200.pyth"
    torch.save({"model_state": _pyslowfast_names(plain), "epoch": 199, "cfg": "..."}, path)
    result = graft(f"{source.id}@{path}", _small("slow_r50", 3))
    for name, tensor in result.encoder.state_dict().items():
        assert torch.equal(tensor, plain[name]), name
    reasons = {verdict["because"] for verdict in result.report.dropped}
    assert reasons == {
        "the averaged copy of the contrastive training",
        "memory of the training",
        "the source's own head (head); the task brings its own",
    }


def test_pyslowfasts_other_networks_have_their_places() -> None:
    """By the names of PySlowFast's code, for two pathways and for pooling after the first stage."""
    names = {
        "slowfast_r50": {
            "s1.pathway1_stem.conv.weight": "blocks.0.multipathway_blocks.1.conv.weight",
            "s1_fuse.bn.running_mean": "blocks.0.multipathway_fusion.norm.running_mean",
            "s4_fuse.conv_f2s.weight": ("blocks.3.multipathway_fusion.conv_fast_to_slow.weight"),
            "s5.pathway0_res2.branch2.c_bn.bias": (
                "blocks.4.multipathway_blocks.0.res_blocks.2.branch2.norm_c.bias"
            ),
        },
        "i3d_r50": {
            "s1.pathway0_stem.bn.weight": "blocks.0.norm.weight",
            "s2.pathway0_res0.branch1.weight": "blocks.1.res_blocks.0.branch1_conv.weight",
            "s3.pathway0_res3.branch2.a.weight": "blocks.3.res_blocks.3.branch2.conv_a.weight",
            "s5.pathway0_res0.branch1_bn.weight": "blocks.5.res_blocks.0.branch1_norm.weight",
        },
    }
    for architecture, pairs in names.items():
        known = _empty(architecture, 3).state_dict()
        for old, wanted in pairs.items():
            for rule in KEY_LAYOUTS["pyslowfast"](architecture):
                old = rule.rename(old) if hasattr(rule, "rename") else old
            assert old == wanted
            assert wanted in known
    with pytest.raises(SourceError, match=r"'pyslowfast' names tensors of slow.*not of 'x3d_m'"):
        KEY_LAYOUTS["pyslowfast"]("x3d_m")


def test_a_file_fits_its_network_at_each_size_and_no_other(
    references, filled, tmp_path: Path
) -> None:
    source = SOURCES.get("x3d_xs.k400")
    path = tmp_path / "X3D_XS.pyth"
    torch.save({"model_state": filled(_published(source, references)).state_dict()}, path)
    result = graft(f"x3d_xs.k400@{path}", "x3d_m", in_channels=3)
    assert result.report.coverage == 1.0
    recognized = graft(path, "x3d_s")
    assert recognized.report.coverage == 1.0
    assert recognized.source.note.startswith("recognised as x3d_")
    with pytest.raises(GraftError, match=r"blocks\.1\.res_blocks\.3.* expects"):
        graft(f"x3d_xs.k400@{path}", "x3d_l")
