"""Which of our networks and starts are the rows and columns of Ke et al.'s table 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxgraft.comparison.published.cells import Cell

MODELS_3D: dict[str, str] = {
    "mvit_base_32x3": "MViT",
    "r2plus1d_r50": "R(2+1)D R50",
    "csn_r101": "CSN R101",
    "slowfast_r50": "SlowFast R50",
    "slow_r50": "Slow R50",
    "swin3d_t": "Swin-T",
    "penet_3d": "PENet",
}
"""Our name of each 3D network, and the printed one."""

MODELS_2D: dict[str, str] = {
    "slicewise_resnet18": "ResNet-18",
    "slicewise_resnext101_32x8d": "ResNext-101",
    "lrcn_resnext101_32x8d": "LRCN",
}
"""Our name of each network on slices, and the printed one."""

STARTS: dict[str, tuple[bool, bool]] = {
    "scratch": (False, False),
    "video": (True, False),
    "ct": (False, True),
    "video_ct": (True, True),
}
"""Name of each start, and whether it has seen video (or images) and other chest CT."""


def row_of(model: str) -> str:
    """Return the printed name of a network; its own where the table has none."""
    return (MODELS_3D | MODELS_2D).get(model, model)


def column_of(cell: Cell) -> str:
    """Return the name of the start of a cell."""
    return next(name for name, seen in STARTS.items() if seen == (cell.video, cell.ct))
