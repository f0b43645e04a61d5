"""Hara's 3D ResNets, whose weights were trained on Kinetics-700 and larger sets of videos."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from voxgraft.models.initialization import initialize_convolutions, kaiming_fan_out, seeded
from voxgraft.models.twin import check_options
from voxgraft.models.volumetric.medical_resnet import (
    BasicBlock,
    Blocks,
    Bottleneck,
    MedicalResNet,
    Plan,
    Stage,
)


def build_hara(
    block: Literal["basic", "bottleneck"],
    blocks: Blocks,
    *,
    in_channels: int = 1,
    seed: int | None = None,
) -> MedicalResNet:
    """Build one of Hara's 3D ResNets with random weights.

    MedicalNet's and MONAI's 3D ResNets descend from these. Here the first convolution leaves the
    depth whole, and every later reduction halves depth and plane alike.

    Args:
        block: ``"basic"`` or ``"bottleneck"``.
        blocks: Number of blocks in each of the four stages.
        in_channels: Channels of the volumes.
        seed: Seed of the random weights; None draws from PyTorch's global generator.

    Raises:
        ModelError: If an option is impossible.

    Source:
        arXiv:1711.09577, section 3.2, and the code that was published with it: shortcuts of
        type B, and a first kernel of seven slices, as the weights of arXiv:2004.04968 have.
    """
    check_options(in_channels, 0.0)
    halving = Stage(stride=2)
    plan = Plan(
        family="hara_resnet",
        block=BasicBlock if block == "basic" else Bottleneck,
        blocks=blocks,
        stages=(Stage(), halving, halving, halving),
        shortcut="B",
        kernel=(7, 7, 7),
        stride=(1, 2, 2),
        head="fc",
        reference="kenshohara/3D-ResNets-PyTorch models.resnet.ResNet",
    )
    with seeded(seed):
        network = MedicalResNet(plan, in_channels=in_channels)
        initialize_convolutions(network, kaiming_fan_out)
    network.declaration = replace(network.declaration, native="video")
    return network
