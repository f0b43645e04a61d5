"""The encoders of nnU-Net's networks: the plain one, and the residual one (ResEnc)."""

from __future__ import annotations

from itertools import accumulate
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from voxgraft.models.declaration import Declaration
from voxgraft.models.initialization import Convolution, initialize_convolutions, seeded
from voxgraft.models.layers.pooling import GlobalPool3d
from voxgraft.models.orientation import AXES, Oriented
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.models.volumetric.nnunet_plan import NnUNetPlan
from voxgraft.types import Size3

_SLOPE = 0.01  # of LeakyReLU
_UNIT: Size3 = (1, 1, 1)


def leaky_kaiming(conv: Convolution) -> None:
    """Draw the weight as nnU-Net does.

    Source: arXiv:1502.01852, equation 15, for a slope of 0.01, normal distribution.
    """
    nn.init.kaiming_normal_(conv.weight, a=_SLOPE)


class ConvNorm(nn.Module):
    """A convolution and instance normalization, and LeakyReLU where asked for."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: Size3,
        stride: Size3 = _UNIT,
        *,
        bias: bool = True,
        act: bool = True,
    ) -> None:
        """Make the layers."""
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        self.conv = nn.Conv3d(before, after, kernel, stride, padding, bias=bias)
        self.norm = nn.InstanceNorm3d(after, affine=True)
        self.nonlin = nn.LeakyReLU(_SLOPE, inplace=True) if act else None

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f i j k"]:
        """Convolve, normalize, activate."""
        x = self.norm(self.conv(x))
        return x if self.nonlin is None else self.nonlin(x)


class ConvStack(nn.Module):
    """Convolutions one after the other, of which the first has the stride."""

    def __init__(
        self, count: int, before: int, after: int, kernel: Size3, stride: Size3 = _UNIT
    ) -> None:
        """Make the layers."""
        super().__init__()
        first = ConvNorm(before, after, kernel, stride)
        rest = [ConvNorm(after, after, kernel) for _ in range(count - 1)]
        self.convs = nn.Sequential(first, *rest)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f i j k"]:
        """Run the convolutions."""
        out: Tensor = self.convs(x)
        return out


class MeanPool(nn.Module):
    """Means of boxes side by side; those at the far border may be smaller."""

    def __init__(self, size: Size3) -> None:
        """Make the layer."""
        super().__init__()
        self.size = size

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c i j k"]:
        """Pool."""
        box = [min(pair) for pair in zip(self.size, x.shape[2:], strict=True)]
        return functional.avg_pool3d(x, box, self.size, ceil_mode=True)


class BasicBlockD(nn.Module):
    """Two convolutions around a shortcut that pools before it projects.

    Source: arXiv:1812.01187, section 4 (ResNet-D). The pooling rounds a map up, as the convolution
    beside it does; the original takes maps that are multiples of the stride only.
    """

    def __init__(self, before: int, after: int, kernel: Size3, stride: Size3 = _UNIT) -> None:
        """Make the block."""
        super().__init__()
        self.conv1 = ConvNorm(before, after, kernel, stride)
        self.conv2 = ConvNorm(after, after, kernel, act=False)
        self.nonlin2 = nn.LeakyReLU(_SLOPE, inplace=True)
        shortcut: list[nn.Module] = []
        if stride != _UNIT:
            shortcut.append(MeanPool(stride))
        if before != after:
            shortcut.append(ConvNorm(before, after, _UNIT, bias=False, act=False))
        self.skip = nn.Sequential(*shortcut)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f i j k"]:
        """Add the residual and activate."""
        out: Tensor = self.nonlin2(self.conv2(self.conv1(x)) + self.skip(x))
        return out


class ResidualStack(nn.Module):
    """Residual blocks one after the other, of which the first has the stride."""

    def __init__(self, count: int, before: int, after: int, kernel: Size3, stride: Size3) -> None:
        """Make the blocks."""
        super().__init__()
        first = BasicBlockD(before, after, kernel, stride)
        rest = [BasicBlockD(after, after, kernel) for _ in range(count - 1)]
        self.blocks = nn.Sequential(first, *rest)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f i j k"]:
        """Run the blocks."""
        out: Tensor = self.blocks(x)
        return out


class NnUNetEncoder(Oriented, SequentialEncoder):
    """The contracting path of an nnU-Net, with a mean at its end.

    Tensors are named as in ``encoder`` of the original, each once. Inputs need not be multiples of
    the strides: maps are rounded up.

    Source: arXiv:1904.08128 (plain), arXiv:2404.09556 (residual), and the package
    ``dynamic_network_architectures``.
    """

    def __init__(
        self, kind: Literal["plain", "residual"], plan: NnUNetPlan, *, in_channels: int
    ) -> None:
        """Make the network."""
        residual = kind == "residual"
        stages = tuple(f"stages.{index}" for index in range(len(plan.features)))
        strides = tuple(
            accumulate(plan.strides, lambda a, b: (a[0] * b[0], a[1] * b[1], a[2] * b[2]))
        )
        # Instance normalization needs two voxels, also in the deepest map.
        smallest: Size3 = (1, 1, strides[-1][2] + 1)
        declaration = Declaration(
            family="nnunet",
            stem=f"{'stem' if residual else 'stages.0.0'}.convs.0.conv.weight",
            head="decoder",
            feature_channels=plan.features,
            strides=strides,
            num_features=plan.features[-1],
            min_size=smallest,
            preferred_size=preferred_size(strides[-1]),
            twin_of=None,
            native="volume",
            reference="dynamic_network_architectures."
            + ("ResidualEncoderUNet.encoder" if residual else "PlainConvUNet.encoder"),
        )
        super().__init__(
            declaration,
            trunk=("stem", *stages) if residual else stages,
            pool=("global_pool",),
            taps=stages,
            in_channels=in_channels,
        )
        self.kind = kind
        self.plan = plan
        before = in_channels
        if residual:
            self.stem = ConvStack(1, in_channels, plan.features[0], plan.kernels[0])
            before = plan.features[0]
        layers: list[nn.Module] = []
        for width, count, kernel, stride in zip(
            plan.features, plan.blocks, plan.kernels, plan.strides, strict=True
        ):
            if residual:
                layers.append(ResidualStack(count, before, width, kernel, stride))
            else:
                layers.append(nn.Sequential(ConvStack(count, before, width, kernel, stride)))
            before = width
        self.stages = nn.Sequential(*layers)
        self.global_pool = GlobalPool3d("avg", flatten=True)


def build_nnunet(
    kind: Literal["plain", "residual"],
    default: NnUNetPlan,
    *,
    in_channels: int = 1,
    features: object = None,
    blocks: object = None,
    kernels: object = None,
    strides: object = None,
    axes: str = AXES,
    seed: int | None = None,
) -> NnUNetEncoder:
    """Build the encoder of an nnU-Net with random weights.

    The lists are those of a ``plans.json``, one entry a stage; what is left out is the network's
    own, where the number of stages is the same.

    Args:
        kind: ``"plain"`` or ``"residual"``.
        default: What a list that is left out has.
        in_channels: Channels of the volumes.
        features: Channels of each stage (``features_per_stage``).
        blocks: Convolutions or residual blocks in each stage (``n_conv_per_stage``,
            ``n_blocks_per_stage``).
        kernels: Kernel of each stage (``kernel_sizes``), (depth, height, width), odd.
        strides: Stride at the start of each stage (``strides``), (depth, height, width).
        axes: Directions to which the axes of the volumes ran in training ("RAS"); each volume is
            turned to them. The lists are along these axes.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible; all that is wrong with the lists is named.
    """
    check_options(in_channels, 0.0)
    plan = default.changed(features=features, blocks=blocks, kernels=kernels, strides=strides)
    with seeded(seed):
        network = NnUNetEncoder(kind, plan, in_channels=in_channels)
        initialize_convolutions(network, leaky_kaiming)
    for module in network.modules():
        if isinstance(module, BasicBlockD):
            nn.init.zeros_(module.conv2.norm.weight)
    network.set_axes(axes)
    return network
