"""PENet, a ResNeXt-like 3D network with group normalization, made for CT of the lung's arteries."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.models.declaration import Declaration
from voxgraft.models.initialization import initialize_convolutions, kaiming_fan_in, seeded
from voxgraft.models.layers.pooling import GlobalPool3d
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.types import Size3

_STEM_WIDTH = 64
_CARDINALITY = 32
_GROUP = 16
_EXPANSION = 2
_REDUCTION = 16
_STRIDES: tuple[Size3, ...] = ((1, 2, 2), (2, 4, 4), (4, 8, 8), (8, 16, 16), (16, 32, 32))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // _GROUP, channels)


class ChannelGate(nn.Module):
    """Scales each channel by what the means of all channels say."""

    def __init__(self, channels: int) -> None:
        """Make the gate."""
        super().__init__()
        self.excite = nn.Sequential(
            nn.Linear(channels, channels // _REDUCTION),
            nn.LeakyReLU(inplace=True),
            nn.Linear(channels // _REDUCTION, channels),
            nn.Sigmoid(),
        )

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Scale the channels."""
        scale: Tensor = self.excite(x.mean((2, 3, 4)))
        return x * scale[:, :, None, None, None]


class PENetBottleneck(nn.Module):
    """A grouped 3x3x3 convolution between two 1x1x1 ones and a gate, around a shortcut."""

    def __init__(self, before: int, width: int, *, stride: int, drop_path: float) -> None:
        """Make the block.

        Args:
            before: Channels of the input.
            width: Channels within; twice as many come out.
            stride: Of the grouped convolution.
            drop_path: Probability in training that only the shortcut counts, for a whole batch.
        """
        super().__init__()
        after = width * _EXPANSION
        self.drop_path = drop_path
        self.down_sample: nn.Module | None = None
        if stride != 1 or before != after:
            self.down_sample = nn.Sequential(
                nn.Conv3d(before, after, 1, stride=stride, bias=False), _norm(after)
            )
        self.conv1 = nn.Conv3d(before, width, 1, bias=False)
        self.norm1 = _norm(width)
        self.relu1 = nn.LeakyReLU(inplace=True)
        self.conv2 = nn.Conv3d(
            width, width, 3, stride=stride, padding=1, groups=_CARDINALITY, bias=False
        )
        self.norm2 = _norm(width)
        self.relu2 = nn.LeakyReLU(inplace=True)
        self.conv3 = nn.Conv3d(width, after, 1, bias=False)
        self.norm3 = _norm(after)
        self.relu3 = nn.LeakyReLU(inplace=True)
        self.se_block = ChannelGate(after)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f i j k"]:
        """Add the gated residual and activate."""
        shortcut: Tensor = x if self.down_sample is None else self.down_sample(x)
        if self.training and self.drop_path > 0 and float(torch.rand(())) < self.drop_path:
            return shortcut
        residual = self.relu1(self.norm1(self.conv1(x)))
        residual = self.relu2(self.norm2(self.conv2(residual)))
        residual = self.se_block(self.norm3(self.conv3(residual)))
        out: Tensor = self.relu3(residual + shortcut)
        return out


class PENetStage(nn.Module):
    """Blocks of one width, of which the first may reduce the map."""

    def __init__(self, blocks: list[PENetBottleneck]) -> None:
        """Keep the blocks."""
        super().__init__()
        self.penet_blocks = nn.Sequential(*blocks)

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f i j k"]:
        """Run the blocks."""
        out: Tensor = self.penet_blocks(x)
        return out


class PENet(SequentialEncoder):
    """The encoder of PENet's classifier.

    Source: Huang et al., npj Digital Medicine 3:61 (2020), and the code that was published with it
    (``PENetClassifier``), without the linear layer.
    """

    def __init__(
        self, blocks: tuple[int, int, int, int], *, in_channels: int, drop_path: float
    ) -> None:
        """Make the network.

        Args:
            blocks: Number of blocks in each of the four stages.
            in_channels: Channels of the input.
            drop_path: Probability with which the deepest block is left out in training; it grows
                linearly from 0 at the first.
        """
        widths = [128 * 2**stage for stage in range(len(blocks))]
        channels = (_STEM_WIDTH, *(width * _EXPANSION for width in widths))
        stages = tuple(f"encoders.{index}" for index in range(len(blocks)))
        declaration = Declaration(
            family="penet",
            stem="in_conv.0.weight",
            head="classifier",
            feature_channels=channels,
            strides=_STRIDES,
            num_features=channels[-1],
            min_size=(1, 1, 1),
            preferred_size=preferred_size(_STRIDES[-1]),
            twin_of=None,
            native="video",
            reference="penet models.PENetClassifier",
        )
        super().__init__(
            declaration,
            trunk=("in_conv", "max_pool", *stages),
            pool=("global_pool",),
            taps=("in_conv", *stages),
            in_channels=in_channels,
        )
        self.in_conv = nn.Sequential(
            nn.Conv3d(in_channels, _STEM_WIDTH, 7, stride=(1, 2, 2), padding=3, bias=False),
            _norm(_STEM_WIDTH),
            nn.LeakyReLU(inplace=True),
        )
        self.max_pool = nn.MaxPool3d(3, stride=2, padding=1)
        self.encoders = nn.ModuleList()
        before, done, deepest = _STEM_WIDTH, 0, max(1, sum(blocks) - 1)
        for index, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            make = partial(PENetBottleneck, width=width)
            stage = []
            for block in range(count):
                stride = 2 if index > 0 and block == 0 else 1
                probability = drop_path * (done + block) / deepest
                stage.append(make(before, stride=stride, drop_path=probability))
                before = width * _EXPANSION
            done += count
            self.encoders.append(PENetStage(stage))
        self.global_pool = GlobalPool3d("avg", flatten=True)


def build_penet(
    blocks: tuple[int, int, int, int] = (3, 4, 6, 3),
    *,
    in_channels: int = 1,
    drop_path: float = 0.0,
    seed: int | None = None,
) -> PENet:
    """Build PENet with random weights.

    Args:
        blocks: Number of blocks in each of the four stages.
        in_channels: Channels of the volumes. The original repeats a CT in three channels; a
            network of one channel gives the same features once its stem is folded.
        drop_path: Probability with which the deepest block is left out in training, growing
            linearly from 0 at the first; the original trained with 0.47.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    check_options(in_channels, drop_path)
    with seeded(seed):
        network = PENet(blocks, in_channels=in_channels, drop_path=drop_path)
        initialize_convolutions(network, kaiming_fan_in)
    for module in network.modules():
        if isinstance(module, PENetBottleneck):
            nn.init.zeros_(module.norm3.weight)
    return network
