"""The classes of PyTorch and timm that work on volumes as they are."""

from __future__ import annotations

from timm.layers.activations import GELU, GELUTanh, Sigmoid
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.layers.classifier import ClassifierHead, NormMlpClassifierHead
from timm.layers.conv_bn_act import ConvNormAct
from timm.layers.drop import DropPath
from timm.layers.mlp import GlobalResponseNormMlp, Mlp
from timm.layers.norm import GroupNorm, GroupNorm1, LayerNorm
from timm.models import _efficientnet_blocks as blocks
from timm.models import convnext, densenet, efficientnet, mobilenetv3, regnet, resnet
from torch import nn

DIMENSION_FREE: frozenset[type[nn.Module]] = frozenset(
    {
        # Element by element, or over the last axis.
        nn.Identity,
        nn.ReLU,
        nn.ReLU6,
        nn.SiLU,
        nn.GELU,
        nn.Sigmoid,
        nn.Hardswish,
        nn.Hardsigmoid,
        nn.LeakyReLU,
        GELU,
        GELUTanh,
        Sigmoid,
        nn.Dropout,
        nn.Linear,
        nn.LayerNorm,
        LayerNorm,
        # From the second axis on, whatever follows.
        nn.Flatten,
        nn.GroupNorm,
        GroupNorm,
        GroupNorm1,
        # Over channels that were pooled before: the attention that runs it pools the volume.
        nn.Conv1d,
        # By sample.
        DropPath,
        # Containers whose forward only calls their submodules, adds and concatenates.
        nn.Sequential,
        Mlp,
        GlobalResponseNormMlp,
        ConvNormAct,
        SelectAdaptivePool2d,
        ClassifierHead,
        NormMlpClassifierHead,
        blocks.ConvBnAct,
        blocks.DepthwiseSeparableConv,
        blocks.InvertedResidual,
        blocks.EdgeResidual,
        blocks.UniversalInvertedResidual,
        resnet.BasicBlock,
        resnet.Bottleneck,
        densenet.DenseBlock,
        densenet.DenseLayer,
        densenet.DenseTransition,
        regnet.Bottleneck,
        regnet.RegStage,
        convnext.ConvNeXtStage,
        convnext.Downsample,
        # The networks themselves; their own forward is not used.
        resnet.ResNet,
        densenet.DenseNet,
        efficientnet.EfficientNet,
        mobilenetv3.MobileNetV3,
        convnext.ConvNeXt,
        regnet.RegNet,
    }
)
"""Matched exactly: a subclass is another class."""
