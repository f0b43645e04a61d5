"""The sums over voxels that soft Dice is made of, and what a voxel's gradient is by them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from voxgraft.tasks.segmentation.tiles import sums_dtype

SMOOTH = 1e-5
"""Voxels added to both sides of the Dice ratio of a structure that the crop holds."""


@dataclass(frozen=True)
class DiceSums:
    """Of each case and channel: probabilities, those within the structure, and its voxels."""

    found: Float[Tensor, "b c"]
    shared: Float[Tensor, "b c"]
    size: Float[Tensor, "b c"]

    @classmethod
    def zeros(cls, cases: int, channels: int, device: torch.device) -> DiceSums:
        """Return sums of nothing."""
        dtype = sums_dtype(device)
        first, second, third = torch.zeros((3, cases, channels), dtype=dtype, device=device)
        return cls(first, second, third)

    def loss(
        self, seen: Bool[Tensor, "b c"], voxels: int
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "b c"], Float[Tensor, "b c"]]:
        """Return one minus the soft Dice coefficient, its mean over cases and channels.

        All voxels of a crop count together, never slice by slice. A class that the crop does not
        hold has the loss ``p / (p + n)``, of the sum p of its probabilities over the n voxels of
        the crop: 0 where it is rightly found nowhere, instead of the 1 that a Dice ratio of nearly
        nothing gives, and with a gradient that does not vanish. (It is the same ratio, smoothed by
        the crop's voxels.)

        Args:
            seen: Which cases and channels count.
            voxels: Of a crop.

        Returns:
            The loss; its derivative by the probability of any voxel; and what is added to it for
            a voxel within the structure.

        Source: arXiv:1606.04797 (V-Net); no squares in the denominator, as in nnU-Net.
        """
        smooth = torch.where(self.size > 0, SMOOTH, float(voxels))
        above = 2.0 * self.shared + smooth
        below = self.found + self.size + smooth
        weight = seen.to(above.dtype) / seen.sum().clamp_min(1)
        value = (weight * (1.0 - above / below)).sum()
        return value, weight * above / below**2, -2.0 * weight / below
