"""mmaction2's channel-separated networks and SlowOnly: equal features, every tensor in its place.

mmaction2 itself is not at hand. Here its backbone is written again from its code
(mmaction/models/backbones/resnet3d.py, resnet3d_csn.py, heads/i3d_head.py), with its names.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.errors import SourceError
from voxgraft.grafting import graft
from voxgraft.models import MODELS, Encoder, build_encoder
from voxgraft.weights import SOURCES, FoldChannels, Source, convert, naming_rules
from voxgraft.weights.catalog.video_openmmlab import SOURCES as OURS
from voxgraft.weights.layouts import KEY_LAYOUTS, key_layout

EACH = list({source.architecture: source.id for source in OURS}.values())
"""One source of each architecture."""

BLOCKS = {"r50": (3, 4, 6, 3), "r101": (3, 4, 23, 3), "r152": (3, 8, 36, 3)}


class ConvModule(nn.Module):
    """mmcv's: convolution, normalization, and activation where there is one."""

    def __init__(self, before, after, kernel, stride=1, groups=1, eps=1e-5, act=True) -> None:
        super().__init__()
        kernel = (kernel,) * 3 if isinstance(kernel, int) else kernel
        padding = tuple((size - 1) // 2 for size in kernel)
        self.conv = nn.Conv3d(before, after, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm3d(after, eps=eps)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x) if self.act else x


class Bottleneck3d(nn.Module):
    def __init__(self, before, planes, stride, mode, inflate, eps) -> None:
        super().__init__()
        csn = mode in ("ip", "ir")
        first = (3, 1, 1) if inflate and not csn else (1, 1, 1)
        self.conv1 = ConvModule(before, planes, first, eps=eps)
        if csn:
            parts = [ConvModule(planes, planes, 1, eps=eps, act=False)] if mode == "ip" else []
            parts.append(ConvModule(planes, planes, 3, stride, groups=planes, eps=eps))
            self.conv2: nn.Module = nn.Sequential(*parts)
        else:
            self.conv2 = ConvModule(planes, planes, (1, 3, 3), stride, eps=eps)
        self.conv3 = ConvModule(planes, 4 * planes, 1, eps=eps, act=False)
        changes = stride != (1, 1, 1) or before != 4 * planes
        self.downsample = (
            ConvModule(before, 4 * planes, 1, stride, eps=eps, act=False) if changes else None
        )

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        return F.relu(self.conv3(self.conv2(self.conv1(x))) + identity)


class Backbone(nn.Module):
    def __init__(self, blocks: tuple[int, ...], mode: str) -> None:
        super().__init__()
        csn = mode in ("ip", "ir")
        eps = 1e-3 if csn else 1e-5
        self.conv1 = ConvModule(3, 64, (3 if csn else 1, 7, 7), (1, 2, 2), eps=eps)
        before = 64
        for index, count in enumerate(blocks):
            step = 1 if index == 0 else 2
            planes = 64 * 2**index
            layers = []
            for number in range(count):
                stride = (step if csn else 1, step, step) if number == 0 else (1, 1, 1)
                layers.append(Bottleneck3d(before, planes, stride, mode, index > 1, eps))
                before = 4 * planes
            self.add_module(f"layer{index + 1}", nn.Sequential(*layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        stages = [self.conv1(x)]
        x = F.max_pool3d(stages[0], (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for index in range(4):
            x = self.get_submodule(f"layer{index + 1}")(x)
            stages.append(x)
        return stages


class Recognizer3D(nn.Module):
    def __init__(self, architecture: str, classes: int, blocks: tuple[int, ...]) -> None:
        super().__init__()
        mode = architecture.partition("_")[0].removesuffix("csn")
        self.backbone = Backbone(blocks, mode)
        self.cls_head = nn.Module()
        self.cls_head.fc_cls = nn.Linear(2048, classes)


def _published(source: Source) -> Recognizer3D:
    layers = source.architecture.partition("_")[2]
    classes = 700 if "k700" in source.id else 710 if "k710" in source.id else 400
    with torch.device("meta"):
        return Recognizer3D(source.architecture, classes, BLOCKS[layers])


def _small(name: str, channels: int) -> Encoder:
    build = MODELS.get(name).build
    plan = replace(build.args[0], blocks=(2, 2, 2, 2))  # type: ignore[attr-defined]
    return build.func(plan, in_channels=channels)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", EACH)
def test_nothing_is_unexplained_in_either_direction(name: str) -> None:
    source = SOURCES.get(name)
    original = _published(source)
    state = original.state_dict()
    assert key_layout(state.keys()) == source.key_layout
    parameters = {n: p.numel() for n, p in original.named_parameters()}
    assert source.parameters == sum(parameters.values())
    heads = [count for n, count in parameters.items() if n.startswith("cls_head.")]
    assert source.head_parameters == sum(heads)
    for channels in (1, 3):
        with torch.device("meta"):
            encoder = build_encoder(source.architecture, in_channels=channels)
        targets = {n: tuple(t.shape) for n, t in encoder.state_dict().items()}
        rules = [*naming_rules(source), FoldChannels(encoder.declaration.stems, "sum")]
        report = convert(state, targets, rules, source=name, model=source.architecture).report
        assert report.coverage == 1.0
        assert not report.fresh
        assert {v["name"] for v in report.dropped} == {
            "cls_head.fc_cls.weight",
            "cls_head.fc_cls.bias",
        }


@pytest.mark.parametrize(
    "name", ["ircsn_r152.k400", "ipcsn_r152.k400", "slow_r101.mmaction_k400_8x8"]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_files_give_the_features_of_the_original(
    name: str, channels: int, filled, tmp_path: Path
) -> None:
    source = SOURCES.get(name)
    with torch.device("meta"):
        original = Recognizer3D(source.architecture, 400, (2, 2, 2, 2))
    filled(original)
    path = tmp_path / "vmz.pth"
    state = {**original.state_dict(), "data_preprocessor.mean": torch.ones(3, 1, 1, 1)}
    torch.save({"meta": {"epoch": 58}, "state_dict": state}, path)
    encoder = graft(f"{name}@{path}", _small(source.architecture, channels)).encoder.eval()
    volume = torch.randn(2, channels, 9, 36, 40, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = original.backbone(volume.expand(-1, 3, -1, -1, -1))
        found = encoder.forward_stages(volume)
        vector = encoder(volume)
    for theirs, ours in zip(expected, found, strict=True):
        assert ours.shape == theirs.shape
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4
    torch.testing.assert_close(vector, expected[-1].mean((2, 3, 4)), rtol=1e-4, atol=1e-4)


def test_each_entry_counts_its_classes() -> None:
    for source in OURS:
        classes = 700 if "k700" in source.id else 710 if "k710" in source.id else 400
        assert source.head_parameters == 2049 * classes
        assert f"kinetics{classes}" in source.where
        assert any(f"Kinetics-{classes}" in data for data in source.trained_on)
        same = SOURCES.get(next(n for n in EACH if n.startswith(f"{source.architecture}.")))
        assert source.parameters is not None
        assert same.parameters is not None
        rest = same.parameters - same.head_parameters
        assert source.parameters - source.head_parameters == rest


def test_the_inputs_are_those_of_mmactions_configurations() -> None:
    for source in OURS:
        ported = "/vmz/" in source.where and source.id != "ipcsn_r152.ig65m_k400"
        assert source.input.mean[0] == pytest.approx(110.2008 / 255 if ported else 123.675 / 255)
        assert source.input.sd[2] == pytest.approx(55.332195 / 255 if ported else 57.375 / 255)


def test_other_networks_have_no_such_names() -> None:
    with pytest.raises(SourceError, match=r"'mmaction-resnet3d' names tensors of ircsn, ipcsn"):
        KEY_LAYOUTS["mmaction-resnet3d"]("csn_r101")
