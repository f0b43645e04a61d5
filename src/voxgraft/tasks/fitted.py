"""What a task learns from the training targets alone: priors, class weights, standardisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from voxgraft.errors import TaskError


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Numbers of the training subset that loss, decoding and the head's bias need."""

    cases: int
    """Training cases that the numbers come from."""
    bias: tuple[float, ...]
    """Logits that predict the prior (one an output)."""
    mean: tuple[float, ...] = ()
    """Mean of each regression target, in its unit."""
    sd: tuple[float, ...] = ()
    """Standard deviation of each regression target, in its unit."""
    class_weight: tuple[float, ...] | None = None
    """Weight of each class in the cross-entropy; their mean over training cases is 1."""
    positive_weight: tuple[float, ...] | None = None
    """Weight of a positive case in the binary cross-entropy, one a column."""


def fit_binary(targets: Float[np.ndarray, "n k"], *, balanced: bool) -> Fitted:
    """Fit 0/1 columns: log-odds of the smoothed prior, and negatives per positive if balanced.

    The prior is ``(positives + 1/2) / (n + 1)``: finite where a column has one class only. Such
    a column keeps the weight 1.
    """
    positives, negatives = targets.sum(axis=0), (1.0 - targets).sum(axis=0)
    bias = np.log((positives + 0.5) / (negatives + 0.5))
    weight = None
    if balanced:
        both = (positives > 0) & (negatives > 0)
        ratio = np.where(both, negatives / np.maximum(positives, 1.0), 1.0)
        bias = np.where(both, 0.0, bias)
        weight = tuple(float(value) for value in ratio)
    return Fitted(
        cases=len(targets), bias=tuple(float(value) for value in bias), positive_weight=weight
    )


def fit_multiclass(targets: Float[np.ndarray, "n 1"], classes: int, *, balanced: bool) -> Fitted:
    """Fit class indices: logarithms of the smoothed prior, and inverse frequencies if balanced.

    A class without training cases gets half a case in the prior and the weight 1.
    """
    counts = np.bincount(targets[:, 0].astype(np.int64), minlength=classes).astype(np.float64)
    present = counts > 0
    prior = (counts + 0.5) / (counts.sum() + 0.5 * classes)
    bias = np.log(prior) - np.log(prior).mean()
    weight = None
    if balanced:
        bias = np.zeros(classes)
        inverse = np.where(present, counts.sum() / (present.sum() * np.maximum(counts, 1.0)), 1.0)
        weight = tuple(float(value) for value in inverse)
    return Fitted(
        cases=len(targets), bias=tuple(float(value) for value in bias), class_weight=weight
    )


def fit_regression(targets: Float[np.ndarray, "n k"], columns: tuple[str, ...]) -> Fitted:
    """Fit real targets: mean and standard deviation of each column.

    Raises:
        TaskError: If a column is constant: there is nothing to learn.
    """
    mean = targets.mean(axis=0)
    sd = targets.std(axis=0)
    constant = [
        f"{name} is {float(targets[0, column])!r} in all {len(targets)} cases"
        for column, name in enumerate(columns)
        if not sd[column] > 1e-12 * max(1.0, abs(float(mean[column])))
    ]
    if constant:
        raise TaskError(
            f"a regression target does not vary over the training cases: {'; '.join(constant)}. "
            "Expected at least two different values; train on more cases or another column."
        )
    return Fitted(
        cases=len(targets),
        bias=(0.0,) * targets.shape[1],
        mean=tuple(float(value) for value in mean),
        sd=tuple(float(value) for value in sd),
    )
