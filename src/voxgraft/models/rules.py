"""The rules by which each 2D layer of timm becomes its 3D counterpart.

Every module of a network must be of a class that has a rule here, or of one that is known to work
on volumes as it is (``dimension_free``). Anything else raises: an unknown layer is never guessed
at. No class of timm is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from timm.layers.adaptive_avgmax_pool import (
    FastAdaptiveAvgMaxPool,
    FastAdaptiveAvgPool,
    FastAdaptiveCatAvgMaxPool,
    FastAdaptiveMaxPool,
)
from timm.layers.blur_pool import BlurPool2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.eca import EcaModule
from timm.layers.grn import GlobalResponseNorm
from timm.layers.layer_scale import LayerScale2d
from timm.layers.norm import LayerNorm2d
from timm.layers.norm_act import BatchNormAct2d
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.squeeze_excite import EffectiveSEModule, SEModule
from timm.models import _efficientnet_blocks as blocks
from timm.models import convnext
from torch import nn

from voxgraft.errors import ModelError, raise_faults
from voxgraft.models.depth import DepthGeometry
from voxgraft.models.dimension_free import DIMENSION_FREE
from voxgraft.models.layers.acs import AcsConv3d
from voxgraft.models.layers.blur import BlurPool3d
from voxgraft.models.layers.convnext_block import ConvNeXtBlock3d
from voxgraft.models.layers.convolution import Conv3d
from voxgraft.models.layers.normalization import (
    BatchNormAct3d,
    ChannelLayerNorm,
    GlobalResponseNorm3d,
    LayerScale3d,
)
from voxgraft.models.layers.pooling import AvgPool3d, GlobalPool3d, GlobalPooling, MaxPool3d
from voxgraft.models.layers.squeeze_excite import (
    EffectiveSEModule3d,
    EfficientChannelAttention3d,
    SEModule3d,
    SqueezeExcite3d,
)
from voxgraft.types import Size3


@dataclass(frozen=True)
class Place:
    """Where a layer stands in its network.

    Attributes:
        path: Name of the module.
        reduction: Reduction of the layer's input in the plane, against the network's input.
        depth: The network's depth options.
    """

    path: str
    reduction: int
    depth: DepthGeometry


# timm is untyped: its layers are read through Any.
Rule = Callable[[Any, Place], nn.Module]


def _pair(value: int | tuple[int, ...] | list[int], path: str) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))
    if height != width:
        raise ModelError(
            f"{path} has {height} along height and {width} along width; only square layers have a "
            "rule. Choose another network."
        )
    return height, width


@dataclass(frozen=True)
class _Geometry:
    kernel: Size3
    stride: Size3
    padding: Size3
    dilation: Size3


def _geometry(layer: Any, place: Place) -> _Geometry:
    path = place.path
    if isinstance(layer.padding, str):
        raise ModelError(f"{path} has padding {layer.padding!r}, which has no rule.")
    kernel, stride, padding, dilation = (
        _pair(value, path)
        for value in (layer.kernel_size, layer.stride, layer.padding, getattr(layer, "dilation", 1))
    )
    deep = place.depth.layer(path, kernel[0], stride[0], padding[0], dilation[0], place.reduction)
    return _Geometry(
        (deep.kernel, *kernel),
        (deep.stride, *stride),
        (deep.padding, *padding),
        (deep.dilation, *dilation),
    )


def _convolution(layer: Any, place: Place) -> nn.Module:
    if layer.padding_mode != "zeros":
        raise ModelError(
            f"{place.path} has padding_mode {layer.padding_mode!r}; only 'zeros' has a rule. "
            "Choose another network."
        )
    geometry = _geometry(layer, place)
    if place.depth.convolution == "acs":
        return _acs_convolution(layer, place, geometry)
    return Conv3d(
        layer.in_channels,
        layer.out_channels,
        geometry.kernel,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        groups=layer.groups,
        bias=layer.bias is not None,
        same=isinstance(layer, Conv2dSame),
        depth_padding=place.depth.padding,
    )


def _acs_convolution(layer: Any, place: Place, geometry: _Geometry) -> nn.Module:
    for axes in (geometry.kernel, geometry.padding, geometry.dilation):
        if len(set(axes)) > 1:
            raise ModelError(
                f"{place.path} cuts the plane into patches of {geometry.kernel[1:]} and, with this "
                f"depth_stride, the depth into {geometry.kernel[0]}: its 2D kernels do not fit "
                "into the other planes. Leave depth_stride out, or choose convolution='full'."
            )
    return AcsConv3d(
        layer.in_channels,
        layer.out_channels,
        geometry.kernel[0],
        stride=geometry.stride,
        padding=geometry.padding[0],
        dilation=geometry.dilation[0],
        groups=layer.groups,
        bias=layer.bias is not None,
        same=isinstance(layer, Conv2dSame),
        depth_padding=place.depth.padding,
    )


def _max_pool(layer: Any, place: Place) -> nn.Module:
    geometry = _geometry(layer, place)
    return MaxPool3d(
        geometry.kernel,
        stride=geometry.stride,
        padding=geometry.padding,
        dilation=geometry.dilation,
        ceil_mode=layer.ceil_mode,
        same=isinstance(layer, MaxPool2dSame),
    )


def _avg_pool(layer: Any, place: Place) -> nn.Module:
    geometry = _geometry(layer, place)
    return AvgPool3d(
        geometry.kernel,
        stride=geometry.stride,
        padding=geometry.padding,
        ceil_mode=layer.ceil_mode,
        count_include_pad=layer.count_include_pad,
        same=isinstance(layer, AvgPool2dSame),
        depth_padding=place.depth.padding,
    )


def _global_pool(kind: GlobalPooling) -> Rule:
    def rule(layer: Any, place: Place) -> nn.Module:
        output = getattr(layer, "output_size", 1)
        if output not in (1, (1, 1)):
            raise ModelError(
                f"{place.path} pools to {output!r}; only pooling to one value has a rule. "
                "Choose another network."
            )
        return GlobalPool3d(kind, flatten=getattr(layer, "flatten", False))

    return rule


def _batch_norm(layer: Any, place: Place) -> nn.Module:
    return nn.BatchNorm3d(
        layer.num_features,
        layer.eps,
        layer.momentum,
        layer.affine,
        layer.track_running_stats,
    )


def _batch_norm_act(layer: Any, place: Place) -> nn.Module:
    return BatchNormAct3d(
        layer.num_features,
        eps=layer.eps,
        momentum=layer.momentum,
        affine=layer.affine,
        track_running_stats=layer.track_running_stats,
        drop=layer.drop,
        act=layer.act,
    )


def _layer_norm(layer: Any, place: Place) -> nn.Module:
    return ChannelLayerNorm(layer.normalized_shape, layer.eps, layer.elementwise_affine)


def _response_norm(layer: Any, place: Place) -> nn.Module:
    return GlobalResponseNorm3d(
        layer.weight.numel(), eps=layer.eps, channels_last=layer.channel_dim == -1
    )


def _blur_pool(layer: Any, place: Place) -> nn.Module:
    deep = place.depth.layer(
        place.path, layer.filt_size, layer.stride, int(layer.padding[0]), 1, place.reduction
    )
    return BlurPool3d(
        layer.filt_size,
        (deep.stride, layer.stride, layer.stride),
        padding=int(layer.padding[0]),
        pad_mode=layer.pad_mode,
        flat=deep.kernel == 1,
    )


def _convnext_block(block: Any, place: Place) -> nn.Module:
    return ConvNeXtBlock3d(
        block.conv_dw,
        block.norm,
        block.mlp,
        block.gamma,
        block.shortcut,
        block.drop_path,
        conv_mlp=block.use_conv_mlp,
    )


RULES: Mapping[type[nn.Module], Rule] = {
    nn.Conv2d: _convolution,
    Conv2dSame: _convolution,
    nn.MaxPool2d: _max_pool,
    MaxPool2dSame: _max_pool,
    nn.AvgPool2d: _avg_pool,
    AvgPool2dSame: _avg_pool,
    nn.AdaptiveAvgPool2d: _global_pool("avg"),
    nn.AdaptiveMaxPool2d: _global_pool("max"),
    FastAdaptiveAvgPool: _global_pool("avg"),
    FastAdaptiveMaxPool: _global_pool("max"),
    FastAdaptiveAvgMaxPool: _global_pool("avgmax"),
    FastAdaptiveCatAvgMaxPool: _global_pool("catavgmax"),
    nn.BatchNorm2d: _batch_norm,
    BatchNormAct2d: _batch_norm_act,
    LayerNorm2d: _layer_norm,
    GlobalResponseNorm: _response_norm,
    blocks.SqueezeExcite: lambda se, _: SqueezeExcite3d(
        se.conv_reduce, se.act1, se.conv_expand, se.gate
    ),
    SEModule: lambda se, _: SEModule3d(
        se.fc1, se.bn, se.act, se.fc2, se.gate, add_maxpool=se.add_maxpool
    ),
    EffectiveSEModule: lambda se, _: EffectiveSEModule3d(
        se.fc, se.gate, add_maxpool=se.add_maxpool
    ),
    EcaModule: lambda eca, _: EfficientChannelAttention3d(eca.conv, eca.act, eca.conv2, eca.gate),
    LayerScale2d: lambda scale, _: LayerScale3d(scale.gamma),
    BlurPool2d: _blur_pool,
    convnext.ConvNeXtBlock: _convnext_block,
}
"""From a class of 2D layers to the rule that makes the 3D layer.

A rule is given the 2D layer with its submodules already converted.
"""


def modules_without_rule(network: nn.Module) -> list[str]:
    """Name each module of a 2D network that no rule covers, with its class."""
    return [
        f"{path or '(the network)'}: {type(module).__module__}.{type(module).__qualname__}"
        for path, module in network.named_modules()
        if type(module) not in RULES and type(module) not in DIMENSION_FREE
    ]


def convert_layers(
    network: nn.Module, name: str, depth: DepthGeometry, reductions: Mapping[str, int]
) -> None:
    """Replace each 2D layer of a network by its 3D counterpart, in place.

    Args:
        network: A network of timm, without classifier.
        name: Its name, for messages.
        depth: The depth options.
        reductions: For each layer with a stride, the reduction of its input in the plane.

    Raises:
        ModelError: If a module has no rule; all such modules are named.
    """
    faults = modules_without_rule(network)
    if faults:
        raise_faults(
            ModelError,
            f"{name} has no 3D twin: some of its modules have no 3D rule",
            faults,
            "Choose a network of the registry (`voxgraft models`).",
        )
    _convert_children(network, "", depth, reductions)


def _convert_children(
    parent: nn.Module, prefix: str, depth: DepthGeometry, reductions: Mapping[str, int]
) -> None:
    for child_name, child in list(parent.named_children()):
        path = f"{prefix}{child_name}"
        _convert_children(child, f"{path}.", depth, reductions)
        rule = RULES.get(type(child))
        if rule is not None:
            place = Place(path, reductions.get(path, 1), depth)
            setattr(parent, child_name, rule(child, place))
