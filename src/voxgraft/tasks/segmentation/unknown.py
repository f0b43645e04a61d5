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
    logits: Float[Tensor, "b c d h w"], known: Bool[Tensor, "b k"]
) -> Float[Tensor, "b c d h w"]:
    """Return the logits, of which no gradient reaches what the cases do not know.

    That is the logits of classes that a case does not annotate; and, in such a case, the logit of
    the background if there is one: voxels of no known class may be of an unknown one, and pulled
    down in the others alone it would fall, and all classes with it, without end.

    Args:
        logits: Background first, if there is one.
        known: Which classes each case annotates.
    """
    if bool(known.all()):
        return logits
    held = ~known
    if logits.shape[1] > known.shape[1]:
        held = torch.cat([held.any(dim=1, keepdim=True), held], dim=1)
    out: Tensor = _Held.apply(logits, held)
    return out


class _Held(torch.autograd.Function):
    """The same values; the gradient of held channels is 0."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, held: Tensor) -> Tensor:
        ctx.save_for_backward(held)
        return logits.view_as(logits)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (held,) = ctx.saved_tensors
        return gradients[0].masked_fill(held[:, :, None, None, None], 0.0), None
