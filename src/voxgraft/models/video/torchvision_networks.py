"""torchvision's own video networks, their modules adopted as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from voxgraft.models.declaration import Declaration
from voxgraft.models.initialization import kaiming_fan_out, seeded
from voxgraft.models.layers.pooling import GlobalPool3d
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.types import Size3


@dataclass(frozen=True, kw_only=True)
class TorchvisionPlan:
    """What distinguishes torchvision's networks.

    Attributes:
        name: torchvision's name.
        family: Name of the family.
        stem: Path of the convolution that takes the image.
        head: Path of the classifier.
        channels: Of each stage's feature map.
        strides: Of each stage's feature map.
        min_size: Smallest input.
        reference: The public implementation, where it is not torchvision's of that name.
    """

    name: str
    family: str
    stem: str
    head: str
    channels: tuple[int, ...]
    strides: tuple[Size3, ...]
    min_size: Size3 = (1, 1, 1)
    reference: str | None = None

    @property
    def original(self) -> str:
        """The public implementation that the network equals."""
        return self.reference or f"torchvision.models.video.{self.name}"


_RESNET_CHANNELS = (64, 64, 128, 256, 512)
_ALL_AXES: tuple[Size3, ...] = ((1, 2, 2), (1, 2, 2), (2, 4, 4), (4, 8, 8), (8, 16, 16))
_PLANE: tuple[Size3, ...] = ((1, 2, 2), (1, 2, 2), (1, 4, 4), (1, 8, 8), (1, 16, 16))

R3D_18 = TorchvisionPlan(
    name="r3d_18",
    family="video_resnet",
    stem="stem.0",
    head="fc",
    channels=_RESNET_CHANNELS,
    strides=_ALL_AXES,
)
MC3_18 = TorchvisionPlan(
    name="mc3_18",
    family="video_resnet",
    stem="stem.0",
    head="fc",
    channels=_RESNET_CHANNELS,
    strides=_PLANE,
)
R2PLUS1D_18 = TorchvisionPlan(
    name="r2plus1d_18",
    family="video_resnet",
    stem="stem.0",
    head="fc",
    channels=_RESNET_CHANNELS,
    strides=_ALL_AXES,
)
R2PLUS1D_34 = TorchvisionPlan(
    name="r2plus1d_34",
    family="video_resnet",
    stem="stem.0",
    head="fc",
    channels=_RESNET_CHANNELS,
    strides=_ALL_AXES,
    reference="moabitcoin/ig65m-pytorch, of torchvision.models.video.resnet.VideoResNet",
)
S3D = TorchvisionPlan(
    name="s3d",
    family="s3d",
    stem="features.0.0.0",
    head="classifier",
    channels=(64, 192, 480, 832, 1024),
    strides=((2, 2, 2), (2, 4, 4), (2, 8, 8), (4, 16, 16), (8, 32, 32)),
    # The last pooling has two voxels and no padding; the reductions before it round up.
    min_size=(5, 17, 17),
)

_S3D_TAPS = ("features.0", "features.3", "features.6", "features.12", "features.15")
"""The stages end before the poolings of stride 2."""


class AdoptedNetwork(SequentialEncoder):
    """A network of torchvision's; its tensors have torchvision's names, without the classifier.

    The feature vector is the mean over the whole map. torchvision's S3D has windows of
    (2, 7, 7) there: on the clips of 14 to 16 frames of 224 pixels for which it is made, the same.
    """

    def __init__(
        self,
        network: nn.Module,
        plan: TorchvisionPlan,
        *,
        trunk: Sequence[str],
        taps: Sequence[str],
        in_channels: int,
    ) -> None:
        """Adopt the modules that ``trunk`` names, with all that stands beside them."""
        declaration = Declaration(
            family=plan.family,
            stem=f"{plan.stem}.weight",
            head=plan.head,
            feature_channels=plan.channels,
            strides=plan.strides,
            num_features=plan.channels[-1],
            min_size=plan.min_size,
            preferred_size=preferred_size(plan.strides[-1]),
            twin_of=None,
            native="video",
            reference=plan.original,
        )
        super().__init__(
            declaration, trunk=trunk, pool=("global_pool",), taps=taps, in_channels=in_channels
        )
        kept = {path.partition(".")[0] for path in trunk}
        for name, child in network.named_children():
            if name in kept:
                self.add_module(name, child)
        self.global_pool = GlobalPool3d("avg", flatten=True)


def build_torchvision(
    plan: TorchvisionPlan, *, in_channels: int = 1, seed: int | None = None
) -> AdoptedNetwork:
    """Build one of torchvision's video networks with random weights.

    Args:
        plan: Which one.
        in_channels: Channels of the volumes.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    check_options(in_channels, 0.0)
    with seeded(seed):
        network = _build(plan.name)
        if plan.family == "s3d":
            features = network.get_submodule("features")
            trunk = [f"features.{number}" for number, _ in features.named_children()]
            taps: Sequence[str] = _S3D_TAPS
        else:
            trunk, taps = _resnet_order(network)
        if in_channels != 3:
            _exchange_stem(network, plan, in_channels)
    return AdoptedNetwork(network, plan, trunk=trunk, taps=taps, in_channels=in_channels)


def _build(name: str) -> nn.Module:
    from torchvision.models import video

    if name == R2PLUS1D_34.name:
        return _r2plus1d_34()
    builder: Any = getattr(video, name)
    network: nn.Module = builder(weights=None)
    return network


def _r2plus1d_34() -> nn.Module:
    """Build the network of the weights of IG-65M, as they were converted from Caffe2.

    The second convolution of a stage's first block has the width between its halves that the other
    blocks have, which torchvision's 18-layer network counts from the stage's input; batch
    normalization has Caffe2's epsilon. (The converters also set its momentum to Caffe2's 0.9, which
    is PyTorch's 0.1 and is left so here: it changes no output in evaluation.)
    """
    from torchvision.models.video import resnet

    network: Any = resnet.VideoResNet(
        block=resnet.BasicBlock,
        conv_makers=[resnet.Conv2Plus1D] * 4,
        layers=[3, 4, 6, 3],
        stem=resnet.R2Plus1dStem,
    )
    for stage, width in (("layer2", 128), ("layer3", 256), ("layer4", 512)):
        block = network.get_submodule(f"{stage}.0")
        separated = resnet.Conv2Plus1D(width, width, 27 * width // 12)
        kaiming_fan_out(separated[0])
        kaiming_fan_out(separated[3])
        block.conv2[0] = separated
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.eps = 1e-3
    built: nn.Module = network
    return built


def _resnet_order(network: nn.Module) -> tuple[list[str], list[str]]:
    trunk, taps = ["stem"], ["stem"]
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        blocks = [f"{stage}.{name}" for name, _ in network.get_submodule(stage).named_children()]
        trunk += blocks
        taps.append(blocks[-1])
    return trunk, taps


def _exchange_stem(network: nn.Module, plan: TorchvisionPlan, in_channels: int) -> None:
    """Put a convolution of other channels in the place of the one that takes the image."""
    parent, _, name = plan.stem.rpartition(".")
    old: Any = network.get_submodule(plan.stem)
    new = nn.Conv3d(
        in_channels,
        old.out_channels,
        old.kernel_size,
        stride=old.stride,
        padding=old.padding,
        bias=old.bias is not None,
    )
    if plan.family != "s3d":
        kaiming_fan_out(new)
    network.get_submodule(parent).register_module(name, new)
