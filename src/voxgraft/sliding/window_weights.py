"""How much each voxel of a window counts where windows overlap."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from voxgraft.types import Size3

_LEAST = 1e-3
"""No voxel counts less than this, where the middle counts one."""


def window_weights(
    window: Size3, kind: str, *, sigma_scale: float = 0.125
) -> Float[Tensor, "d h w"]:
    """Return the weights of a window's voxels; all are positive, as MONAI has them.

    Args:
        window: (depth, height, width) of the window, in voxels.
        kind: ``constant``, all one; or ``gaussian``, falling from one in the middle.
        sigma_scale: The gaussian's standard deviation, as a share of the window's edge.

    Source: arXiv:1809.10486 (nnU-Net), where windows are joined so.
    """
    weights = torch.ones(window)
    if kind == "constant":
        return weights
    for axis, edge in enumerate(window):
        from_middle = torch.arange(edge, dtype=torch.float32) - (edge - 1) / 2
        falling = torch.exp(-(from_middle**2) / (2 * (edge * sigma_scale) ** 2))
        weights *= falling.view([-1 if other == axis else 1 for other in range(3)])
    return weights.clamp_(min=_LEAST)
