"""From logits to scores: probabilities, or values in the target's unit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from voxgraft.tasks.fitted import Fitted

Decoding = Callable[[Tensor, Fitted], np.ndarray]
"""Logits (B, O) and the fitted numbers in, scores (B, O) as float64 out."""


def sigmoid(logits: Float[Tensor, "b o"], fitted: Fitted) -> Float[np.ndarray, "b o"]:
    """Return the probability of each column."""
    return np.asarray(torch.sigmoid(logits.detach().double()).cpu().numpy())


def softmax(logits: Float[Tensor, "b o"], fitted: Fitted) -> Float[np.ndarray, "b o"]:
    """Return the probability of each class; each row sums to 1."""
    return np.asarray(torch.softmax(logits.detach().double(), dim=1).cpu().numpy())


def unstandardize(logits: Float[Tensor, "b o"], fitted: Fitted) -> Float[np.ndarray, "b o"]:
    """Return values in the target's unit."""
    values = np.asarray(logits.detach().double().cpu().numpy())
    return np.asarray(values * np.asarray(fitted.sd) + np.asarray(fitted.mean))
