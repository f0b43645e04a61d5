"""X3D: narrow residual networks of depthwise convolutions with channel attention."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.models.convolutional import build_convolutional
from voxgraft.models.declaration import Declaration
from voxgraft.models.depth import DepthPadding
from voxgraft.models.layers.pooling import GlobalPool3d
from voxgraft.models.layers.squeeze_excite import squeeze
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.twin import preferred_size
from voxgraft.models.video.residual_blocks import (
    ONE,
    Bottleneck,
    ResidualBlock,
    ResidualStage,
    convolution,
)
from voxgraft.types import Size3

_STEM_WIDTH = 24
_WIDTHS = (24, 48, 96, 192)
_BLOCKS = (1, 2, 5, 3)
"""Blocks of each stage before the network is made deeper."""

_EXPANSION = 2.25
"""Channels of a bottleneck, relative to those after it."""

_SQUEEZE = 1 / 16
_VECTOR = 2048


@dataclass(frozen=True, kw_only=True)
class X3DPlan:
    """What distinguishes the networks.

    Attributes:
        reference: The public implementation.
        deeper: Factor by which there are more blocks than (1, 2, 5, 3), rounded up.
        normalized: Whether the shortcut that only reduces the plane is normalized too, as in
            PySlowFast.
    """

    reference: str
    deeper: float = 2.2
    normalized: bool = False

    @property
    def blocks(self) -> tuple[int, ...]:
        """Number of blocks of each stage."""
        return tuple(math.ceil(self.deeper * count) for count in _BLOCKS)


class ChannelAttention(nn.Module):
    """Squeeze-and-excitation with the names of fvcore's layer.

    Source: arXiv:1709.01507, section 3; the mean is taken over depth too.
    """

    def __init__(self, channels: int, reduced: int) -> None:
        """Make the layer with ``reduced`` channels in between."""
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv3d(channels, reduced, 1),
            nn.ReLU(),
            nn.Conv3d(reduced, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Weigh the channels."""
        weighted: Tensor = x * self.block(squeeze(x, add_maxpool=False))
        return weighted


class StemConvolution(nn.Module):
    """A convolution in the plane, then one along depth on each channel by itself.

    PyTorchVideo calls the first ``conv_t`` and the second ``conv_xy``, which is the wrong way
    around; the names are kept, since published files have them.
    """

    def __init__(self, in_channels: int, out_channels: int, padding: DepthPadding) -> None:
        """Make the pair; the first has stride 2 in the plane."""
        super().__init__()
        self.conv_t = convolution(in_channels, out_channels, (1, 3, 3), padding, stride=(1, 2, 2))
        self.conv_xy = convolution(
            out_channels, out_channels, (5, 1, 1), padding, groups=out_channels
        )

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f d i j"]:
        """Convolve in the plane, then along depth."""
        out: Tensor = self.conv_xy(self.conv_t(x))
        return out


def _attention_width(channels: int) -> int:
    """Return a sixteenth of the channels: a multiple of 8, at least 8, at least 0.9 of that."""
    wanted = channels * _SQUEEZE
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def _block(
    before: int,
    inner: int,
    after: int,
    stride: Size3,
    padding: DepthPadding,
    *,
    attention: bool,
    normalized: bool,
) -> ResidualBlock:
    changes = before != after or stride != ONE
    weighing = ChannelAttention(inner, _attention_width(inner)) if attention else nn.Identity()
    return ResidualBlock(
        convolution(before, after, ONE, padding, stride=stride) if changes else None,
        # Without a change of channels, PyTorchVideo's shortcut is not normalized.
        nn.BatchNorm3d(after) if before != after or (normalized and changes) else None,
        Bottleneck(
            (before, inner, after),
            convolution(before, inner, ONE, padding),
            convolution(inner, inner, (3, 3, 3), padding, stride=stride, groups=inner),
            padding,
            norm_b=nn.Sequential(nn.BatchNorm3d(inner), weighing),
            act_b=nn.SiLU(),
        ),
    )


class X3D(SequentialEncoder):
    """X3D; its tensors have PyTorchVideo's names.

    The depth stays whole. The final feature map is that after the convolution that precedes the
    pooling (432 channels), which is not a stage's; a second convolution, of the pooled values,
    makes the feature vector (2048). PyTorchVideo pools over windows of a fixed size: on clips of
    the size that the network was trained at, the same. XS, S and M are one network, trained at
    different sizes.

    Source: arXiv:2004.04730, table 1.
    """

    def __init__(self, plan: X3DPlan, *, in_channels: int, padding: DepthPadding) -> None:
        """Make the network.

        Args:
            plan: What distinguishes it.
            in_channels: Channels of the volumes.
            padding: What lies beyond the first and last slice, for convolutions.
        """
        stem = nn.ModuleDict(
            {
                "conv": StemConvolution(in_channels, _STEM_WIDTH, padding),
                "norm": nn.BatchNorm3d(_STEM_WIDTH),
                "activation": nn.ReLU(inplace=True),
            }
        )
        blocks: list[nn.Module] = [stem]
        trunk = [f"blocks.0.{part}" for part in stem]
        taps = [trunk[-1]]
        before = _STEM_WIDTH
        for count, width in zip(plan.blocks, _WIDTHS, strict=True):
            trunk += [f"blocks.{len(blocks)}.res_blocks.{number}" for number in range(count)]
            taps.append(trunk[-1])
            stage = []
            for number in range(count):
                stride = (1, 2, 2) if number == 0 else ONE
                entering = before if number == 0 else width
                inner = int(_EXPANSION * width)
                stage.append(
                    _block(
                        *(entering, inner, width, stride, padding),
                        attention=number % 2 == 0,
                        normalized=plan.normalized,
                    )
                )
            blocks.append(ResidualStage(stage))
            before = width
        last = int(_EXPANSION * before)
        projected = nn.ModuleDict(
            {
                "pre_conv": convolution(before, last, ONE, padding),
                "pre_norm": nn.BatchNorm3d(last),
                "pre_act": nn.ReLU(inplace=True),
                "pool": GlobalPool3d("avg", flatten=False),
                "post_conv": convolution(last, _VECTOR, ONE, padding),
                "post_act": nn.ReLU(inplace=True),
                "flatten": nn.Flatten(1),
            }
        )
        place = f"blocks.{len(blocks)}"
        blocks.append(nn.ModuleDict({"pool": projected}))
        parts = [f"{place}.pool.{part}" for part in projected]
        strides: tuple[Size3, ...] = tuple((1, step, step) for step in (2, 4, 8, 16, 32))
        declaration = Declaration(
            family="x3d",
            stem="blocks.0.conv.conv_t.weight",
            head=f"{place}.proj",
            feature_channels=(_STEM_WIDTH, *_WIDTHS),
            strides=strides,
            num_features=_VECTOR,
            min_size=(1, 1, 1),
            preferred_size=preferred_size(strides[-1]),
            twin_of=None,
            native="video",
            reference=plan.reference,
        )
        super().__init__(
            declaration,
            trunk=(*trunk, *parts[:3]),
            pool=parts[3:],
            taps=taps,
            in_channels=in_channels,
        )
        self.blocks = nn.ModuleList(blocks)


def build_x3d(
    plan: X3DPlan,
    *,
    in_channels: int = 1,
    depth_padding: DepthPadding = "zeros",
    seed: int | None = None,
) -> X3D:
    """Build an X3D with random weights.

    Args:
        plan: What distinguishes it.
        in_channels: Channels of the volumes.
        depth_padding: ``"zeros"`` or ``"replicate"``: what lies beyond the first and last slice.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    return build_convolutional(
        lambda: X3D(plan, in_channels=in_channels, padding=depth_padding),
        in_channels=in_channels,
        depth_padding=depth_padding,
        seed=seed,
        zero_last=True,
    )
