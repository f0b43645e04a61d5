"""The convolutional families of timm that have 3D twins: how each is laid out and initialized."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from timm.layers.blur_pool import BlurPool2d
from timm.models.convnext import ConvNeXt
from timm.models.densenet import DenseNet
from timm.models.efficientnet import EfficientNet
from timm.models.mobilenetv3 import MobileNetV3
from timm.models.regnet import RegNet
from timm.models.resnet import ResNet
from torch import nn

from voxgraft.models.initialization import (
    Initialization,
    grouped_fan_out,
    kaiming_fan_in,
    kaiming_fan_out,
    truncated_normal,
)

Layout = tuple[tuple[str, ...], tuple[str, ...]]
"""Names of the modules from the input to the final features, and from there to the vector."""


def _children(network: nn.Module, path: str) -> list[str]:
    return [f"{path}.{name}" for name, _ in network.get_submodule(path).named_children()]


def _resnet(network: nn.Module) -> Layout:
    stem = ("conv1", "bn1", "act1", "maxpool")
    return (*stem, "layer1", "layer2", "layer3", "layer4"), ("global_pool",)


def _densenet(network: nn.Module) -> Layout:
    return tuple(_children(network, "features")), ("global_pool",)


def _efficientnet(network: nn.Module) -> Layout:
    trunk = ("conv_stem", "bn1", *_children(network, "blocks"), "conv_head", "bn2")
    return trunk, ("global_pool",)


def _mobilenetv3(network: nn.Module) -> Layout:
    trunk = ("conv_stem", "bn1", *_children(network, "blocks"))
    return trunk, ("global_pool", "conv_head", "norm_head", "act2", "flatten")


def _convnext(network: nn.Module) -> Layout:
    # A head that normalizes first is a plain one: its norm is norm_pre.
    head = [name for name, _ in network.get_submodule("head").named_children()]
    order = ("global_pool", "norm", "flatten", "pre_logits")
    pool = tuple(f"head.{name}" for name in order if name in head)
    return ("stem", *_children(network, "stages"), "norm_pre"), pool


def _regnet(network: nn.Module) -> Layout:
    return ("stem", "s1", "s2", "s3", "s4", "final_conv"), ("head.global_pool",)


def _min_padded(network: nn.Module, strides: tuple[int, ...]) -> int:
    """Every strided convolution is padded: one voxel stays one voxel.

    The mean pooling in the shortcuts of "d" networks, which rounds up, needs its two voxels once
    more. Of networks with other pooling before a stride, which are not in the registry, this is a
    size that suffices.
    """
    pools = [module for module in network.modules() if isinstance(module, nn.AvgPool2d)]
    blurs = any(isinstance(module, BlurPool2d) for module in network.modules())
    if strides[-1] == 1:
        return 1
    if blurs or not all(pool.ceil_mode for pool in pools):
        return strides[-1]
    return strides[-2] + 1 if pools and strides[-1] > strides[-2] else 1


def _min_patches(network: nn.Module, strides: tuple[int, ...]) -> int:
    """No strided layer is padded: the last map's one position is a whole patch of the input."""
    return strides[-1]


def _min_transitions(network: nn.Module, strides: tuple[int, ...]) -> int:
    """The first two strided layers are padded (rounding up), the transitions are not (down)."""
    for size in range(1, strides[-1] + 1):
        left, before = size, 1
        for stage, stride in enumerate(strides):
            step = stride // before
            left = -(-left // step) if stage < 2 else left // step
            before = stride
        if left >= 1:
            return size
    return strides[-1]


@dataclass(frozen=True)
class Family:
    """What the networks of one class of timm have in common.

    Attributes:
        name: Name of the family.
        layout: Gives the order of a network's modules.
        initialization: Draws a convolution's weight.
        drop_path: Whether timm's network offers stochastic depth.
        min_size: Gives a network's smallest input along an axis from the stages' strides there.
    """

    name: str
    layout: Callable[[nn.Module], Layout]
    initialization: Initialization
    drop_path: bool
    min_size: Callable[[nn.Module, tuple[int, ...]], int]


FAMILIES: Mapping[type[Any], Family] = {
    ResNet: Family("resnet", _resnet, kaiming_fan_out, True, _min_padded),
    DenseNet: Family("densenet", _densenet, kaiming_fan_in, False, _min_transitions),
    EfficientNet: Family("efficientnet", _efficientnet, grouped_fan_out, True, _min_padded),
    MobileNetV3: Family("mobilenetv3", _mobilenetv3, grouped_fan_out, True, _min_padded),
    ConvNeXt: Family("convnext", _convnext, truncated_normal, True, _min_patches),
    RegNet: Family("regnet", _regnet, grouped_fan_out, True, _min_padded),
}
"""From timm's class of a network to its family."""
