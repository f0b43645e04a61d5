"""Each 3D layer against its 2D original, and against PyTorch's where there is one."""

import pytest
import torch
from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
from timm.layers.blur_pool import BlurPool2d
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.eca import EcaModule
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from timm.layers.squeeze_excite import EffectiveSEModule, SEModule
from torch import nn
from torch.nn import functional as F

from voxgraft.errors import ModelError
from voxgraft.models.depth import DepthGeometry
from voxgraft.models.layers.convolution import Conv3d
from voxgraft.models.layers.padding import pad_depth, same_padding
from voxgraft.models.layers.pooling import AvgPool3d, GlobalPool3d, MaxPool3d
from voxgraft.models.rules import RULES, Place

DEPTH = DepthGeometry.resolve("full", "replicate", 8, 8)


def convert(layer: nn.Module) -> nn.Module:
    for name, child in list(layer.named_children()):
        setattr(layer, name, convert(child))
    rule = RULES.get(type(layer))
    return rule(layer, Place("layer", 1, DEPTH)) if rule else layer


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.MaxPool2d(3, 2, 1),
        lambda: nn.MaxPool2d(2, 2, ceil_mode=True),
        lambda: MaxPool2dSame(3, 2),
        lambda: nn.AvgPool2d(3, 2, 1),
        lambda: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        lambda: nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
        lambda: AvgPool2dSame(3, 2),
        lambda: BlurPool2d(6, 3, 2),
        lambda: BlurPool2d(None, 5, 2),
        lambda: nn.BatchNorm2d(6),
        lambda: SEModule(6, rd_channels=2),
        lambda: SEModule(6, rd_channels=2, add_maxpool=True, norm_layer=nn.BatchNorm2d),
        lambda: EffectiveSEModule(6, add_maxpool=True),
        lambda: EcaModule(6),
        lambda: EcaModule(64, use_mlp=True, rd_channels=4),
        lambda: SelectAdaptivePool2d(pool_type="fastavg", flatten=True),
        lambda: SelectAdaptivePool2d(pool_type="fastmax"),
        lambda: SelectAdaptivePool2d(pool_type="fastavgmax"),
        lambda: SelectAdaptivePool2d(pool_type="fastcatavgmax", flatten=True),
        lambda: SelectAdaptivePool2d(pool_type="max", flatten=True),
    ],
)
@pytest.mark.parametrize("size", [9, 12])
def test_a_volume_constant_along_depth_gives_the_2d_layers_values(build, size) -> None:
    torch.manual_seed(0)
    layer = build().eval()
    channels = 64 if getattr(layer, "conv2", None) is not None else 6
    image = torch.randn(2, channels, size, size + 2)
    expected = layer(image)
    flat = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    deep = convert(layer).eval()
    # The 2D kernels here are 1x1: one slice makes them 3D.
    deep.load_state_dict({n: t.unsqueeze(2) if t.ndim == 4 else t for n, t in flat.items()})
    found = deep(image.unsqueeze(2).expand(-1, -1, size, -1, -1))
    if found.ndim == 5:
        expected = expected.unsqueeze(2).expand_as(found)
    assert torch.allclose(found, expected, atol=1e-6)


def test_depth_is_pooled_as_height_is() -> None:
    volume = torch.randn(2, 3, 7, 9, 8)
    turned = volume.transpose(2, 3)
    for layer in (
        MaxPool3d((3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1)),
        MaxPool3d((3, 3, 3), stride=(2, 2, 2), same=True),
        AvgPool3d((3, 3, 3), stride=(2, 2, 2), padding=(1, 1, 1)),
        AvgPool3d((3, 3, 3), stride=(2, 2, 2), same=True),
        Conv3d(3, 3, (1, 1, 1), stride=(2, 2, 2)),
    ):
        assert torch.allclose(layer(turned), layer(volume).transpose(2, 3), atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_same_padding_is_that_of_timm_on_each_axis(kernel, stride) -> None:
    torch.manual_seed(0)
    flat = Conv2dSame(2, 3, kernel, stride=stride)
    for size in (5, 6, 7, 8):
        image = torch.randn(1, 2, size, 9)
        expected = flat(image)
        deep = Conv3d(2, 3, (kernel, 1, kernel), stride=(stride, 1, stride), same=True)
        deep.load_state_dict({"weight": flat.weight.unsqueeze(3), "bias": flat.bias})
        assert torch.allclose(deep(image.unsqueeze(3))[:, :, :, 0], expected, atol=1e-6)
    assert sum(same_padding(7, kernel, stride, 1)) >= kernel - stride


def test_replicated_slices_are_the_border_slices() -> None:
    volume = torch.arange(3.0).view(1, 1, 3, 1, 1)
    assert pad_depth(volume, 2, 1, "replicate").flatten().tolist() == [0, 0, 0, 1, 2, 2]
    assert pad_depth(volume, 1, 2, "zeros").flatten().tolist() == [0, 0, 1, 2, 0, 0]
    assert pad_depth(volume, 0, 0, "replicate") is volume


def test_a_convolution_with_replicated_slices_equals_one_on_a_padded_volume() -> None:
    torch.manual_seed(0)
    layer = Conv3d(2, 4, (5, 3, 3), padding=(2, 1, 1), depth_padding="replicate")
    volume = torch.randn(1, 2, 3, 6, 6)
    padded = F.pad(volume, (0, 0, 0, 0, 2, 2), mode="replicate")
    expected = F.conv3d(padded, layer.weight, layer.bias, padding=(0, 1, 1))
    assert torch.allclose(layer(volume), expected, atol=1e-6)


def test_global_pooling_by_hand() -> None:
    volume = torch.tensor([[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]]).view(1, 2, 3, 1, 1)
    pooled = {
        "avg": [3.0, 1.0],
        "max": [6.0, 3.0],
        "avgmax": [4.5, 2.0],
        "catavgmax": [3.0, 1.0, 6.0, 3.0],
    }
    for kind, expected in pooled.items():
        assert GlobalPool3d(kind, flatten=True)(volume).tolist() == [expected]
        assert GlobalPool3d(kind, flatten=False)(volume).shape == (1, len(expected), 1, 1, 1)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Conv2d(2, 2, (1, 7), padding=(0, 3)), "has 1 along height and 7 along width"),
        (nn.Conv2d(2, 2, 3, padding="same"), "padding 'same', which has no rule"),
        (nn.Conv2d(2, 2, 3, padding_mode="reflect"), "padding_mode 'reflect'; only 'zeros'"),
        (nn.AdaptiveAvgPool2d(2), "pools to 2; only pooling to one value has a rule"),
    ],
)
def test_layers_of_another_kind_are_refused(layer, message) -> None:
    with pytest.raises(ModelError, match=f"layer .*{message}"):
        convert(layer)
