"""PyTorchVideo's residual networks of one pathway: Slow, C2D, I3D, R(2+1)D and CSN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import nn

from voxgraft.errors import ModelError
from voxgraft.models.convolutional import build_convolutional
from voxgraft.models.declaration import Declaration
from voxgraft.models.depth import DepthPadding, check_choice
from voxgraft.models.layers.pooling import GlobalPool3d, MaxPool3d, WindowPool3d
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.twin import preferred_size
from voxgraft.models.video.residual_blocks import Middle, StagePlan, Stem
from voxgraft.types import Size3

WIDTHS = (256, 512, 1024, 2048)
"""Channels after each stage; the bottlenecks have a quarter of them."""

STEM_WIDTH = 64

Pooling = Literal["whole", "windows"]

_EACH_HALVES_THE_PLANE: tuple[Size3, ...] = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2))


@dataclass(frozen=True, kw_only=True)
class ResidualPlan:
    """What distinguishes the networks of one pathway.

    Attributes:
        reference: The public implementation.
        blocks: Number of blocks of each stage.
        stem_depth: Slices that the stem sees.
        stem_pooled: Whether the stem has maximum pooling.
        depth_halved: Whether maximum pooling halves the depth after the first stage.
        first_depths: For each stage, slices that the first convolutions of its blocks see.
        middle: Kind of the middle convolutions.
        strides: Of each stage.
        epsilon: Of batch normalization.
        window: Positions of the windows over which the original's head averages the final map; None
            where it averages the whole map.
    """

    reference: str
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    stem_depth: int = 1
    stem_pooled: bool = True
    depth_halved: bool = False
    first_depths: tuple[tuple[int, ...], ...] = ((1,), (1,), (1,), (1,))
    middle: Middle = "plane"
    strides: tuple[Size3, ...] = _EACH_HALVES_THE_PLANE
    epsilon: float = 1e-5
    window: Size3 | None = (4, 7, 7)

    @property
    def reductions(self) -> tuple[Size3, ...]:
        """Reduction of the stem before its pooling, and after each stage."""
        depth, across = 1, 4 if self.stem_pooled else 2
        found: list[Size3] = [(1, 2, 2)]
        for index, (along, high, _) in enumerate(self.strides):
            depth, across = depth * along, across * high
            found.append((depth, across, across))
            depth *= 2 if index == 0 and self.depth_halved else 1
        return tuple(found)


class ResidualNetwork(SequentialEncoder):
    """A residual network of bottlenecks; its tensors have PyTorchVideo's names.

    The networks differ in what their kernels see along depth and where they reduce it:

    - Slow (arXiv:1812.03982, section 3.1): slices are seen one by one up to the third stage, whose
      first convolutions see three; the depth stays whole.
    - C2D and I3D (arXiv:1711.07971, section 4.1): slices are seen one by one by C2D, whose only
      operations along depth are poolings; by I3D, three in every other block. Maximum pooling
      halves the depth after the first stage.
    - R(2+1)D (arXiv:1711.11248, section 3.5): a convolution along depth before each in the plane.
    - CSN (arXiv:1904.02811, section 3.3): (3, 3, 3) on each channel by itself; in the
      interaction-preserved kind after a (1, 1, 1) across channels.

    The feature vector is, as PyTorchVideo's, the mean over all windows of a fixed size in the final
    map: on clips of the size that the network was trained at, and smaller ones, the mean of the
    map; on deeper ones the slices in the middle count more. With ``pooling="whole"``, and in the
    networks that are not PyTorchVideo's, all positions count the same.
    """

    def __init__(
        self, plan: ResidualPlan, *, in_channels: int, padding: DepthPadding, pooling: Pooling
    ) -> None:
        """Make the network.

        Args:
            plan: What distinguishes it.
            in_channels: Channels of the volumes.
            padding: What lies beyond the first and last slice, for convolutions.
            pooling: Over what the feature vector is a mean.
        """
        stem = Stem(in_channels, STEM_WIDTH, plan.stem_depth, padding, pooled=plan.stem_pooled)
        blocks: list[nn.Module] = [stem]
        trunk = [f"blocks.0.{part}" for part in ("conv", "norm", "activation", "pool")]
        taps = ["blocks.0.activation"]
        before = STEM_WIDTH
        for index, (count, width) in enumerate(zip(plan.blocks, WIDTHS, strict=True)):
            stage = StagePlan(
                blocks=count,
                widths=(before, width // 4, width),
                stride=plan.strides[index],
                first_depths=plan.first_depths[index],
                middle=plan.middle,
            )
            trunk += [f"blocks.{len(blocks)}.res_blocks.{number}" for number in range(count)]
            taps.append(trunk[-1])
            blocks.append(stage.build(padding))
            before = width
            if index == 0 and plan.depth_halved:
                trunk.append(f"blocks.{len(blocks)}")
                blocks.append(MaxPool3d((2, 1, 1), stride=(2, 1, 1)))
        reductions = plan.reductions
        declaration = Declaration(
            family="video_resnet",
            stem="blocks.0.conv.weight",
            head=f"blocks.{len(blocks)}.proj",
            feature_channels=(STEM_WIDTH, *WIDTHS),
            strides=reductions,
            num_features=WIDTHS[-1],
            min_size=(2 if plan.depth_halved else 1, 1, 1),
            preferred_size=preferred_size(reductions[-1]),
            twin_of=None,
            native="video",
            reference=plan.reference,
        )
        super().__init__(
            declaration, trunk=trunk, pool=("global_pool",), taps=taps, in_channels=in_channels
        )
        self.blocks = nn.ModuleList(blocks)
        self.global_pool = (
            WindowPool3d(plan.window)
            if pooling == "windows" and plan.window is not None
            else GlobalPool3d("avg", flatten=True)
        )
        for module in self.modules():
            if isinstance(module, nn.BatchNorm3d):
                module.eps = plan.epsilon


def build_residual_network(
    plan: ResidualPlan,
    *,
    in_channels: int = 1,
    depth_padding: DepthPadding = "zeros",
    pooling: Pooling | None = None,
    seed: int | None = None,
) -> ResidualNetwork:
    """Build a network of one pathway with random weights.

    Args:
        plan: What distinguishes it.
        in_channels: Channels of the volumes.
        depth_padding: ``"zeros"`` or ``"replicate"``: what lies beyond the first and last slice.
        pooling: ``"windows"``: the feature vector is the mean over all windows of the published
            clip's size in the final map, as PyTorchVideo's heads have it; ``"whole"``: the mean
            over the map. The two differ on volumes larger than that clip, where windows make less
            of the border. None for what the original does.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    if pooling is None:
        pooling = "whole" if plan.window is None else "windows"
    check_choice("pooling", pooling, get_args(Pooling))
    if pooling == "windows" and plan.window is None:
        raise ModelError(
            f"pooling is 'windows', but {plan.reference} averages the whole map. Leave it out."
        )
    return build_convolutional(
        lambda: ResidualNetwork(
            plan, in_channels=in_channels, padding=depth_padding, pooling=pooling
        ),
        in_channels=in_channels,
        depth_padding=depth_padding,
        seed=seed,
        zero_last=True,
    )
