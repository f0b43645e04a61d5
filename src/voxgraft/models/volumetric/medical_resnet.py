"""The 3D ResNets of MedicalNet, Merlin and FMCIB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from voxgraft.errors import ModelError
from voxgraft.models.declaration import Declaration
from voxgraft.models.depth import check_choice
from voxgraft.models.initialization import initialize_convolutions, kaiming_fan_out, seeded
from voxgraft.models.layers.pooling import GlobalPool3d
from voxgraft.models.orientation import AXES, Oriented
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.types import Size3

Shortcut = Literal["A", "B"]
AnyShortcut = Shortcut | Literal["B with bias"]
Blocks = tuple[int, int, int, int]

_WIDTHS = (64, 128, 256, 512)
_TRUNK = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Geometry of one stage of blocks."""

    stride: int = 1
    dilation: int = 1


_PLAIN = (Stage(), Stage(stride=2), Stage(stride=2), Stage(stride=2))
_DILATED = (Stage(), Stage(stride=2), Stage(dilation=2), Stage(dilation=4))


class ChannelPadding(nn.Module):
    """Shortcut of type A: every ``stride``-th voxel, and zeros for the channels that are new.

    Source: arXiv:1512.03385, section 3.3, option A. In MedicalNet's own code no gradient passes
    through it (``out.data``); here it does.
    """

    def __init__(self, out_channels: int, stride: int) -> None:
        """Make the shortcut, which has no weights."""
        super().__init__()
        self.out_channels = out_channels
        self.stride = stride

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f i j k"]:
        """Subsample, and append channels of zeros."""
        x = x[:, :, :: self.stride, :: self.stride, :: self.stride]
        return functional.pad(x, (0, 0, 0, 0, 0, 0, 0, self.out_channels - x.shape[1]))


def _shortcut(kind: AnyShortcut, before: int, after: int, stride: int) -> nn.Module | None:
    if before == after and stride == 1:
        return None
    if kind == "A":
        return ChannelPadding(after, stride)
    biased = kind == "B with bias"
    return nn.Sequential(
        nn.Conv3d(before, after, 1, stride=stride, bias=biased), nn.BatchNorm3d(after)
    )


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, before: int, width: int, stage: Stage, shortcut: AnyShortcut) -> None:
        """Make the block; only its first convolution has the stride."""
        super().__init__()
        dilation = stage.dilation
        self.conv1 = nn.Conv3d(
            before, width, 3, stage.stride, padding=dilation, dilation=dilation, bias=False
        )
        self.bn1 = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv3d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.downsample = _shortcut(shortcut, before, width, stage.stride)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f i j k"]:
        """Add the residual and activate."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu(residual + (x if self.downsample is None else self.downsample(x)))
        return out


class Bottleneck(nn.Module):
    """A 3x3x3 convolution between two 1x1x1 ones, around a shortcut."""

    expansion = 4

    def __init__(self, before: int, width: int, stage: Stage, shortcut: AnyShortcut) -> None:
        """Make the block; its 3x3x3 convolution has the stride."""
        super().__init__()
        dilation, after = stage.dilation, width * self.expansion
        self.conv1 = nn.Conv3d(before, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(
            width, width, 3, stage.stride, padding=dilation, dilation=dilation, bias=False
        )
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, after, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(after)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(shortcut, before, after, stage.stride)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f i j k"]:
        """Add the residual and activate."""
        residual = self.relu(self.bn1(self.conv1(x)))
        residual = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(residual)))))
        out: Tensor = self.relu(residual + (x if self.downsample is None else self.downsample(x)))
        return out


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What tells one of these networks from another."""

    family: str
    block: type[BasicBlock] | type[Bottleneck]
    blocks: Blocks
    stages: tuple[Stage, ...]
    shortcut: AnyShortcut
    kernel: Size3
    """Of the first convolution."""
    stride: Size3
    """Of the first convolution."""
    head: str
    reference: str
    widening: int = 1
    """How many times wider than usual all maps are."""


class MedicalResNet(Oriented, SequentialEncoder):
    """A 3D ResNet with a max pooling that also reduces the depth.

    Its five stages end after the first convolution and after each ``layer``.
    """

    def __init__(self, plan: Plan, *, in_channels: int) -> None:
        """Make the network."""
        reductions = [plan.stride]
        for index, stage in enumerate(plan.stages):
            step = 2 * stage.stride if index == 0 else stage.stride
            last = reductions[-1]
            reductions.append((last[0] * step, last[1] * step, last[2] * step))
        widths = tuple(width * plan.widening for width in _WIDTHS)
        channels = tuple(width * plan.block.expansion for width in widths)
        declaration = Declaration(
            family=plan.family,
            stem="conv1.weight",
            head=plan.head,
            feature_channels=(widths[0], *channels),
            strides=tuple(reductions),
            num_features=channels[-1],
            min_size=(1, 1, 1),
            preferred_size=preferred_size(reductions[-1]),
            twin_of=None,
            native="volume",
            reference=plan.reference,
        )
        super().__init__(
            declaration,
            trunk=_TRUNK,
            pool=("global_pool",),
            taps=("relu", *_TRUNK[4:]),
            in_channels=in_channels,
        )
        depth, height, width = plan.kernel
        padding = (depth // 2, height // 2, width // 2)
        self.conv1 = nn.Conv3d(
            in_channels, widths[0], plan.kernel, plan.stride, padding=padding, bias=False
        )
        self.bn1 = nn.BatchNorm3d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        before = widths[0]
        for number, (stage, width, count) in enumerate(
            zip(plan.stages, widths, plan.blocks, strict=True), start=1
        ):
            rest = Stage(dilation=stage.dilation)
            layers = [plan.block(before, width, stage, plan.shortcut)]
            before = width * plan.block.expansion
            layers += [plan.block(before, width, rest, plan.shortcut) for _ in range(count - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*layers))
        self.global_pool = GlobalPool3d("avg", flatten=True)


def build_medicalnet(
    block: Literal["basic", "bottleneck"],
    blocks: Blocks,
    *,
    in_channels: int = 1,
    shortcut: str = "B",
    dilated: bool = True,
    axes: str = AXES,
    seed: int | None = None,
) -> MedicalResNet:
    """Build a ResNet of MedicalNet with random weights.

    Args:
        block: ``"basic"`` or ``"bottleneck"``.
        blocks: Number of blocks in each of the four stages.
        in_channels: Channels of the volumes.
        shortcut: ``"A"``: zeros for new channels; ``"B"``: a convolution. Weights that were
            trained with one are not those of the other.
        dilated: Whether the last two stages keep the reduction of 8 and widen their kernels
            (dilation 2 and 4), as the weights were trained; else they reduce to 16 and 32, which
            needs less memory and is how MONAI runs the same weights.
        axes: Directions to which the axes of the volumes ran in training ("RAS"); each volume is
            turned to them.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.

    Source:
        arXiv:1904.00625, section 3.2, and the code that was published with it. The segmentation
        layers (``conv_seg``) are left out; the pooled vector is the mean of the last map.
    """
    check_options(in_channels, 0.0)
    check_choice("shortcut", shortcut, get_args(Shortcut))
    if not isinstance(dilated, bool):
        raise ModelError(
            f"dilated is {dilated!r}; expected true (as the weights were trained) or false."
        )
    plan = Plan(
        family="medicalnet",
        block=BasicBlock if block == "basic" else Bottleneck,
        blocks=blocks,
        stages=_DILATED if dilated else _PLAIN,
        shortcut="A" if shortcut == "A" else "B",
        kernel=(7, 7, 7),
        stride=(2, 2, 2),
        head="conv_seg",
        reference="MedicalNet models.resnet.ResNet",
    )
    network = _build(plan, in_channels, seed)
    network.set_axes(axes)
    return network


def build_merlin(
    blocks: Blocks = (3, 8, 36, 3),
    *,
    in_channels: int = 1,
    axes: str = AXES,
    seed: int | None = None,
) -> MedicalResNet:
    """Build the image encoder of Merlin, an inflated ResNet, with random weights.

    Merlin repeats a CT in three channels; a network of one channel gives the same features once
    its stem is folded.

    Args:
        blocks: Number of bottlenecks in each of the four stages.
        in_channels: Channels of the volumes.
        axes: Directions to which the axes of the volumes ran in training ("RAS"); each volume is
            turned to them.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.

    Source:
        arXiv:2406.06512, and the code that was published with it (``I3ResNet``): the first
        convolution is (3, 7, 7) and leaves the depth whole, every later reduction halves it too.
    """
    check_options(in_channels, 0.0)
    plan = Plan(
        family="merlin",
        block=Bottleneck,
        blocks=blocks,
        stages=_PLAIN,
        shortcut="B",
        kernel=(3, 7, 7),
        stride=(1, 2, 2),
        head="classifier",
        reference="merlin.models.i3res.I3ResNet",
    )
    network = _build(plan, in_channels, seed)
    network.set_axes(axes)
    return network


def build_fmcib(
    blocks: Blocks = (3, 4, 6, 3), *, in_channels: int = 1, seed: int | None = None
) -> MedicalResNet:
    """Build the encoder of FMCIB, a ResNet of twice the width, with random weights.

    Args:
        blocks: Number of bottlenecks in each of the four stages.
        in_channels: Channels of the volumes.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.

    Source:
        Pai et al., Nature Machine Intelligence 6:354 (2024): MONAI's ``resnet50`` with
        ``widen_factor=2`` and ``conv1_t_stride=2``.
    """
    check_options(in_channels, 0.0)
    plan = Plan(
        family="fmcib",
        block=Bottleneck,
        blocks=blocks,
        stages=_PLAIN,
        shortcut="B with bias",
        kernel=(7, 7, 7),
        stride=(2, 2, 2),
        head="heads",
        reference="monai.networks.nets.resnet50",
        widening=2,
    )
    return _build(plan, in_channels, seed)


def _build(plan: Plan, in_channels: int, seed: int | None) -> MedicalResNet:
    with seeded(seed):
        network = MedicalResNet(plan, in_channels=in_channels)
        initialize_convolutions(network, kaiming_fan_out)
    return network
