"""Labels on the coarser grids of a deeply supervised network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from voxgraft.types import Size3


def level_weights(levels: int) -> list[float]:
    """Return the weight of each level, finest first: each half of the finer one's, in all 1.

    Source: doi:10.1038/s41592-020-01008-z (nnU-Net).
    """
    weights = [0.5**level for level in range(levels)]
    return [weight / sum(weights) for weight in weights]


def coarser_labels(
    labels: Int[Tensor, "b l d h w"], size: Sequence[int], stride: Size3 | None = None
) -> Int[Tensor, "b l d h w"]:
    """Return the labels of a coarser grid: of the voxel in the middle of each block.

    Of an even number of voxels it is the one before the middle; where the volume ends within a
    block, it may be the last one.

    Args:
        labels: On the volume's grid.
        size: (depth, height, width) of the coarser grid, the volume's divided by the strides and
            rounded up.
        stride: (depth, height, width) of a block; the smallest that gives ``size`` if None.
    """
    for axis in range(3):
        edge, count = labels.shape[axis + 2], size[axis]
        if edge == count:
            continue
        step = -(-edge // count) if stride is None else stride[axis]
        places = torch.arange(count, device=labels.device) * step + (step - 1) // 2
        labels = labels.index_select(axis + 2, places.clamp_max(edge - 1))
    return labels
