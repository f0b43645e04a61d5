"""SlowFast: two pathways that look at every slice and at every fourth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.models.convolutional import build_convolutional
from voxgraft.models.declaration import Declaration
from voxgraft.models.depth import DepthPadding
from voxgraft.models.encoder import Encoder
from voxgraft.models.twin import preferred_size
from voxgraft.models.video.residual_blocks import ResidualStage, StagePlan, Stem, convolution
from voxgraft.models.video.residual_network import STEM_WIDTH, WIDTHS
from voxgraft.types import Size3

_THINNER = 8
"""The fast pathway has an eighth of the slow one's channels."""

_STRIDES: tuple[Size3, ...] = ((1, 1, 1), (1, 2, 2), (1, 2, 2), (1, 2, 2))
_REDUCTIONS = (2, 4, 8, 16, 32)


@dataclass(frozen=True, kw_only=True)
class SlowFastPlan:
    """What distinguishes the networks of two pathways.

    Attributes:
        reference: The public implementation.
        blocks: Number of blocks of each stage.
        step: The slow pathway sees one slice in ``step`` (the paper's alpha).
        fusion_depth: Slices of the fast pathway that its connections to the slow one see.
        slow_depths: For each stage of the slow pathway, slices that the first convolutions of its
            blocks see.
        fast_depths: The same for the fast pathway.
        fast_blocks: Number of blocks of each stage of the fast pathway; None: as the slow one's.
        plain: Whether connections are convolutions alone, without normalization and activation,
            and the slow pathway sees the first slice of each ``step``, as in mmaction2.
    """

    reference: str
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    step: int = 4
    fusion_depth: int = 7
    slow_depths: tuple[tuple[int, ...], ...] = ((1,), (1,), (3,), (3,))
    fast_depths: tuple[tuple[int, ...], ...] = ((3,), (3,), (3,), (3,))
    fast_blocks: tuple[int, int, int, int] | None = None
    plain: bool = False


class FastToSlow(nn.Module):
    """The fast pathway's connection to the slow one."""

    def __init__(
        self, channels: int, kernel: int, step: int, padding: DepthPadding, *, plain: bool = False
    ) -> None:
        """Make the connection, which reduces the depth by ``step``."""
        super().__init__()
        self.conv_fast_to_slow = convolution(
            channels, 2 * channels, (kernel, 1, 1), padding, stride=(step, 1, 1)
        )
        self.norm = None if plain else nn.BatchNorm3d(2 * channels)
        self.activation = nn.ReLU(inplace=True)

    def forward(
        self, slow: Float[Tensor, "b c d h w"], fast: Float[Tensor, "b f e h w"]
    ) -> Float[Tensor, "b g d h w"]:
        """Put what comes from the fast pathway beside the slow one's channels."""
        fused = self.conv_fast_to_slow(fast)
        if self.norm is not None:
            fused = self.activation(self.norm(fused))
        return torch.cat([slow, fused], dim=1)


class Pathways(nn.Module):
    """The same part of both pathways, and the connection after it, if there is one."""

    def __init__(self, slow: nn.Module, fast: nn.Module, fusion: FastToSlow | None) -> None:
        """Join the parts."""
        super().__init__()
        self.multipathway_blocks = nn.ModuleList([slow, fast])
        self.multipathway_fusion = fusion


class SlowFast(Encoder):
    """Two residual networks side by side; the tensors have PyTorchVideo's names.

    The fast pathway sees all slices, with an eighth of the channels; the slow one sees one slice
    in four (``step``), and after every part but the last what a connection brings over from the
    fast one. One volume feeds both: of ``d`` slices, the slow pathway sees ``ceil(d / step)``,
    spread evenly from the first to the last, which for a multiple of ``step`` are those of the
    original's ``PackPathway``; in mmaction2's networks, the first of each ``step``.

    A feature map is that of the slow pathway and, beside it, that of the fast one, averaged over
    groups of ``step`` slices. The feature vector has the mean of each pathway over its own
    positions, as the original has it on clips of the size that it was trained at; for a multiple
    of ``step`` that is the mean of the final feature map.

    Source: arXiv:1812.03982, section 3.
    """

    def __init__(self, plan: SlowFastPlan, *, in_channels: int, padding: DepthPadding) -> None:
        """Make the network.

        Args:
            plan: What distinguishes it.
            in_channels: Channels of the volumes.
            padding: What lies beyond the first and last slice, for convolutions.
        """
        both = tuple(width + width // _THINNER for width in (STEM_WIDTH, *WIDTHS))
        strides = tuple((plan.step, across, across) for across in _REDUCTIONS)
        super().__init__(
            Declaration(
                family="slowfast",
                stem="blocks.0.multipathway_blocks.0.conv.weight",
                more_stems=("blocks.0.multipathway_blocks.1.conv.weight",),
                head="blocks.6.proj",
                feature_channels=both,
                strides=strides,
                num_features=both[-1],
                min_size=(1, 1, 1),
                preferred_size=preferred_size(strides[-1]),
                twin_of=None,
                native="video",
                reference=plan.reference,
            ),
            in_channels=in_channels,
        )
        self.step = plan.step
        self.evenly = not plan.plain

        def fusion(width: int) -> FastToSlow:
            thin = width // _THINNER
            return FastToSlow(thin, plan.fusion_depth, plan.step, padding, plain=plan.plain)

        slow_stem, fast_stem = (
            Stem(in_channels, width, depth, padding, pooled=True)
            for width, depth in ((STEM_WIDTH, 1), (STEM_WIDTH // _THINNER, 5))
        )
        self.blocks = nn.ModuleList([Pathways(slow_stem, fast_stem, fusion(STEM_WIDTH))])
        before = STEM_WIDTH
        counts = zip(plan.blocks, plan.fast_blocks or plan.blocks, strict=True)
        for index, (both_counts, width) in enumerate(zip(counts, WIDTHS, strict=True)):
            slow, fast = (
                StagePlan(
                    blocks=count,
                    widths=(entering, width // 4 // thinner, width // thinner),
                    stride=_STRIDES[index],
                    first_depths=depths[index],
                ).build(padding)
                for count, entering, thinner, depths in (
                    (both_counts[0], before + 2 * before // _THINNER, 1, plan.slow_depths),
                    (both_counts[1], before // _THINNER, _THINNER, plan.fast_depths),
                )
            )
            last = index == len(WIDTHS) - 1
            self.blocks.append(Pathways(slow, fast, None if last else fusion(width)))
            before = width

    def slow_slices(self, depth: int) -> list[int]:
        """Return the indices of the slices that the slow pathway sees, of ``depth`` slices."""
        if not self.evenly:
            return list(range(0, depth, self.step))
        # What torch.linspace gives, without tensors: under PyTorch's fake mode they have no values.
        count = -(-depth // self.step)
        last, steps = np.float32(depth - 1), np.arange(count, dtype=np.float32)
        between = last / np.float32(max(1, count - 1))
        places = np.where(steps < count // 2, between * steps, last - between * steps[::-1])
        return [0] if count == 1 else [int(place) for place in places]

    def _pathways(self, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the map of each pathway after the stem's convolution, and after each stage."""
        slices = torch.tensor(self.slow_slices(x.shape[2]), device=x.device)
        maps = [x.index_select(2, slices), x]
        stems = cast(Pathways, self.blocks[0])
        for index, stem in enumerate(stems.multipathway_blocks):
            name = f"blocks.0.multipathway_blocks.{index}"
            maps[index] = self.run_block(name, cast(Stem, stem).unpooled, maps[index])
        yield maps[0], maps[1]
        maps = [
            cast(Stem, stem).pool(features)
            for stem, features in zip(stems.multipathway_blocks, maps, strict=True)
        ]
        for number in range(1, len(self.blocks)):
            fusion = cast(FastToSlow, cast(Pathways, self.blocks[number - 1]).multipathway_fusion)
            maps[0] = self.run_block(f"blocks.{number - 1}.multipathway_fusion", fusion, *maps)
            stages = cast(Pathways, self.blocks[number]).multipathway_blocks
            for index, stage in enumerate(stages):
                for place, block in enumerate(cast(ResidualStage, stage).res_blocks):
                    name = f"blocks.{number}.multipathway_blocks.{index}.res_blocks.{place}"
                    maps[index] = self.run_block(name, block, maps[index])
            yield maps[0], maps[1]

    def _side_by_side(self, slow: Tensor, fast: Tensor) -> Tensor:
        return torch.cat([slow, mean_of_groups(fast, self.step)], dim=1)

    def _last_pathways(self, x: Tensor) -> tuple[Tensor, Tensor]:
        self.check_input(x)
        *_, last = self._pathways(x)
        return last

    def forward_features(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Return the final feature map: both pathways, at the slow one's depth.

        Raises:
            ModelError: If ``x`` does not have five axes, the encoder's channels and at least its
                minimal size; or, in training, if there is one value a channel to normalize.
        """
        return self._side_by_side(*self._last_pathways(x))

    def forward_stages(self, x: Float[Tensor, "b c d h w"]) -> list[Tensor]:
        """Return the feature map of each stage, shallowest first: both pathways side by side.

        Raises:
            ModelError: As ``forward_features``.
        """
        self.check_input(x)
        return [self._side_by_side(slow, fast) for slow, fast in self._pathways(x)]

    def pool(self, features: Float[Tensor, "b f e i j"]) -> Float[Tensor, "b n"]:
        """Return the mean over a feature map."""
        return features.mean((2, 3, 4))

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b n"]:
        """Return the pooled features that a classifier takes: each pathway's mean.

        Raises:
            ModelError: As ``forward_features``.
        """
        return torch.cat([features.mean((2, 3, 4)) for features in self._last_pathways(x)], dim=1)


def mean_of_groups(x: Float[Tensor, "b c d h w"], step: int) -> Float[Tensor, "b c e h w"]:
    """Return the mean of each group of ``step`` slices; the last group may be smaller."""
    batch, channels, depth, height, width = x.shape
    missing = -depth % step
    if missing == 0:
        return x.view(batch, channels, -1, step, height, width).mean(3)
    whole = F.pad(x, (0, 0, 0, 0, 0, missing))
    sums = whole.view(batch, channels, -1, step, height, width).sum(3)
    counts = torch.full((sums.shape[2], 1, 1), step, dtype=x.dtype, device=x.device)
    counts[-1] = step - missing
    return sums / counts


def build_slowfast(
    plan: SlowFastPlan,
    *,
    in_channels: int = 1,
    depth_padding: DepthPadding = "zeros",
    seed: int | None = None,
) -> SlowFast:
    """Build a network of two pathways with random weights.

    Args:
        plan: What distinguishes it.
        in_channels: Channels of the volumes.
        depth_padding: ``"zeros"`` or ``"replicate"``: what lies beyond the first and last slice.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    return build_convolutional(
        lambda: SlowFast(plan, in_channels=in_channels, padding=depth_padding),
        in_channels=in_channels,
        depth_padding=depth_padding,
        seed=seed,
        zero_last=True,
    )
