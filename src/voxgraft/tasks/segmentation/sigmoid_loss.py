"""Dice with binary cross-entropy of a sigmoid for each class, and its gradient, by tiles."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from voxgraft.tasks.segmentation.dice_sums import DiceSums
from voxgraft.tasks.segmentation.tiles import (
    Tile,
    channel_groups,
    counted_voxels,
    labels_in,
    put_into,
    reckoned,
    tiles,
    values_in,
)


class SigmoidLoss(torch.autograd.Function):
    """Mean Dice loss plus mean binary cross-entropy of the classes that each case annotates.

    Classes that a case does not annotate are not looked at, and get no gradient from it.

    Source: arXiv:1708.02002 (focal loss), without its weight of classes.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Float[Tensor, "b k d h w"],
        labels: Int[Tensor, "b l d h w"],
        known: Bool[Tensor, "b k"],
        focus: float,
    ) -> Float[Tensor, ""]:
        """Return the loss.

        Args:
            ctx: PyTorch's.
            logits: Of each class.
            labels: 0 none of the layer's structures, k + 1 class k, -1 (first layer) unknown of
                all.
            known: Which classes each case annotates.
            focus: Exponent of the focal loss; 0 is the plain cross-entropy.
        """
        voxels, all_counted = counted_voxels(labels)
        sums = DiceSums.zeros(len(known), known.shape[1], logits.device)
        entropy = torch.zeros_like(sums.found)
        for sample, group, tile in _parts(logits, known):
            x = values_in(logits, sample, group, tile)
            masks, counted = _masks(labels, sample, group, tile, all_counted)
            found, values = torch.sigmoid(x), _entropy(x, masks, focus)
            if counted is not None:
                found, values = found * counted, values * counted
                masks = masks & (counted > 0)
            dtype = entropy.dtype
            sums.found[sample, group] += found.sum(1, dtype=dtype)
            sums.shared[sample, group] += (found * masks).sum(1, dtype=dtype)
            sums.size[sample, group] += masks.sum(1)
            entropy[sample, group] += values.sum(1, dtype=dtype)
        seen = known & (voxels > 0)[:, None]
        value, each, inner = sums.loss(seen, logits[0, 0].numel())
        share = seen / (seen.sum().clamp_min(1) * voxels.clamp_min(1)[:, None])
        ctx.save_for_backward(logits, labels, known, each, inner, share)
        ctx.focus = focus
        return (value + (share * entropy).sum()).to(reckoned(logits))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient of the logits, in their precision."""
        logits, labels, known, *parts = ctx.saved_tensors
        _, all_counted = counted_voxels(labels)
        gradient = torch.zeros_like(logits, memory_format=torch.contiguous_format)
        each, inner, share = ((upstream * part).to(reckoned(logits)) for part in parts)
        with torch.autocast(logits.device.type, enabled=False):
            for sample, group, tile in _parts(logits, known):
                x = values_in(logits, sample, group, tile)
                masks, counted = _masks(labels, sample, group, tile, all_counted)
                a, b, c = (part[sample, group, None] for part in (each, inner, share))
                probabilities = torch.sigmoid(x)
                part = torch.where(masks, a + b, a)
                part *= probabilities
                part *= 1.0 - probabilities
                part += c * _steepness(x, probabilities, masks, ctx.focus)
                if counted is not None:
                    part *= counted
                put_into(gradient, sample, group, tile, part)
        return gradient, None, None, None


def _parts(logits: Tensor, known: Bool[Tensor, "b k"]) -> list[tuple[int, slice, Tile]]:
    """Return samples, groups of the classes that each annotates, and tiles."""
    return [
        (sample, group, tile)
        for sample, wanted in enumerate(known.tolist())
        for group in channel_groups(wanted, logits)
        for tile in tiles(logits, group.stop - group.start)
    ]


def _masks(
    labels: Int[Tensor, "b l d h w"], sample: int, group: slice, tile: Tile, all_counted: bool
) -> tuple[Bool[Tensor, "c n"], Float[Tensor, " n"] | None]:
    """Return the voxels of each class, over all layers; and 1 where voxels count (None: all)."""
    layers = labels_in(labels, sample, tile)
    numbers = torch.arange(
        group.start + 1, group.stop + 1, device=labels.device, dtype=labels.dtype
    )[:, None]
    masks = layers[0] == numbers
    for layer in layers[1:]:
        masks |= layer == numbers
    return masks, None if all_counted else (layers[0] >= 0).float()


def _entropy(x: Tensor, masks: Tensor, focus: float) -> Tensor:
    against = torch.where(masks, -x, x)
    values = functional.softplus(against)
    return values * torch.sigmoid(against) ** focus if focus else values


def _steepness(x: Tensor, probabilities: Tensor, masks: Tensor, focus: float) -> Tensor:
    """Return the derivative of the entropy by the logit."""
    if not focus:
        return probabilities - masks.to(x.dtype)
    wrong = torch.where(masks, 1.0 - probabilities, probabilities)
    rising = wrong ** (focus + 1.0)
    rising += focus * functional.softplus(torch.where(masks, -x, x)) * wrong**focus * (1.0 - wrong)
    return torch.where(masks, -rising, rising)
