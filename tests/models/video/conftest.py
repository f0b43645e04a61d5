"""The public implementations of convolutional video networks, with weights worth comparing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

TORCHVISION = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d")
HUB = (
    "slow_r50",
    "c2d_r50",
    "i3d_r50",
    "r2plus1d_r50",
    "csn_r101",
    "slowfast_r50",
    "slowfast_r101",
    "slowfast_16x8_r101_50_50",
    "x3d_xs",
    "x3d_s",
    "x3d_m",
    "x3d_l",
)
"""Networks of pytorchvideo.models.hub."""

HARA = {
    18: ("basic", [2, 2, 2, 2]),
    34: ("basic", [3, 4, 6, 3]),
    50: ("bottleneck", [3, 4, 6, 3]),
    101: ("bottleneck", [3, 4, 23, 3]),
    152: ("bottleneck", [3, 8, 36, 3]),
    200: ("bottleneck", [3, 24, 36, 3]),
}
"""Blocks of kenshohara/3D-ResNets-PyTorch, models/resnet.py."""

_POOL = torch.randn(99_991, generator=torch.Generator().manual_seed(0))


def _values(shape: tuple[int, ...], shift: int) -> Tensor:
    """Return pseudo-random numbers, read from a fixed pool: drawing millions takes too long."""
    count = int(torch.tensor(shape).prod())
    pool = _POOL.roll(shift)
    return pool.repeat(-(-count // len(pool)))[:count].reshape(shape)


def fill(network: nn.Module) -> nn.Module:
    """Give a network weights and running statistics under which no layer is trivial."""
    network.to_empty(device="cpu")
    for index, (name, tensor) in enumerate(network.state_dict().items()):
        values = _values(tuple(tensor.shape), 977 * index) if tensor.ndim else None
        if values is None:
            tensor.zero_()
        elif tensor.ndim > 1:
            tensor.copy_(values * (2.0 / tensor[0].numel()) ** 0.5)
        elif name.endswith("running_var"):
            tensor.copy_(1.0 + values.abs())
        elif name.endswith("weight"):
            tensor.copy_(1.0 + 0.2 * values)
        else:
            tensor.copy_(0.2 * values)
    return network.eval()


@pytest.fixture(scope="session")
def filled() -> Callable[[nn.Module], nn.Module]:
    return fill


def _r2plus1d_34(num_classes: int) -> nn.Module:
    """Build the network as moabitcoin/ig65m-pytorch does, whose weights are published."""
    from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D, R2Plus1dStem, VideoResNet

    network = VideoResNet(
        BasicBlock, [Conv2Plus1D] * 4, [3, 4, 6, 3], R2Plus1dStem, num_classes=num_classes
    )
    network.layer2[0].conv2[0] = Conv2Plus1D(128, 128, 288)
    network.layer3[0].conv2[0] = Conv2Plus1D(256, 256, 576)
    network.layer4[0].conv2[0] = Conv2Plus1D(512, 512, 1152)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps, module.momentum = 1e-3, 0.9
    return network


def _hara(layers: int, classes: int = 400) -> nn.Module:
    """Build Hara's network with MONAI's class, which descends from his code."""
    from monai.networks.nets.resnet import ResNet

    block, blocks = HARA[layers]
    return ResNet(
        block,
        blocks,
        [64, 128, 256, 512],
        conv1_t_size=7,
        conv1_t_stride=(1, 2, 2),
        num_classes=classes,
        bias_downsample=False,
    )


@pytest.fixture(scope="session")
def references() -> dict[str, Callable[..., nn.Module]]:
    """Builders of the originals, by our names; each takes ``classes``."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        from pytorchvideo.models import hub, resnet, slowfast

    def of_torchvision(name: str, classes: int = 400) -> nn.Module:
        return getattr(torchvision.models.video, name)(num_classes=classes)

    def of_hub(name: str, classes: int = 400, **options: Any) -> nn.Module:
        return getattr(hub, name)(model_num_class=classes, **options)

    def slow_r101(classes: int = 400) -> nn.Module:
        network = resnet.create_resnet(
            model_depth=101, stem_conv_kernel_size=(1, 7, 7), model_num_class=classes
        )
        # The published weights are mmaction2's, whose head averages the whole map.
        network.blocks[5].pool = nn.AdaptiveAvgPool3d(1)
        return network

    def slowfast_4x16_r50(classes: int = 400) -> nn.Module:
        return slowfast.create_slowfast(
            slowfast_fusion_conv_kernel_size=(5, 1, 1),
            slowfast_fusion_conv_stride=(8, 1, 1),
            head_pool_kernel_sizes=((4, 7, 7), (32, 7, 7)),
            model_num_class=classes,
        )

    return {
        **{name: partial(of_torchvision, name) for name in TORCHVISION},
        **{name: partial(of_hub, name) for name in HUB},
        **{f"hara_resnet{layers}_3d": partial(_hara, layers) for layers in HARA},
        "r2plus1d_34": lambda classes=400: _r2plus1d_34(classes),
        "slow_r101": slow_r101,
        "slowfast_4x16_r50": slowfast_4x16_r50,
    }


@pytest.fixture
def two_blocks_a_stage(monkeypatch: pytest.MonkeyPatch, references: object) -> None:
    """Let PyTorchVideo build its residual networks with two blocks in each stage."""
    from pytorchvideo.models import resnet, slowfast

    for module in (resnet, slowfast):
        for depth in (50, 101):
            monkeypatch.setitem(module._MODEL_STAGE_DEPTH, depth, (2, 2, 2, 2))
