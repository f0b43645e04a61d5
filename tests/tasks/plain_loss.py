"""Losses of segmentations written down plainly, for autograd: what the tiled ones must equal."""

import torch
from torch.nn import functional

VOXELS = (2, 3, 4)


def class_masks(labels, classes):
    """Return which voxels are of each class, over all layers of the labels."""
    numbers = torch.arange(1, classes + 1).view(1, -1, 1, 1, 1)
    return torch.stack([layer[:, None] == numbers for layer in labels.unbind(1)]).any(0)


def soft_dice(probabilities, masks, counted):
    """One minus soft Dice of each case and class; smoothed by the crop's voxels if it is absent."""
    probabilities, masks = probabilities * counted, masks & counted
    smooth = torch.where(masks.sum(VOXELS) > 0, 1e-5, float(masks[0, 0].numel()))
    shared = (probabilities * masks).sum(VOXELS)
    return 1 - (2 * shared + smooth) / (probabilities.sum(VOXELS) + masks.sum(VOXELS) + smooth)


def mean_of(values, chosen):
    """Mean over what is chosen; 0 if nothing is."""
    chosen = chosen.expand(values.shape)
    return torch.where(chosen, values, 0.0).sum() / chosen.sum().clamp_min(1)


def sigmoids(logits, labels, known, focus):
    """A sigmoid each: unknown classes are left out of both means."""
    counted = labels[:, :1] >= 0
    masks = class_masks(labels, known.shape[1])
    right = functional.logsigmoid(torch.where(masks, logits, -logits))
    entropy = -right * (1 - right.exp()) ** focus if focus else -right
    each = torch.where(counted, entropy, 0.0).sum(VOXELS) / counted.sum(VOXELS).clamp_min(1)
    seen = known & counted.flatten(1).any(1)[:, None]
    return mean_of(soft_dice(logits.sigmoid(), masks, counted), seen) + mean_of(each, seen)


def softmax(logits, labels, known, focus):
    """One softmax: unknown classes are detached, and with them the background."""
    counted = labels[:, :1] >= 0
    own = labels[:, :1]
    for layer in labels[:, 1:].unbind(1):
        own = torch.where(own == 0, layer[:, None], own)
    numbers = functional.pad(known, (1, 0), value=True)
    one_hot = torch.stack([own[:, 0] == k for k in range(numbers.shape[1])], dim=1)
    one_hot = one_hot & numbers[:, :, None, None, None]
    none = ~one_hot[:, 1:].any(1, keepdim=True)
    one_hot[:, :1] = none
    partial = (~known.all(1)).view(-1, 1, 1, 1, 1)
    held = (~numbers)[:, :, None, None, None].expand(logits.shape).clone()
    held[:, :1] = partial
    log_p = torch.where(held, logits.detach(), logits).log_softmax(1)
    hidden = functional.pad(~known, (1, 0), value=True)[:, :, None, None, None]
    allowed = torch.where(none & partial, hidden, one_hot)
    right = torch.where(allowed, log_p, -torch.inf).logsumexp(1, keepdim=True)
    entropy = -right * (1 - right.exp()).clamp_min(0) ** focus if focus else -right
    seen = known & counted.flatten(1).any(1)[:, None]
    dice = soft_dice(log_p[:, 1:].exp(), one_hot[:, 1:], counted)
    return mean_of(dice, seen) + mean_of(entropy, counted & known.any(1).view(-1, 1, 1, 1, 1))
