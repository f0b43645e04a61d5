"""mmaction2's SlowFast and PySlowFast's X3D: equal features, every tensor in its place.

Neither package is at hand. mmaction2's network is written again from its code
(mmaction/models/backbones/resnet3d_slowfast.py, resnet3d.py), with its names. PySlowFast's X3D is
PyTorchVideo's with one more normalization (slowfast/models/resnet_helper.py), under the names of
PySlowFast's modules (stem_helper.py, resnet_helper.py, head_helper.py, operators.py).
"""

from __future__ import annotations

import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.errors import GraftError, SourceError
from voxgraft.grafting import graft
from voxgraft.models import MODELS, Encoder, build_encoder
from voxgraft.weights import SOURCES, FoldChannels, convert, naming_rules, recognize
from voxgraft.weights.catalog.video_variants import SOURCES as OURS
from voxgraft.weights.layouts import KEY_LAYOUTS, key_layout

EACH = list({source.architecture: source.id for source in OURS}.values())


def _module(before: int, after: int, kernel, stride=1, *, norm: bool = True) -> nn.Module:
    padding = tuple((size - 1) // 2 for size in kernel)
    module = nn.Module()
    module.conv = nn.Conv3d(before, after, kernel, stride, padding, bias=False)
    if norm:
        module.bn = nn.BatchNorm3d(after)
    return module


def _run(module, x: Tensor, act: bool = True) -> Tensor:
    x = module.bn(module.conv(x))
    return F.relu(x) if act else x


class Bottleneck(nn.Module):
    def __init__(self, before: int, planes: int, stride: int, inflate: bool) -> None:
        super().__init__()
        step = (1, stride, stride)
        self.conv1 = _module(before, planes, (3, 1, 1) if inflate else (1, 1, 1))
        self.conv2 = _module(planes, planes, (1, 3, 3), step)
        self.conv3 = _module(planes, 4 * planes, (1, 1, 1))
        if stride > 1 or before != 4 * planes:
            self.downsample = _module(before, 4 * planes, (1, 1, 1), step)

    def forward(self, x: Tensor) -> Tensor:
        identity = _run(self.downsample, x, act=False) if hasattr(self, "downsample") else x
        out = _run(self.conv2, _run(self.conv1, x))
        return F.relu(_run(self.conv3, out, act=False) + identity)


class Pathway(nn.Module):
    def __init__(self, base, depth, blocks, inflate, fusion: int, step: int) -> None:
        super().__init__()
        self.conv1 = _module(3, base, (depth, 7, 7), (1, 2, 2))
        lateral = fusion > 0

        def connection(width: int) -> nn.Module:
            return _module(width // 8, width // 4, (fusion, 1, 1), (step, 1, 1), norm=False)

        if lateral:
            self.conv1_lateral = connection(base)
        before = base
        for stage, count in enumerate(blocks):
            planes, layers = base * 2**stage, []
            before += before // 4 if lateral else 0
            for number in range(count):
                stride = 2 if stage and not number else 1
                layers.append(Bottleneck(before, planes, stride, inflate[stage]))
                before = 4 * planes
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layers))
            if lateral and stage < 3:
                self.add_module(f"layer{stage + 1}_lateral", connection(before))


class Recognizer(nn.Module):
    def __init__(self, plan, classes: int = 400) -> None:
        super().__init__()
        self.step = plan.step
        self.backbone = nn.Module()
        inflate = (False, False, True, True)
        self.backbone.slow_path = Pathway(64, 1, plan.blocks, inflate, plan.fusion_depth, plan.step)
        fast = plan.fast_blocks or plan.blocks
        self.backbone.fast_path = Pathway(8, 5, fast, (True,) * 4, 0, plan.step)
        self.cls_head = nn.Module()
        self.cls_head.fc_cls = nn.Linear(2304, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        slow_path, fast_path = self.backbone.slow_path, self.backbone.fast_path
        slow = F.interpolate(x, mode="nearest", scale_factor=(1 / self.step, 1.0, 1.0))
        maps = [
            F.max_pool3d(_run(path.conv1, clip), (1, 3, 3), (1, 2, 2), (0, 1, 1))
            for path, clip in ((slow_path, slow), (fast_path, x))
        ]
        for stage in range(5):
            if stage:
                name = f"layer{stage}"
                maps = [
                    path.get_submodule(name)(features)
                    for path, features in zip((slow_path, fast_path), maps, strict=True)
                ]
            if stage < 4:
                lateral = slow_path.get_submodule(
                    f"layer{stage}_lateral" if stage else "conv1_lateral"
                )
                maps[0] = torch.cat((maps[0], lateral.conv(maps[1])), dim=1)
        return maps[0], maps[1]


def _plan(architecture: str):
    return MODELS.get(architecture).build.args[0]  # type: ignore[attr-defined]


def _x3d_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Name the tensors of PyTorchVideo's X3D as PySlowFast does."""
    whole = {
        "blocks.0.conv.conv_t.": "s1.pathway0_stem.conv_xy.",
        "blocks.0.conv.conv_xy.": "s1.pathway0_stem.conv.",
        "blocks.0.norm.": "s1.pathway0_stem.bn.",
        "blocks.5.pool.pre_conv.": "head.conv_5.",
        "blocks.5.pool.pre_norm.": "head.conv_5_bn.",
        "blocks.5.pool.post_conv.": "head.lin_5.",
        "blocks.5.proj.": "head.projection.",
    }
    inner = {
        "branch1_conv": "branch1",
        "branch1_norm": "branch1_bn",
        "branch2.norm_b.0": "branch2.b_bn",
        "branch2.norm_b.1.block.0": "branch2.se.fc1",
        "branch2.norm_b.1.block.2": "branch2.se.fc2",
        **{f"branch2.conv_{k}": f"branch2.{k}" for k in "abc"},
        **{f"branch2.norm_{k}": f"branch2.{k}_bn" for k in "ac"},
    }
    named = {}
    for name, tensor in state.items():
        block = re.fullmatch(r"blocks\.(\d)\.res_blocks\.(\d+)\.(.*)\.(\w+)", name)
        if block:
            place = f"s{int(block[1]) + 1}.pathway0_res{block[2]}"
            named[f"{place}.{inner[block[3]]}.{block[4]}"] = tensor
        else:
            start = next(start for start in whole if name.startswith(start))
            named[name.replace(start, whole[start])] = tensor
    return named


def _x3d(deeper: float) -> nn.Module:
    """Build PyTorchVideo's X3D with PySlowFast's normalization in each strided shortcut."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
        from pytorchvideo.models.x3d import create_x3d
    network = create_x3d(
        input_clip_length=4, input_crop_size=160, depth_factor=deeper, head_activation=None
    )
    for stage in network.blocks[1:5]:
        first = stage.res_blocks[0]
        if first.branch1_norm is None:
            first.branch1_norm = nn.BatchNorm3d(first.branch1_conv.out_channels)
    return network


@pytest.mark.parametrize("name", EACH)
def test_nothing_is_unexplained_in_either_direction(name: str) -> None:
    source = SOURCES.get(name)
    slowfast = name.startswith("slowfast")
    with torch.device("meta"):
        if slowfast:
            original: nn.Module = Recognizer(_plan(source.architecture))
        else:
            original = _x3d(5.0 if source.architecture.endswith("_l") else 2.2)
    state = original.state_dict()
    state = state if slowfast else _x3d_names(state)
    assert key_layout(state.keys()) == source.key_layout
    assert source.parameters == sum(p.numel() for p in original.parameters())
    head = "cls_head.fc_cls" if slowfast else "head.projection"
    heads = {f"{head}.weight", f"{head}.bias"}
    assert source.head_parameters == sum(state[n].numel() for n in heads)
    for channels in (1, 3):
        with torch.device("meta"):
            encoder = build_encoder(source.architecture, in_channels=channels)
        assert encoder.declaration.stems == {f"{stem}.weight" for stem in source.stem}
        targets = {n: tuple(t.shape) for n, t in encoder.state_dict().items()}
        rules = [*naming_rules(source), FoldChannels(encoder.declaration.stems, "sum")]
        report = convert(state, targets, rules, source=name, model=source.architecture).report
        assert (report.coverage, len(report.fresh)) == (1.0, 0)
        assert {verdict["name"] for verdict in report.dropped} == heads


def _small(architecture: str, channels: int) -> Encoder:
    build = MODELS.get(architecture).build
    plan = replace(_plan(architecture), blocks=(2, 1, 2, 1), fast_blocks=(1, 2, 1, 2))
    return build.func(plan, in_channels=channels)  # type: ignore[attr-defined]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("architecture", ["slowfast_plain_r50", "slowfast_plain_4x16_r101_r50"])
def test_slowfast_gives_the_features_of_the_original(
    architecture: str, channels: int, filled, tmp_path: Path
) -> None:
    encoder = _small(architecture, channels)
    plan = replace(_plan(architecture), blocks=(2, 1, 2, 1), fast_blocks=(1, 2, 1, 2))
    with torch.device("meta"):
        original = Recognizer(plan)
    filled(original).eval()
    path = tmp_path / "slowfast.pth"
    torch.save({"meta": {"epoch": 256}, "state_dict": original.state_dict()}, path)
    name = next(source.id for source in OURS if source.architecture == architecture)
    encoder = graft(f"{name}@{path}", encoder).encoder.eval()
    volume = torch.randn(2, channels, 16, 36, 40, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        slow, fast = original(volume.expand(-1, 3, -1, -1, -1))
        vector = encoder(volume)
        features = encoder.forward_features(volume)
    expected = torch.cat([slow.mean((2, 3, 4)), fast.mean((2, 3, 4))], dim=1)
    torch.testing.assert_close(vector, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(features[:, : slow.shape[1]], slow, rtol=1e-4, atol=1e-4)


def test_any_number_of_slices_goes_through() -> None:
    encoder = _small("slowfast_plain_r50", 1).eval()
    for depth in (1, 3, 4, 7, 9):
        assert encoder.slow_slices(depth) == list(range(0, depth, 4))
        with torch.no_grad():
            assert encoder(torch.zeros(1, 1, depth, 32, 32)).shape == (1, 2304)


@pytest.mark.parametrize("channels", [1, 3])
def test_x3d_gives_the_features_of_the_original(channels: int, filled, tmp_path: Path) -> None:
    with torch.device("meta"):
        original = _x3d(2.2)
    filled(original).eval()
    path = tmp_path / "x3d_m.pyth"
    torch.save({"epoch": 300, "model_state": _x3d_names(original.state_dict())}, path)
    graft_ = graft(
        f"x3d_normalized_m.pyslowfast_k400@{path}", "x3d_normalized_m", in_channels=channels
    )
    volume = torch.randn(1, channels, 4, 160, 160, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        x = volume.expand(-1, 3, -1, -1, -1)
        for block in original.blocks[:5]:
            x = block(x)
        stages = graft_.encoder.eval().forward_stages(volume)
        torch.testing.assert_close(stages[-1], x, rtol=1e-4, atol=1e-4)
        pooled = original.blocks[5].pool(x).flatten(1)
        torch.testing.assert_close(graft_.encoder(volume), pooled, rtol=1e-4, atol=1e-4)
    # PyTorchVideo's network, without that normalization, is another.
    with pytest.raises(GraftError):
        graft(f"x3d_normalized_m.pyslowfast_k400@{path}", "x3d_m")


def test_a_lateral_normalization_is_not_passed_over(tmp_path: Path) -> None:
    encoder = _small("slowfast_plain_r50", 3)
    plan = replace(_plan("slowfast_plain_r50"), blocks=(2, 1, 2, 1), fast_blocks=(1, 2, 1, 2))
    state = Recognizer(plan).state_dict()
    state["backbone.slow_path.layer1_lateral.bn.weight"] = torch.ones(64)
    path = tmp_path / "ava.pth"
    torch.save({"state_dict": state}, path)
    with pytest.raises(GraftError, match=r"slow_path\.layer1_lateral\.bn\.weight|multipathway"):
        graft(f"slowfast_plain_r50.mmaction_k400_8x8@{path}", encoder)


def test_an_unknown_file_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "unknown.pyth"
    torch.save({"model_state": _x3d_names(_x3d(2.2).state_dict())}, path)
    from voxgraft.grafting.recognition import NETWORKS

    source = recognize.recognized_source(path, NETWORKS)
    assert (source.architecture, source.key_layout) == ("x3d_normalized_m", "pyslowfast-x3d")


def test_other_networks_have_no_such_names() -> None:
    for layout in ("mmaction-slowfast", "pyslowfast-x3d"):
        with pytest.raises(SourceError, match=f"'{layout}' names tensors of"):
            KEY_LAYOUTS[layout]("slow_r50")
