"""What needs no image: the majority, the mean, one covariate. They stand in every table."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from voxgraft.errors import StatisticsError
from voxgraft.statistics.sample import Floats, check_target

KINDS = ("binary", "multiclass", "multilabel", "regression")


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise StatisticsError(f"kind is {kind!r}; expected one of {', '.join(KINDS)}.")


def majority_baseline(
    kind: str, train_target: ArrayLike, cases: int, classes: int | None = None
) -> Floats:
    """Predict the training set's prior (or mean) for every case.

    Args:
        kind: ``binary``, ``multiclass``, ``multilabel`` or ``regression``.
        train_target: ``(m,)`` or ``(m, columns)``.
        cases: Number of test cases.
        classes: Number of classes, for multiclass; the highest index + 1 if None.

    Returns:
        ``(cases, columns)`` scores: the share of positives (binary, multilabel), of each class
        (multiclass), or the mean (regression).

    Raises:
        StatisticsError: If the kind is unknown or there is no training case.
    """
    _check_kind(kind)
    truth = check_target(train_target)
    if len(truth) == 0:
        raise StatisticsError("there is no training case to take the majority or mean of.")
    if kind == "multiclass":
        shares = np.bincount(truth.astype(np.intp), minlength=classes or 0) / len(truth)
        return np.tile(shares, (cases, 1))
    table = truth if truth.ndim == 2 else truth[:, None]
    return np.tile(table.mean(axis=0), (cases, 1))


def _covariate(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise StatisticsError(
            f"{name} has shape {array.shape}"
            f"{'' if np.isfinite(array).all() else ' and holds NaN or infinity'}; expected one "
            "finite number a case."
        )
    return array


def covariate_baseline(
    kind: str, train_covariate: ArrayLike, train_target: ArrayLike, covariate: ArrayLike
) -> Floats:
    """Predict from one covariate (a nodule's diameter, an age) fitted on the training set.

    Binary: a probability from a logistic fit of the class on the covariate, so its order is the
    covariate's, turned as the training set says. Regression: the straight line of least squares.

    Args:
        kind: ``binary`` or ``regression``.
        train_covariate: ``(m,)``.
        train_target: ``(m,)``.
        covariate: ``(n,)`` of the test cases.

    Returns:
        ``(n, 1)`` scores.

    Raises:
        StatisticsError: If the kind is another, lengths differ, a value is not finite, or the
            training set has fewer than two cases.
    """
    _check_kind(kind)
    if kind not in ("binary", "regression"):
        raise StatisticsError(
            f"a covariate baseline is for binary and regression targets, not {kind!r}."
        )
    x, y = _covariate(train_covariate, "train_covariate"), check_target(train_target)
    new = _covariate(covariate, "covariate")
    if y.ndim != 1 or len(x) != len(y):
        raise StatisticsError(
            f"train_covariate has {len(x)} cases and train_target shape {y.shape}; expected the "
            "same cases."
        )
    if len(x) < 2:
        raise StatisticsError("a covariate baseline needs two training cases at least.")
    center, width = float(x.mean()), float(x.std())
    if width <= 1e-12 * max(1.0, abs(center)):
        return np.full((len(new), 1), float(y.mean()))
    if kind == "regression":
        slope = float(((x - center) * (y - y.mean())).mean()) / width**2
        line: Floats = y.mean() + slope * (new - center)
        return line[:, None]
    intercept, slope = _logistic_fit((x - center) / width, y)
    linear = np.clip(intercept + slope * (new - center) / width, -500, 500)
    scores: Floats = (1 / (1 + np.exp(-linear)))[:, None]
    return scores


def _logistic_fit(x: Floats, y: Floats) -> tuple[float, float]:
    """Fit intercept and slope by Newton's method, with a slight ridge that keeps them finite."""
    if not np.isin(y, (0, 1)).all():
        raise StatisticsError("train_target must be 0 or 1 for a binary baseline.")
    design = np.stack([np.ones_like(x), x], axis=1)
    ridge = np.diag([1e-3, 1e-3])
    weights = np.zeros(2)
    for _ in range(100):
        probability = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        gradient = design.T @ (y - probability) - ridge @ weights
        spread = np.maximum(probability * (1 - probability), 1e-6)
        step = np.linalg.solve(design.T @ (design * spread[:, None]) + ridge, gradient)
        step *= min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        weights = weights + step
        if float(np.abs(step).max()) < 1e-10:
            break
    return float(weights[0]), float(weights[1])
