"""What the losses are sums of: each term of each case and class, and the mean over the known."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

SMOOTH = 1e-5
"""Voxels added to both sides of the Dice ratio of a structure that the crop holds."""
FOCUS = 2.0
"""Exponent of the focal loss."""
_VOXELS = (2, 3, 4)


def class_masks(labels: Int[Tensor, "b l d h w"], classes: int) -> Bool[Tensor, "b k d h w"]:
    """Return which voxels are of each class, over all layers of the labels."""
    numbers = torch.arange(1, classes + 1, device=labels.device, dtype=labels.dtype)
    numbers = numbers.view(1, -1, 1, 1, 1)
    masks = labels[:, :1] == numbers
    for layer in range(1, labels.shape[1]):
        masks |= labels[:, layer : layer + 1] == numbers
    return masks


def soft_dice(
    probabilities: Float[Tensor, "b k d h w"],
    masks: Bool[Tensor, "b k d h w"],
    valid: Bool[Tensor, "b 1 d h w"] | None = None,
) -> Float[Tensor, "b k"]:
    """Return one minus the soft Dice coefficient of each case and class.

    All voxels of a crop count together, never slice by slice. A class that the crop does not hold
    has the loss ``p / (p + n)``, of the sum p of its probabilities over the n voxels of the crop:
    0 where it is rightly found nowhere, instead of the 1 that a Dice ratio of nearly nothing
    gives, and with a gradient that does not vanish. (It is the same ratio, smoothed by the crop's
    voxels.)

    Args:
        probabilities: Of each class.
        masks: Voxels of each class.
        valid: Voxels that count; all if None.

    Source: arXiv:1606.04797 (V-Net); no squares in the denominator, as in nnU-Net.
    """
    if valid is not None:
        probabilities = probabilities.masked_fill(~valid, 0.0)
        masks = masks & valid
    size = masks.sum(_VOXELS)
    found = probabilities.sum(_VOXELS)
    shared = torch.where(masks, probabilities, probabilities.new_zeros(())).sum(_VOXELS)
    smooth = torch.where(size > 0, SMOOTH, float(masks[0, 0].numel()))
    return 1.0 - (2.0 * shared + smooth) / (found + size + smooth)


def binary_cross_entropy(
    logits: Float[Tensor, "b k d h w"],
    masks: Bool[Tensor, "b k d h w"],
    valid: Bool[Tensor, "b 1 d h w"] | None = None,
    *,
    focus: float = 0.0,
) -> Float[Tensor, "b k"]:
    """Return the mean binary cross-entropy over the voxels of each case and class.

    Args:
        logits: Of each class.
        masks: Voxels of each class.
        valid: Voxels that count; all if None.
        focus: Exponent of the focal loss; 0 is the plain cross-entropy.

    Source: arXiv:1708.02002 (focal loss), without its weight of classes.
    """
    against = torch.where(masks, -logits, logits)
    values = functional.softplus(against)
    if focus:
        values = values * torch.sigmoid(against) ** focus
    return voxel_mean(values, valid)


def cross_entropy(
    log_probabilities: Float[Tensor, "b c d h w"],
    labels: Int[Tensor, "b 1 d h w"],
    known: Bool[Tensor, "b k"],
    *,
    focus: float = 0.0,
) -> Float[Tensor, "b 1 d h w"]:
    """Return the cross-entropy of each voxel.

    A voxel of no known class is background or of an unknown class: its probability is that of
    all of these together. Where everything is known this is the plain cross-entropy.

    Args:
        log_probabilities: Background first.
        labels: 0 no known class, k + 1 the known class k; below 0 counts as 0.
        known: Which classes each case annotates.
        focus: Exponent of the focal loss; 0 is the plain cross-entropy.

    Source: doi:10.1016/j.media.2021.101979 (marginal loss); arXiv:1708.02002 (focal loss).
    """
    none = log_probabilities[:, :1]
    partial = ~known.all(dim=1)
    if bool(partial.any()):
        hidden = functional.pad(known, (1, 0))[:, :, None, None, None]
        either = log_probabilities.masked_fill(hidden, -torch.inf).logsumexp(dim=1, keepdim=True)
        none = torch.where(partial.view(-1, 1, 1, 1, 1), either, none)
    picked = log_probabilities.gather(1, labels.clamp_min(0).long())
    right = torch.where(labels > 0, picked, none)
    if not focus:
        return -right
    # Rounding may bring the sum of several probabilities above 1.
    return -right * (1.0 - right.exp()).clamp_min(0.0) ** focus


def hausdorff(
    probabilities: Float[Tensor, "b k d h w"],
    masks: Bool[Tensor, "b k d h w"],
    known: Bool[Tensor, "b k"],
    valid: Bool[Tensor, "b 1 d h w"] | None = None,
) -> Float[Tensor, "b k"]:
    """Return a loss of voxels that are wrong far from the surfaces of the known structures.

    It is ``log(1 + mean of (p - y)^2 (d_p^2 + d_y^2))``, of the distances in voxels to the
    surfaces of the prediction and the mask, from MONAI's ``LogHausdorffDTLoss``. The distances
    are found on the processor: where a class is neither in the crop nor predicted they are not.

    Args:
        probabilities: Of each class.
        masks: Voxels of each class.
        known: Which classes each case annotates; others get 0.
        valid: Voxels that count; all if None.

    Source: arXiv:1904.10030.
    """
    from monai.losses.hausdorff_loss import LogHausdorffDTLoss  # a heavy import

    if valid is not None:
        probabilities = probabilities.masked_fill(~valid, 0.0)
        masks = masks & valid
    somewhere = masks.flatten(2).any(2) | (probabilities.detach().amax(_VOXELS) > 0.5)
    pairs = (known & somewhere).nonzero(as_tuple=True)
    losses = probabilities.new_zeros(known.shape)
    if len(pairs[0]):
        one_by_one = LogHausdorffDTLoss(include_background=True, reduction="none")
        chosen = probabilities[pairs][None]
        values: Tensor = one_by_one(chosen, masks[pairs][None].to(chosen.dtype))
        losses = losses.index_put(pairs, values.flatten())
    return losses


def voxel_mean(
    values: Float[Tensor, "b c d h w"], valid: Bool[Tensor, "b 1 d h w"] | None
) -> Float[Tensor, "b c"]:
    """Return the mean over the voxels that count; 0 where none does."""
    if valid is None:
        return values.mean(_VOXELS)
    total = torch.where(valid, values, values.new_zeros(())).sum(_VOXELS)
    return total / valid.sum(_VOXELS).clamp_min(1)


def pair_mean(values: Float[Tensor, "b k"], counted: Bool[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Return the mean over the cases and classes that count; 0, with a gradient of 0, if none."""
    return torch.where(counted, values, values.new_zeros(())).sum() / counted.sum().clamp_min(1)
