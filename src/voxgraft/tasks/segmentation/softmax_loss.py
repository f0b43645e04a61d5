"""Dice with cross-entropy of one softmax over background and classes, and its gradient, by tiles.

The plain way keeps the logits' log-softmax, probabilities, masks and the gradient of each: some
eight times the logits. Here sums over voxels are taken tile by tile, and the backward pass makes
the gradient tile by tile from the logits and these sums: beside the logits, the gradient is all
that is of their size.
"""

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
    counted_voxels,
    labels_in,
    put_into,
    reckoned,
    tiles,
    values_in,
)

_ALL = slice(None)


class SoftmaxLoss(torch.autograd.Function):
    """Mean Dice loss of the known classes, plus the mean cross-entropy of the voxels.

    A label of a class that the case does not annotate counts as none. A voxel of no known class is
    background or of an unknown class: its probability is that of all of these together. In a case
    that leaves classes unknown, no gradient reaches their logits nor the background's
    (:func:`~voxgraft.tasks.segmentation.unknown.hold_unknown` says why).

    Source: doi:10.1016/j.media.2021.101979 (marginal loss); arXiv:1708.02002 (focal loss).
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: Float[Tensor, "b c d h w"],
        labels: Int[Tensor, "b l d h w"],
        known: Bool[Tensor, "b k"],
        focus: float,
    ) -> Float[Tensor, ""]:
        """Return the loss.

        Args:
            ctx: PyTorch's.
            logits: Background first.
            labels: 0 none of the layer's structures, k + 1 class k, -1 (first layer) unknown of
                all.
            known: Which classes each case annotates.
            focus: Exponent of the focal loss; 0 is the plain cross-entropy.
        """
        cases = _Cases(labels, known, reckoned(logits))
        sums = DiceSums.zeros(len(logits), logits.shape[1], logits.device)
        entropy = torch.zeros((), dtype=sums.found.dtype, device=logits.device)
        for sample in cases.annotated:
            for tile in tiles(logits, logits.shape[1]):
                own, place, counted = cases.labels(sample, tile)
                log_probabilities = values_in(logits, sample, _ALL, tile).log_softmax(0)
                right = cases.right(sample, log_probabilities, own, place)
                probabilities = log_probabilities.exp_()
                values = _entropy(right, focus)
                inside = (right.exp() * (own > 0)).to(entropy.dtype)
                if counted is None:
                    sums.found[sample] += probabilities.sum(1, dtype=entropy.dtype)
                else:
                    values = values * counted
                    sums.found[sample] += torch.mv(probabilities, counted)
                entropy += values.sum(dtype=entropy.dtype)
                sums.shared[sample].index_add_(0, place, inside)
                sums.size[sample] += torch.bincount(place, minlength=logits.shape[1])
        told = cases.voxels[cases.annotated].sum().clamp_min(1)
        value, each, inner = sums.loss(cases.seen, logits[0, 0].numel())
        ctx.save_for_backward(logits, labels, known, each, inner, told)
        ctx.focus = focus
        return (value + entropy / told).to(reckoned(logits))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        """Return the gradient of the logits, in their precision."""
        logits, labels, known, each, inner, told = ctx.saved_tensors
        cases = _Cases(labels, known, reckoned(logits))
        gradient = torch.zeros_like(logits, memory_format=torch.contiguous_format)
        each, inner, share = (
            (upstream * part).to(reckoned(logits)) for part in (each, inner, 1.0 / told)
        )
        with torch.autocast(logits.device.type, enabled=False):
            for sample in cases.annotated:
                for tile in tiles(logits, logits.shape[1]):
                    own, place, counted = cases.labels(sample, tile)
                    log_probabilities = values_in(logits, sample, _ALL, tile).log_softmax(0)
                    right = cases.right(sample, log_probabilities, own, place)
                    steep = share * _steepness(right, ctx.focus)
                    part = log_probabilities.exp_()
                    chosen = inner[sample][place] * right.exp()
                    mean = torch.mv(part.t(), each[sample]) + chosen
                    part *= each[sample][:, None] - (mean - steep)
                    part.scatter_add_(0, place[None], (chosen - steep)[None])
                    if counted is not None:
                        part *= counted
                    cases.hold(sample, part)
                    put_into(gradient, sample, _ALL, tile, part)
        return gradient, None, None, None


class _Cases:
    """What the cases of a batch say: their labels, and which classes these leave unknown."""

    def __init__(
        self, labels: Int[Tensor, "b l d h w"], known: Bool[Tensor, "b k"], dtype: torch.dtype
    ) -> None:
        self._labels = labels
        self._dtype = dtype
        self._known = known
        self.annotated: list[int] = known.any(dim=1).nonzero().flatten().tolist()
        self._partial: list[bool] = (~known.all(dim=1)).tolist()
        numbers = torch.arange(1, known.shape[1] + 1, device=known.device)
        # Row b: what -1, 0 and each class mean in the case, at their number plus one.
        none = numbers.new_tensor([-1, 0]).expand(len(known), 2)
        self._meanings = torch.cat([none, known * numbers], dim=1)
        self._hidden = functional.pad(~known, (1, 0), value=True)
        self.voxels, self._all_counted = counted_voxels(labels)

    @property
    def seen(self) -> Bool[Tensor, "b c"]:
        """Whose Dice counts: known classes of cases with a voxel that counts."""
        return functional.pad(self._known, (1, 0)) & (self.voxels > 0)[:, None]

    def labels(self, sample: int, tile: Tile) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return labels; channels that they stand for; 1 where voxels count (None: all do)."""
        layers = labels_in(self._labels, sample, tile).long()
        own = layers[0]
        for layer in layers[1:]:
            own = torch.where(own == 0, layer, own)
        if self._partial[sample]:
            own = self._meanings[sample][own + 1]
        counted = None if self._all_counted else (own >= 0).to(self._dtype)
        return own, own.clamp_min(0), counted

    def right(
        self, sample: int, log_probabilities: Float[Tensor, "c n"], own: Tensor, place: Tensor
    ) -> Float[Tensor, " n"]:
        """Return the log-probability of what the labels say of each voxel."""
        picked = log_probabilities.gather(0, place[None])[0]
        if not self._partial[sample]:
            return picked
        either = log_probabilities[self._hidden[sample]].logsumexp(0)
        return torch.where(own > 0, picked, either)

    def hold(self, sample: int, gradient: Float[Tensor, "c n"]) -> None:
        """Take away the gradient of what the case does not know."""
        if self._partial[sample]:
            gradient.masked_fill_(self._hidden[sample][:, None], 0.0)


def _entropy(right: Tensor, focus: float) -> Tensor:
    if not focus:
        return -right
    # Rounding may bring the sum of several probabilities above 1.
    return -right * (1.0 - right.exp()).clamp_min(0.0) ** focus


def _steepness(right: Tensor, focus: float) -> Tensor:
    """Return how fast the entropy falls as the log-probability rises."""
    if not focus:
        return torch.ones_like(right)
    probability = right.exp()
    wrong = (1.0 - probability).clamp_min(0.0)
    return wrong**focus - focus * right * probability * wrong ** (focus - 1.0)
