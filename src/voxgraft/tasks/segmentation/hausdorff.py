"""A loss of voxels that are wrong far from the surfaces of the known structures."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from voxgraft.tasks.segmentation.unknown import hold_unknown, joined_layers

_VOXELS = (2, 3, 4)


def mean_hausdorff(
    logits: Float[Tensor, "b c d h w"],
    labels: Int[Tensor, "b l d h w"],
    known: Bool[Tensor, "b k"],
    *,
    overlapping: bool,
) -> Float[Tensor, ""]:
    """Return the mean Hausdorff distance loss of the known cases and classes.

    It is ``log(1 + mean of (p - y)^2 (d_p^2 + d_y^2))``, of the distances in voxels to the
    surfaces of the prediction and the mask, from MONAI's ``LogHausdorffDTLoss``. The distances
    are found on the processor: where a class is neither in the crop nor predicted they are not.

    Args:
        logits: As in :func:`~voxgraft.tasks.segmentation.loss.crop_loss`.
        labels: As there.
        known: Which classes each case annotates.
        overlapping: Whether each class has a sigmoid of its own.

    Source: arXiv:1904.10030.
    """
    from monai.losses.hausdorff_loss import LogHausdorffDTLoss  # a heavy import

    logits = logits if logits.dtype == torch.float64 else logits.float()
    counted = labels[:, :1] >= 0
    seen = known & counted.flatten(1).any(1)[:, None]
    if overlapping:
        probabilities = torch.sigmoid(hold_unknown(logits, known))
    else:
        labels = joined_layers(labels, known)
        probabilities = hold_unknown(logits, known).softmax(dim=1)[:, 1:]
    masks = class_masks(labels, known.shape[1])
    if not bool(counted.all()):
        probabilities = probabilities.masked_fill(~counted, 0.0)
        masks = masks & counted
    somewhere = masks.flatten(2).any(2) | (probabilities.detach().amax(_VOXELS) > 0.5)
    pairs = (seen & somewhere).nonzero(as_tuple=True)
    if not len(pairs[0]):
        return logits.new_zeros(())
    one_by_one = LogHausdorffDTLoss(include_background=True, reduction="none")
    chosen = probabilities[pairs][None]
    values: Tensor = one_by_one(chosen, masks[pairs][None].to(chosen.dtype))
    return values.sum() / seen.sum()


def class_masks(labels: Int[Tensor, "b l d h w"], classes: int) -> Bool[Tensor, "b k d h w"]:
    """Return which voxels are of each class, over all layers of the labels."""
    numbers = torch.arange(1, classes + 1, device=labels.device, dtype=labels.dtype)
    numbers = numbers.view(1, -1, 1, 1, 1)
    masks = labels[:, :1] == numbers
    for layer in range(1, labels.shape[1]):
        masks |= labels[:, layer : layer + 1] == numbers
    return masks
