"""Losses of crops with masks of some of the classes."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from voxgraft.tasks.segmentation import terms
from voxgraft.tasks.segmentation.unknown import hold_unknown, joined_layers

SegmentationLoss = Literal["dice_ce", "dice_focal", "dice_ce_hausdorff"]
"""Dice with cross-entropy (softmax, or a sigmoid each where structures overlap), Dice with the
focal loss, or the first with a Hausdorff distance loss."""

SEGMENTATION_LOSSES: tuple[SegmentationLoss, ...] = ("dice_ce", "dice_focal", "dice_ce_hausdorff")


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

    Args:
        logits: K, or 1 + K with the background first unless structures overlap; of any precision,
            the loss is reckoned in float32 at least.
        labels: 0 none of the layer's structures, k + 1 class k, -1 (first layer) unknown of all.
        known: Which classes each case annotates.
        kind: Which terms.
        overlapping: Whether each class has a sigmoid of its own.
        surfaces: False leaves the Hausdorff loss out.
    """
    with torch.autocast(logits.device.type, enabled=False):
        if logits.dtype != torch.float64:
            logits = logits.float()
        focus = terms.FOCUS if kind == "dice_focal" else 0.0
        counted = labels[:, :1] >= 0
        valid = None if bool(counted.all()) else counted
        seen = known & counted.flatten(1).any(1)[:, None]
        if overlapping:
            logits = hold_unknown(logits, known, None)
            probabilities = torch.sigmoid(logits)
            masks = terms.class_masks(labels, known.shape[1])
            entropy = terms.binary_cross_entropy(logits, masks, valid, focus=focus)
            second = terms.pair_mean(entropy, seen)
        else:
            joined = joined_layers(labels, known)
            log_probabilities = functional.log_softmax(hold_unknown(logits, known, joined), dim=1)
            probabilities = log_probabilities[:, 1:].exp()
            masks = terms.class_masks(joined, known.shape[1])
            entropy = terms.cross_entropy(log_probabilities, joined, known, focus=focus)
            told = counted & known.any(dim=1).view(-1, 1, 1, 1, 1)
            second = terms.pair_mean(entropy, told)
        loss = terms.pair_mean(terms.soft_dice(probabilities, masks, valid), seen) + second
        if kind == "dice_ce_hausdorff" and surfaces:
            far = terms.hausdorff(probabilities, masks, seen, valid)
            loss = loss + terms.pair_mean(far, seen)
        return loss
