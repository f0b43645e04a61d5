"""The loss of each kind of target, and the weights of classes in it."""

from __future__ import annotations

from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from voxgraft.tasks.fitted import Fitted


class Loss(Protocol):
    """Logits and targets in, one number out."""

    def __call__(
        self,
        logits: Float[Tensor, "b o"],
        targets: Float[Tensor, "b k"],
        fitted: Fitted,
        label_smoothing: float,
    ) -> Float[Tensor, ""]:
        """Return the mean loss of a batch."""


def binary_cross_entropy(
    logits: Float[Tensor, "b o"],
    targets: Float[Tensor, "b o"],
    fitted: Fitted,
    label_smoothing: float,
) -> Float[Tensor, ""]:
    """Return the mean binary cross-entropy over cases and columns.

    Positive cases of a column count ``fitted.positive_weight`` times. Smoothing moves a target
    by half of ``label_smoothing`` towards the other class.
    """
    targets = targets.to(logits.dtype)
    smoothed = targets * (1.0 - label_smoothing) + 0.5 * label_smoothing
    weight = fitted.positive_weight
    return functional.binary_cross_entropy_with_logits(
        logits, smoothed, pos_weight=None if weight is None else _like(weight, logits)
    )


def cross_entropy(
    logits: Float[Tensor, "b o"],
    targets: Float[Tensor, "b 1"],
    fitted: Fitted,
    label_smoothing: float,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy over cases, of class weights as fitted."""
    weight = fitted.class_weight
    return functional.cross_entropy(
        logits,
        targets[:, 0].long(),
        weight=None if weight is None else _like(weight, logits),
        label_smoothing=label_smoothing,
    )


def smooth_l1(
    logits: Float[Tensor, "b o"],
    targets: Float[Tensor, "b o"],
    fitted: Fitted,
    label_smoothing: float,
) -> Float[Tensor, ""]:
    """Return the mean smooth-L1 distance in standard deviations of the training targets."""
    return functional.smooth_l1_loss(logits, _standardized(logits, targets, fitted))


def squared_error(
    logits: Float[Tensor, "b o"],
    targets: Float[Tensor, "b o"],
    fitted: Fitted,
    label_smoothing: float,
) -> Float[Tensor, ""]:
    """Return the mean squared distance in standard deviations of the training targets."""
    return functional.mse_loss(logits, _standardized(logits, targets, fitted))


def _standardized(logits: Tensor, targets: Tensor, fitted: Fitted) -> Tensor:
    mean = torch.as_tensor(fitted.mean, dtype=torch.float64, device=targets.device)
    sd = torch.as_tensor(fitted.sd, dtype=torch.float64, device=targets.device)
    return ((targets.double() - mean) / sd).to(logits.dtype)


def _like(values: tuple[float, ...], logits: Tensor) -> Tensor:
    return torch.tensor(values, dtype=logits.dtype, device=logits.device)
