"""Losses of crops with masks of some of the classes."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from voxgraft.tasks.segmentation.hausdorff import mean_hausdorff
from voxgraft.tasks.segmentation.sigmoid_loss import SigmoidLoss
from voxgraft.tasks.segmentation.softmax_loss import SoftmaxLoss

SegmentationLoss = Literal["dice_ce", "dice_focal", "dice_ce_hausdorff"]
"""Dice with cross-entropy (softmax, or a sigmoid each where structures overlap), Dice with the
focal loss, or the first with a Hausdorff distance loss."""

SEGMENTATION_LOSSES: tuple[SegmentationLoss, ...] = ("dice_ce", "dice_focal", "dice_ce_hausdorff")

FOCUS = 2.0
"""Exponent of the focal loss."""


def crop_loss(
    logits: Float[Tensor, "b c d h w"],
    labels: Int[Tensor, "b l d h w"],
    known: Bool[Tensor, "b k"],
    *,
    kind: SegmentationLoss,
    overlapping: bool,
    surfaces: bool = True,
) -> Float[Tensor, ""]:
    """Return the loss of a batch of crops on one grid.

    The terms are added. Dice and the Hausdorff loss are means over the cases and classes that are
    known, without the background, which has no Dice of its own. The cross-entropy (or focal loss)
    is, with one softmax, the mean over the voxels of cases that know a class, the background being
    a class like the others; with a sigmoid each it is the mean over known cases and classes.

    Voxels labeled -1 count nowhere. Without anything known the loss is 0, with a gradient of 0.
    Beside the logits, only their gradient takes memory of their size; the Hausdorff loss takes
    several times its classes' share of it besides.

    Args:
        logits: K, or 1 + K with the background first unless structures overlap; of any precision,
            the loss is reckoned in float32 at least, part by part.
        labels: 0 none of the layer's structures, k + 1 class k, -1 (first layer) unknown of all.
        known: Which classes each case annotates.
        kind: Which terms.
        overlapping: Whether each class has a sigmoid of its own.
        surfaces: False leaves the Hausdorff loss out.
    """
    with torch.autocast(logits.device.type, enabled=False):
        focus = FOCUS if kind == "dice_focal" else 0.0
        by_tiles = SigmoidLoss if overlapping else SoftmaxLoss
        loss: Tensor = by_tiles.apply(logits, labels, known, focus)
        if kind == "dice_ce_hausdorff" and surfaces:
            loss = loss + mean_hausdorff(logits, labels, known, overlapping=overlapping)
        return loss
