"""STU-Net, nnU-Net's U-Net with residual blocks in four sizes: its encoder."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.models.declaration import Declaration
from voxgraft.models.initialization import initialize_convolutions, seeded
from voxgraft.models.layers.pooling import GlobalPool3d
from voxgraft.models.orientation import AXES, Oriented
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.models.volumetric.nnunet import leaky_kaiming
from voxgraft.types import Size3

_STRIDES: tuple[Size3, ...] = tuple((2**stage, 2**stage, 2**stage) for stage in range(6))


class BasicResBlock(nn.Module):
    """Two 3x3x3 convolutions with instance normalization, around a shortcut."""

    def __init__(self, before: int, after: int, *, stride: int = 1, first: bool = False) -> None:
        """Make the block; the ``first`` of a stage has a convolution as its shortcut."""
        super().__init__()
        self.conv1 = nn.Conv3d(before, after, 3, stride=stride, padding=1)
        self.norm1 = nn.InstanceNorm3d(after, affine=True)
        self.act1 = nn.LeakyReLU(inplace=True)
        self.conv2 = nn.Conv3d(after, after, 3, padding=1)
        self.norm2 = nn.InstanceNorm3d(after, affine=True)
        self.act2 = nn.LeakyReLU(inplace=True)
        self.conv3 = nn.Conv3d(before, after, 1, stride=stride) if first else None

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f i j k"]:
        """Add the residual and activate."""
        residual = self.norm2(self.conv2(self.act1(self.norm1(self.conv1(x)))))
        out: Tensor = self.act2(residual + (x if self.conv3 is None else self.conv3(x)))
        return out


class STUNetEncoder(Oriented, SequentialEncoder):
    """The contracting path of STU-Net (``conv_blocks_context``), with a mean at its end.

    Inputs need not be multiples of 32: maps are rounded up.

    Source: arXiv:2304.06716, section 3, and the code that was published with it (``STUNet``).
    """

    def __init__(self, widths: tuple[int, ...], blocks: int, *, in_channels: int) -> None:
        """Make the network.

        Args:
            widths: Channels of each of the six stages.
            blocks: Number of blocks in each.
            in_channels: Channels of the volumes.
        """
        names = tuple(f"conv_blocks_context.{stage}" for stage in range(len(widths)))
        declaration = Declaration(
            family="stunet",
            stem="conv_blocks_context.0.0.conv1.weight",
            more_stems=("conv_blocks_context.0.0.conv3.weight",),
            head="seg_outputs",
            feature_channels=widths,
            strides=_STRIDES,
            num_features=widths[-1],
            min_size=(1, 1, _STRIDES[-1][2] + 1),
            preferred_size=preferred_size(_STRIDES[-1]),
            twin_of=None,
            native="volume",
            reference="STU-Net nnunet.network_architecture.STUNet",
        )
        super().__init__(
            declaration, trunk=names, pool=("global_pool",), taps=names, in_channels=in_channels
        )
        self.blocks = blocks
        self.conv_blocks_context = nn.ModuleList()
        before = in_channels
        for stage, width in enumerate(widths):
            first = BasicResBlock(before, width, stride=1 if stage == 0 else 2, first=True)
            rest = [BasicResBlock(width, width) for _ in range(blocks - 1)]
            self.conv_blocks_context.append(nn.Sequential(first, *rest))
            before = width
        self.global_pool = GlobalPool3d("avg", flatten=True)


def build_stunet(
    widths: tuple[int, ...],
    blocks: int,
    *,
    in_channels: int = 1,
    axes: str = AXES,
    seed: int | None = None,
) -> STUNetEncoder:
    """Build the encoder of a STU-Net with random weights.

    Args:
        widths: Channels of each of the six stages.
        blocks: Number of blocks in each.
        in_channels: Channels of the volumes.
        axes: Directions to which the axes of the volumes ran in training ("RAS"); each volume is
            turned to them.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    check_options(in_channels, 0.0)
    with seeded(seed):
        network = STUNetEncoder(widths, blocks, in_channels=in_channels)
        initialize_convolutions(network, leaky_kaiming)
    network.set_axes(axes)
    return network
