"""What every metric shares: its call, the checks of its arrays, and replicates in chunks.

A metric is ``f(target, score, weights=None)``. Without weights it returns a float; with weights of
shape ``(replicates, cases)`` it returns one value a replicate, and the value of a replicate with
counts ``w`` is that of the sample in which case ``i`` stands ``w[i]`` times. So one call scores
all replicates of a bootstrap, all leave-one-out samples of a jackknife, all swaps of a permutation.

An undefined value (no positive case, say) is NaN, never 0.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from voxgraft.errors import MetricError

Array = NDArray[Any]
Floats = NDArray[np.float64]
Evaluator = Callable[[Array], Floats]
"""Weights ``(replicates, cases)`` to values ``(replicates,)``, after sorting was done once."""

CHUNK_ELEMENTS = 1 << 18
"""Counts that one step works on: small enough for a core's cache, so memory stays bounded."""

SHOWN_POSITIONS = 10


class MetricFunction(Protocol):
    """A metric: a float of all cases, or one value a replicate."""

    __name__: str

    @overload
    def __call__(
        self, target: ArrayLike, score: ArrayLike, weights: None = None, **options: float
    ) -> float: ...

    @overload
    def __call__(
        self, target: ArrayLike, score: ArrayLike, weights: Array, **options: float
    ) -> Floats: ...


Kernel = Callable[..., Evaluator]
"""``kernel(target, score, **options)``: sorts, and returns the evaluator of weights."""


def named_positions(bad: NDArray[np.bool_]) -> str:
    """Return "3, 7, 9 and 12 more" for the true positions of the first axis."""
    where = np.flatnonzero(bad.reshape(len(bad), -1).any(axis=1))
    shown = ", ".join(map(str, where[:SHOWN_POSITIONS]))
    rest = len(where) - SHOWN_POSITIONS
    return shown + (f" and {rest} more" if rest > 0 else "")


def numbers(values: ArrayLike, what: str, *, undefined: bool = False) -> Floats:
    """Return ``values`` as float64, one or two axes, all finite; with ``undefined`` NaN is legal.

    Raises:
        MetricError: If they are not numbers, have another number of axes, or some are not finite.
    """
    try:
        array = np.asarray(values)
        array = array.astype(np.float64) if array.dtype != np.float64 else array
    except (TypeError, ValueError) as error:
        raise MetricError(
            f"{what} does not hold numbers ({error}). Pass an array of numbers, one row a case."
        ) from error
    if array.ndim not in (1, 2):
        raise MetricError(f"{what} has shape {array.shape}; expected (cases,) or (cases, columns).")
    bad = np.isinf(array) if undefined else ~np.isfinite(array)
    if bad.any():
        raise MetricError(
            f"{what} is {'infinite' if undefined else 'NaN or infinite'} at positions "
            f"{named_positions(bad)}. "
            "A diverged run cannot be scored: list it as diverged instead of scoring it."
        )
    return array


def one_column(array: Floats, what: str) -> Floats:
    """Return ``array`` of shape ``(n,)`` or ``(n, 1)`` as ``(n,)``."""
    if array.ndim == 2:
        if array.shape[1] != 1:
            raise MetricError(f"{what} has shape {array.shape}; expected one column, (cases,).")
        return array[:, 0]
    return array


def same_length(target: Floats, score: Floats) -> None:
    """Refuse arrays of different numbers of cases."""
    if len(target) != len(score):
        raise MetricError(
            f"target has {len(target)} cases and score has {len(score)}; "
            "pass the same cases in the same order."
        )


def check_zero_one(target: Floats) -> None:
    """Refuse values other than 0 and 1."""
    bad = (target != 0) & (target != 1)
    if bad.any():
        raise MetricError(
            f"target of a binary metric must be 0 or 1; found {target[bad][0]:g} among "
            f"positions {named_positions(bad)}. Encode the classes first."
        )


def check_probabilities(score: Floats, *, rows_sum_to_one: bool = False) -> None:
    """Refuse scores that cannot be probabilities."""
    bad = (score < 0) | (score > 1)
    if bad.any():
        raise MetricError(
            f"score must be a probability in [0, 1]; found {score[bad][0]:g} among positions "
            f"{named_positions(bad)}. Pass decoded scores, not logits."
        )
    if rows_sum_to_one and len(score):
        off = np.abs(score.sum(axis=1) - 1) > 1e-3
        if off.any():
            raise MetricError(
                f"the class probabilities of a case must sum to 1; they do not at positions "
                f"{named_positions(off)} (first sum {score[off][0].sum():g})."
            )


def check_weights(weights: Array, cases: int) -> Array:
    """Return weights of shape ``(replicates, cases)``, or refuse them."""
    weights = np.asarray(weights)
    if weights.ndim != 2 or weights.shape[1] != cases:
        raise MetricError(
            f"weights have shape {weights.shape}; expected (replicates, {cases}): "
            "one row of counts a replicate."
        )
    if weights.dtype.kind not in "biuf":
        raise MetricError(f"weights have dtype {weights.dtype}; expected counts.")
    if weights.dtype.kind == "b":
        return weights.astype(np.uint8)
    if weights.dtype.kind == "u" or weights.size == 0:
        return weights
    low, high = weights.min(), weights.max()
    if not (low >= 0 and np.isfinite(high)):
        raise MetricError("weights must be finite and not negative; draw them as counts.")
    return weights


def _evaluate(
    kernel: Kernel, target: Floats, score: Floats, weights: Array | None, options: dict[str, float]
) -> float | Floats:
    """Run a kernel on all cases, or on the replicates chunk by chunk."""
    cases = len(target)
    if weights is None:
        if cases == 0:
            return float("nan")
        with np.errstate(all="ignore"):
            return float(kernel(target, score, **options)(np.ones((1, cases), np.uint8))[0])
    weights = check_weights(weights, cases)
    values = np.full(len(weights), np.nan)
    if cases == 0 or len(weights) == 0:
        return values
    evaluator = kernel(target, score, **options)
    rows = max(1, CHUNK_ELEMENTS // cases)
    with np.errstate(all="ignore"):
        for start in range(0, len(weights), rows):
            values[start : start + rows] = evaluator(weights[start : start + rows])
    return values


def _metric(
    kernel: Kernel, prepare: Callable[[ArrayLike, ArrayLike], tuple[Floats, Floats]]
) -> MetricFunction:
    @functools.wraps(kernel)
    def scored(
        target: ArrayLike, score: ArrayLike, weights: Array | None = None, **options: float
    ) -> float | Floats:
        checked_target, checked_score = prepare(target, score)
        return _evaluate(kernel, checked_target, checked_score, weights, options)

    return scored  # type: ignore[return-value]


def binary_metric(kernel: Kernel) -> MetricFunction:
    """Make a metric of target ``(n,)`` in {0, 1} and score ``(n,)``."""

    def prepare(target: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
        checked = one_column(numbers(target, "target"), "target")
        column = one_column(numbers(score, "score"), "score")
        same_length(checked, column)
        check_zero_one(checked)
        return checked, column

    return _metric(kernel, prepare)


def regression_metric(kernel: Kernel) -> MetricFunction:
    """Make a metric of target ``(n,)`` and score ``(n,)``, both in the target's unit."""

    def prepare(target: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
        checked = one_column(numbers(target, "target"), "target")
        column = one_column(numbers(score, "score"), "score")
        same_length(checked, column)
        return checked, column

    return _metric(kernel, prepare)


def multiclass_metric(kernel: Kernel) -> MetricFunction:
    """Make a metric of class indices ``(n,)`` and scores ``(n, classes)``."""

    def prepare(target: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
        checked = one_column(numbers(target, "target"), "target")
        table = numbers(score, "score")
        if table.ndim != 2 or table.shape[1] < 2:
            raise MetricError(
                f"score of a multi-class metric has shape {table.shape}; "
                "expected (cases, classes) with two classes or more."
            )
        same_length(checked, table)
        bad = (checked != np.floor(checked)) | (checked < 0) | (checked >= table.shape[1])
        if bad.any():
            raise MetricError(
                f"target must be a class index from 0 to {table.shape[1] - 1}; found "
                f"{checked[bad][0]:g} among positions {named_positions(bad)}."
            )
        return checked, table

    return _metric(kernel, prepare)


def multilabel_metric(kernel: Kernel) -> MetricFunction:
    """Make a metric of targets ``(n, labels)`` in {0, 1} and scores ``(n, labels)``."""

    def prepare(target: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
        checked, table = numbers(target, "target"), numbers(score, "score")
        if checked.ndim != 2 or checked.shape != table.shape or checked.shape[1] == 0:
            raise MetricError(
                f"target has shape {checked.shape} and score has shape {table.shape}; a "
                "multi-label metric expects both as (cases, labels)."
            )
        check_zero_one(checked)
        return checked, table

    return _metric(kernel, prepare)
