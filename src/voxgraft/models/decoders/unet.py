"""A U-Net's decoder for any encoder."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.errors import ModelError
from voxgraft.models.declaration import Declaration
from voxgraft.models.decoders.decoder import Decoder
from voxgraft.models.depth import check_choice
from voxgraft.types import Size3

DecoderNorm = Literal["instance", "group", "batch"]
DECODER_NORMS: tuple[DecoderNorm, ...] = ("instance", "group", "batch")

_MOST_CHANNELS = 320
_GROUPS = 8
_SLOPE = 0.01


def _normalization(kind: DecoderNorm, channels: int) -> nn.Module:
    if kind == "instance":
        return nn.InstanceNorm3d(channels, affine=True)
    if kind == "group":
        return nn.GroupNorm(math.gcd(_GROUPS, channels), channels)
    return nn.BatchNorm3d(channels)


class _Convolutions(nn.Sequential):
    """Twice: a 3x3x3 convolution, normalization, leaky ReLU."""

    def __init__(self, in_channels: int, out_channels: int, norm: DecoderNorm) -> None:
        super().__init__(
            nn.Conv3d(in_channels, out_channels, 3, padding=1, bias=False),
            _normalization(norm, out_channels),
            nn.LeakyReLU(_SLOPE, inplace=True),
            nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False),
            _normalization(norm, out_channels),
            nn.LeakyReLU(_SLOPE, inplace=True),
        )


class UNetLevel(nn.Module):
    """Enlarge a map, join it with that of the encoder, convolve twice."""

    def __init__(
        self,
        in_channels: int,
        skip_channels: int,
        out_channels: int,
        step: Size3,
        norm: DecoderNorm,
    ) -> None:
        """Make the level; it enlarges by ``step`` along (depth, height, width)."""
        super().__init__()
        self.up: nn.Module
        if step == (1, 1, 1):
            self.up = nn.Conv3d(in_channels, out_channels, 1)
        else:
            self.up = nn.ConvTranspose3d(in_channels, out_channels, step, stride=step)
        self.convolutions = _Convolutions(out_channels + skip_channels, out_channels, norm)

    def forward(
        self, x: Float[Tensor, "b c d h w"], skip: Float[Tensor, "b s i j k"] | None
    ) -> Float[Tensor, "b f i j k"]:
        """Return the map on the grid of ``skip``, or enlarged, where there is no such."""
        x = self.up(x)
        if skip is not None:
            x = torch.cat([_fitted(x, skip), skip], dim=1)
        out: Tensor = self.convolutions(x)
        return out


def _fitted(x: Tensor, like: Tensor) -> Tensor:
    """Cut or extend a map at its ends to the grid of another.

    They differ only for encoders whose maps are no exact fractions of the volume.
    """
    missing = [like.shape[axis] - x.shape[axis] for axis in (4, 3, 2)]
    if not any(missing):
        return x
    return F.pad(x, [margin for axis in missing for margin in (0, axis)])


class UNetDecoder(Decoder):
    """A U-Net's decoder for the feature maps that any encoder declares.

    From the deepest map on, each level enlarges by a transposed convolution, whose kernel is its
    stride, to the grid of the next finer map of the encoder, joins that map, and convolves twice.
    Steps may differ along the axes, and may be 1 (all maps of a plain transformer have one grid).
    Where the encoder's first map is coarser than the volume, levels without a map of the encoder
    follow, each by the smallest possible step; the last of them joins the volume itself.

    A level has ``width`` channels times its largest stride, at most 320, and not more than the
    encoder's map of the same grid has (but at least ``width``).

    Source: arXiv:1505.04597 and arXiv:1904.08128 (nnU-Net: leaky ReLU, transposed convolutions,
    at most 320 channels).
    """

    def __init__(
        self,
        declaration: Declaration,
        *,
        in_channels: int,
        norm: DecoderNorm = "instance",
        width: int = 32,
    ) -> None:
        """Make the decoder.

        Args:
            declaration: Of the encoder.
            in_channels: Channels of the volumes.
            norm: Normalization: over each map alone, over eight groups of channels, or over the
                batch.
            width: Channels on the volume's own grid.

        Raises:
            ModelError: If an option is impossible, or the strides of the encoder's maps are no
                multiples of one another.
        """
        check_choice("norm", norm, DECODER_NORMS)
        if width < 1:
            raise ModelError(f"width is {width!r}; expected a whole number of at least 1.")
        stages = list(zip(declaration.strides, declaration.feature_channels, strict=True))
        stride, before = stages.pop()
        levels: list[UNetLevel] = []
        strides: list[Size3] = []
        widths: list[int] = []
        while stages:
            finer, skip = stages.pop()
            channels = _width(width, finer, max(skip, width))
            levels.append(UNetLevel(before, skip, channels, _step(stride, finer), norm))
            strides.append(finer)
            widths.append(channels)
            stride, before = finer, channels
        joins_volume = stride != (1, 1, 1)
        while stride != (1, 1, 1):
            finer = _next_finer(stride)
            channels = _width(width, finer, before)
            skip = in_channels if finer == (1, 1, 1) else 0
            levels.append(UNetLevel(before, skip, channels, _step(stride, finer), norm))
            strides.append(finer)
            widths.append(channels)
            stride, before = finer, channels
        if not levels:
            raise ModelError(
                f"an encoder of the family {declaration.family!r} gives one map on the volume's "
                "own grid: there is nothing to decode."
            )
        super().__init__(widths[::-1], strides[::-1])
        self.norm: DecoderNorm = norm
        self.width = width
        self.joins_volume = joins_volume
        self.levels = nn.ModuleList(levels)

    def forward(self, x: Tensor, stages: list[Tensor]) -> list[Tensor]:
        """Return the map of each level, finest first."""
        skips: list[Tensor | None] = [*reversed(stages[:-1])]
        skips += [None] * (len(self.levels) - len(skips))
        if self.joins_volume:
            skips[-1] = x
        deep = stages[-1]
        maps: list[Tensor] = []
        for level, skip in zip(self.levels, skips, strict=True):
            deep = level(deep, skip)
            maps.append(deep)
        return maps[::-1]


def _width(width: int, stride: Size3, most: int) -> int:
    return max(min(width * max(stride), _MOST_CHANNELS, most), 1)


def _step(coarse: Size3, fine: Size3) -> Size3:
    if any(a % b for a, b in zip(coarse, fine, strict=True)):
        raise ModelError(
            f"the encoder's maps have the strides {fine} and {coarse} (depth, height, width), "
            "expected each to be a multiple of the one before. No U-Net decoder fits this encoder."
        )
    return (coarse[0] // fine[0], coarse[1] // fine[1], coarse[2] // fine[2])


def _next_finer(stride: Size3) -> Size3:
    """Return the grid after one smallest step along each axis, the coarsest axes first."""
    coarsest = max(stride)
    factor = next(n for n in range(2, coarsest + 1) if coarsest % n == 0)
    below = coarsest // factor
    finer = [axis // factor if axis > below and axis % factor == 0 else axis for axis in stride]
    return (finer[0], finer[1], finer[2])
