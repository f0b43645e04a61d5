"""The encoders of MONAI's SegResNet and SegResNetDS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from voxgraft.models.declaration import Declaration
from voxgraft.models.initialization import seeded
from voxgraft.models.layers.pooling import GlobalPool3d
from voxgraft.models.orientation import AXES, Oriented
from voxgraft.models.sequential import SequentialEncoder
from voxgraft.models.twin import check_options, preferred_size
from voxgraft.types import Size3

_GROUPS = 8


def doubling_strides(count: int, first: int = 1) -> tuple[Size3, ...]:
    """Return the reductions of stages of which each has half the resolution of the one before."""
    steps = [first * 2**stage for stage in range(count)]
    return tuple((step, step, step) for step in steps)


class SegResNetEncoder(Oriented, SequentialEncoder):
    """The first half of MONAI's SegResNet; its tensors have MONAI's names.

    Residual blocks with group normalization before each convolution; a stage begins with a
    convolution of stride 2, the first stage without. The pooled vector is the mean of the last
    map, which the original gives to its decoder without a normalization.

    Source: arXiv:1810.11654, section 2.1, without the variational branch.
    """

    def __init__(self, *, in_channels: int, init_filters: int, blocks_down: Sequence[int]) -> None:
        """Make the network.

        Args:
            in_channels: Channels of the volumes.
            init_filters: Channels of the first stage.
            blocks_down: Residual blocks of each stage.
        """
        from monai.networks.nets.segresnet import SegResNet

        whole = SegResNet(
            spatial_dims=3,
            in_channels=in_channels,
            init_filters=init_filters,
            blocks_down=tuple(blocks_down),
            blocks_up=(),
        )
        stages = [f"down_layers.{stage}" for stage in range(len(blocks_down))]
        strides = doubling_strides(len(stages))
        channels = tuple(init_filters * 2**stage for stage in range(len(stages)))
        declaration = Declaration(
            family="segresnet",
            stem="convInit.conv.weight",
            head="conv_final.2",
            feature_channels=channels,
            strides=strides,
            num_features=channels[-1],
            # Of 8 channels, each is a group of its own, and one voxel has no variance.
            min_size=(1, 1, 1) if init_filters > _GROUPS else (2, 2, 2),
            preferred_size=preferred_size(strides[-1]),
            twin_of=None,
            native="volume",
            reference="monai.networks.nets.SegResNet",
        )
        super().__init__(
            declaration,
            trunk=("convInit", *stages),
            pool=("global_pool",),
            taps=stages,
            in_channels=in_channels,
        )
        self.convInit = whole.convInit
        self.down_layers = whole.down_layers
        self.global_pool = GlobalPool3d("avg", flatten=True)


def build_segresnet(
    init_filters: int,
    blocks_down: tuple[int, ...] = (1, 2, 2, 4),
    *,
    in_channels: int = 1,
    axes: str = AXES,
    seed: int | None = None,
) -> SegResNetEncoder:
    """Build the encoder of MONAI's SegResNet with random weights.

    Args:
        init_filters: Channels of the first stage; a multiple of 8.
        blocks_down: Residual blocks of each stage.
        in_channels: Channels of the volumes.
        axes: Directions to which the axes of the volumes ran in training ("RAS"); each volume is
            turned to them.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    check_options(in_channels, 0.0)
    with seeded(seed):
        encoder = SegResNetEncoder(
            in_channels=in_channels, init_filters=init_filters, blocks_down=blocks_down
        )
    encoder.set_axes(axes)
    return encoder


class SegResNetDSEncoder(Oriented, SequentialEncoder):
    """MONAI's SegResEncoder, the first half of SegResNetDS; its tensors have MONAI's names.

    As :class:`SegResNetEncoder`, with batch or instance normalization, and with the reductions at
    the end of a stage. The pooled vector is the mean of the last map, as CT-FM takes it.

    Source: arXiv:1810.11654, section 2.1; arXiv:2501.09001 (CT-FM); arXiv:2406.05285 (VISTA3D).
    """

    def __init__(
        self, *, in_channels: int, init_filters: int, blocks_down: Sequence[int], norm: str
    ) -> None:
        """Make the network.

        Args:
            in_channels: Channels of the volumes.
            init_filters: Channels of the first stage.
            blocks_down: Residual blocks of each stage.
            norm: MONAI's name of the normalization: ``"batch"`` or ``"instance"``.
        """
        from monai.networks.nets.segresnet_ds import SegResEncoder

        whole: Any = SegResEncoder(
            spatial_dims=3,
            in_channels=in_channels,
            init_filters=init_filters,
            norm=norm,
            blocks_down=tuple(blocks_down),
        )
        count = len(blocks_down)
        stages = [f"layers.{stage}.blocks" for stage in range(count)]
        trunk = ["conv_init"]
        for stage in range(count):
            trunk.append(stages[stage])
            if stage < count - 1:
                trunk.append(f"layers.{stage}.downsample")
        strides = doubling_strides(count)
        more = strides[-1][0] + 1
        channels = tuple(init_filters * 2**stage for stage in range(count))
        declaration = Declaration(
            family="segresnet_ds",
            stem="conv_init.weight",
            head="head_module",
            feature_channels=channels,
            strides=strides,
            num_features=channels[-1],
            # Instance normalization needs two voxels of the last map, in evaluation too.
            min_size=(1, 1, 1) if norm == "batch" else (more, more, more),
            preferred_size=preferred_size(strides[-1]),
            twin_of=None,
            native="volume",
            reference="monai.networks.nets.segresnet_ds.SegResEncoder",
        )
        super().__init__(
            declaration, trunk=trunk, pool=("global_pool",), taps=stages, in_channels=in_channels
        )
        self.norm = norm
        self.conv_init = whole.conv_init
        self.layers = whole.layers
        self.global_pool = GlobalPool3d("avg", flatten=True)


def build_segresnet_ds(
    init_filters: int,
    norm: str,
    blocks_down: tuple[int, ...] = (1, 2, 2, 4, 4),
    *,
    in_channels: int = 1,
    axes: str = AXES,
    seed: int | None = None,
) -> SegResNetDSEncoder:
    """Build MONAI's SegResEncoder with random weights.

    Args:
        init_filters: Channels of the first stage.
        norm: ``"batch"`` (CT-FM) or ``"instance"`` (VISTA3D).
        blocks_down: Residual blocks of each stage.
        in_channels: Channels of the volumes.
        axes: Directions to which the axes of the volumes ran in training ("RAS"); each volume is
            turned to them.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.
    """
    check_options(in_channels, 0.0)
    with seeded(seed):
        encoder = SegResNetDSEncoder(
            in_channels=in_channels, init_filters=init_filters, blocks_down=blocks_down, norm=norm
        )
    encoder.set_axes(axes)
    return encoder
