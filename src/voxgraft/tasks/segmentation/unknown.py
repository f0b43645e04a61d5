"""Logits that a case says nothing about get no gradient from it."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def joined_layers(
    labels: Int[Tensor, "b l d h w"], known: Bool[Tensor, "b k"]
) -> Int[Tensor, "b 1 d h w"]:
    """Return one label a voxel, of the first layer that has one there, of known classes only.

    A label of a class that the case does not annotate becomes 0, -1 stays.
    """
    joined = labels[:, :1]
    for layer in range(1, labels.shape[1]):
        joined = torch.where(joined == 0, labels[:, layer : layer + 1], joined)
    if bool(known.all()):
        return joined
    # Row b of the table: -1, 0 and each class, at their number plus one.
    numbers = torch.arange(1, known.shape[1] + 1, device=labels.device)
    table = torch.cat([numbers.new_tensor([-1, 0]).expand(len(known), 2), known * numbers], dim=1)
    rows = [row[own.long() + 1] for row, own in zip(table, joined, strict=True)]
    return torch.stack(rows).to(labels.dtype)


def hold_unknown(
    logits: Float[Tensor, "b c d h w"],
    known: Bool[Tensor, "b k"],
    background: Int[Tensor, "b 1 d h w"] | None,
) -> Float[Tensor, "b c d h w"]:
    """Return the logits, of which no gradient reaches what the cases do not know.

    That is the logits of classes that a case does not annotate; and, in such a case, the logit of
    the background in voxels of no known class, since they may be of an unknown one.

    Args:
        logits: Background first, if there is one.
        known: Which classes each case annotates.
        background: The label of each voxel, where there is a background.
    """
    if bool(known.all()):
        return logits
    held = ~known
    voxels = None
    if background is not None:
        held = torch.nn.functional.pad(held, (1, 0))
        voxels = (background <= 0) & ~known.all(dim=1).view(-1, 1, 1, 1, 1)
    out: Tensor = _Held.apply(logits, held, voxels)
    return out


class _Held(torch.autograd.Function):
    """The same values; the gradient of held channels, and of the first in held voxels, is 0."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, held: Tensor, voxels: Tensor | None) -> Tensor:
        ctx.save_for_backward(held, voxels)
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        held, voxels = ctx.saved_tensors
        gradient = gradients[0].masked_fill(held[:, :, None, None, None], 0.0)
        if voxels is not None:
            gradient[:, :1].masked_fill_(voxels, 0.0)
        return gradient, None, None
