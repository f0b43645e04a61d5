"""A plain 3D ResNet, designed for volumes rather than derived from a 2D network."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.errors import ModelError
from voxgraft.models.declaration import Declaration
from voxgraft.models.depth import DepthGeometry
from voxgraft.models.initialization import initialize_convolutions, kaiming_fan_out, seeded
from voxgraft.models.layers.convolution import Conv3d
from voxgraft.models.layers.pooling import GlobalPool3d
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.twin import check_options, preferred_size

_WIDTHS = (64, 128, 256, 512)
_SPATIAL_STRIDE = 16
_DEFAULT_DEPTH_STRIDE = 8
_TRUNK = ("conv1", "bn1", "act1", "layer1", "layer2", "layer3", "layer4")


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions around a shortcut."""

    expansion = 1

    def __init__(
        self, in_channels: int, width: int, stride: int, reduction: int, depth: DepthGeometry
    ) -> None:
        """Make the block; only its first convolution has the stride."""
        super().__init__()
        self.conv1 = _convolution("conv1", in_channels, width, 3, stride, reduction, depth)
        self.bn1 = nn.BatchNorm3d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = _convolution("conv2", width, width, 3, 1, reduction * stride, depth)
        self.bn2 = nn.BatchNorm3d(width)
        self.act2 = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, width, stride, reduction, depth)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f i j k"]:
        """Add the residual and activate."""
        residual = self.bn2(self.conv2(self.act1(self.bn1(self.conv1(x)))))
        out: Tensor = self.act2(residual + self.downsample(x))
        return out


class Bottleneck(nn.Module):
    """A 3x3x3 convolution between two 1x1x1 ones, around a shortcut."""

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, reduction: int, depth: DepthGeometry
    ) -> None:
        """Make the block; its 3x3x3 convolution has the stride."""
        super().__init__()
        out = width * self.expansion
        self.conv1 = _convolution("conv1", in_channels, width, 1, 1, reduction, depth)
        self.bn1 = nn.BatchNorm3d(width)
        self.act1 = nn.ReLU(inplace=True)
        self.conv2 = _convolution("conv2", width, width, 3, stride, reduction, depth)
        self.bn2 = nn.BatchNorm3d(width)
        self.act2 = nn.ReLU(inplace=True)
        self.conv3 = _convolution("conv3", width, out, 1, 1, reduction * stride, depth)
        self.bn3 = nn.BatchNorm3d(out)
        self.act3 = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, out, stride, reduction, depth)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f i j k"]:
        """Add the residual and activate."""
        residual = self.act1(self.bn1(self.conv1(x)))
        residual = self.bn3(self.conv3(self.act2(self.bn2(self.conv2(residual)))))
        out: Tensor = self.act3(residual + self.downsample(x))
        return out


def _convolution(
    where: str,
    in_channels: int,
    out_channels: int,
    kernel: int,
    stride: int,
    reduction: int,
    depth: DepthGeometry,
) -> Conv3d:
    deep = depth.layer(where, kernel, stride, kernel // 2, 1, reduction)
    return Conv3d(
        in_channels,
        out_channels,
        (deep.kernel, kernel, kernel),
        stride=(deep.stride, stride, stride),
        padding=(deep.padding, kernel // 2, kernel // 2),
        bias=False,
        depth_padding=depth.padding,
    )


def _shortcut(
    in_channels: int, out_channels: int, stride: int, reduction: int, depth: DepthGeometry
) -> nn.Module:
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return nn.Sequential(
        _convolution("downsample.0", in_channels, out_channels, 1, stride, reduction, depth),
        nn.BatchNorm3d(out_channels),
    )


class PlainResNet(SequentialEncoder):
    """A 3D ResNet that reduces the plane by 16 and the depth by 8, and has no max pooling.

    With basic blocks of depths (2, 2, 2, 2) and three channels it is torchvision's ``r3d_18``.

    Source: arXiv:1711.11248, section 3.1 (R3D); the names of the tensors are those of 2D ResNets.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: tuple[int, int, int, int],
        *,
        in_channels: int,
        depth: DepthGeometry,
    ) -> None:
        """Make the network.

        Args:
            block: Class of the residual blocks.
            depths: Number of blocks in each of the four stages.
            in_channels: Channels of the volumes.
            depth: The depth options.
        """
        spatial = (2, 2, 4, 8, 16)
        strides = tuple((depth.reduction(s), s, s) for s in spatial)
        channels = tuple(width * block.expansion for width in _WIDTHS)
        declaration = Declaration(
            family="plain_resnet",
            stem="conv1.weight",
            head="fc",
            feature_channels=(_WIDTHS[0], *channels),
            strides=strides,
            num_features=channels[-1],
            min_size=(1, 1, 1),
            preferred_size=preferred_size(strides[-1]),
            twin_of=None,
        )
        super().__init__(
            declaration,
            trunk=_TRUNK,
            pool=("global_pool",),
            taps=_TRUNK[2:],
            in_channels=in_channels,
        )
        deep = 3 if depth.kernel == "full" else 1
        self.conv1 = Conv3d(
            in_channels,
            _WIDTHS[0],
            (deep, 7, 7),
            stride=(depth.reduction(2), 2, 2),
            padding=(deep // 2, 3, 3),
            bias=False,
            depth_padding=depth.padding,
        )
        self.bn1 = nn.BatchNorm3d(_WIDTHS[0])
        self.act1 = nn.ReLU(inplace=True)
        before, reduction = _WIDTHS[0], 2
        for stage, (width, count) in enumerate(zip(_WIDTHS, depths, strict=True), start=1):
            stride = 1 if stage == 1 else 2
            first = block(before, width, stride, reduction, depth)
            before, reduction = width * block.expansion, reduction * stride
            rest = [block(before, width, 1, reduction, depth) for _ in range(count - 1)]
            self.add_module(f"layer{stage}", nn.Sequential(first, *rest))
        self.global_pool = GlobalPool3d("avg", flatten=True)


def build_plain_resnet(
    block: Literal["basic", "bottleneck"],
    depths: tuple[int, int, int, int],
    *,
    in_channels: int = 1,
    depth_padding: str = "zeros",
    depth_kernel: str = "full",
    depth_stride: int | None = None,
    drop_path: float = 0.0,
    seed: int | None = None,
) -> PlainResNet:
    """Build a plain 3D ResNet with random weights.

    Args:
        block: ``"basic"`` or ``"bottleneck"``.
        depths: Number of blocks in each of the four stages.
        in_channels: Channels of the volumes.
        depth_padding: ``"zeros"`` or ``"replicate"``: what lies beyond the first and last slice.
        depth_kernel: ``"full"`` or ``"flat"``: whether kernels extend along depth.
        depth_stride: Total reduction along depth; by default 8, half of that of the plane.
        drop_path: Must be 0: these networks have no stochastic depth.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    check_options(in_channels, drop_path)
    if drop_path > 0:
        raise ModelError(
            f"drop_path is {drop_path}, but a plain ResNet has no stochastic depth. Set it to 0, "
            "or choose a network of another family."
        )
    total = _DEFAULT_DEPTH_STRIDE if depth_stride is None else depth_stride
    depth = DepthGeometry.resolve(depth_kernel, depth_padding, total, _SPATIAL_STRIDE)
    with seeded(seed):
        kind = BasicBlock if block == "basic" else Bottleneck
        network = PlainResNet(kind, depths, in_channels=in_channels, depth=depth)
        initialize_convolutions(network, kaiming_fan_out)
    return network
