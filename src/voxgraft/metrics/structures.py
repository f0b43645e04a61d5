"""Means over structures of the scores that cases have: what a segmentation is summed up by.

A case has a number, or none, for each structure and score. The matrix has ``SCORED`` blocks of one
column a structure; :mod:`voxgraft.metrics.segmentation.matrix` makes it. A metric is the mean over
structures of the mean over the cases that define it, so that a structure of few cases counts as
much as one of many. A structure that no case defines is left out (of this replicate).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from voxgraft.errors import MetricError, raise_faults
from voxgraft.metrics.contract import (
    Array,
    Evaluator,
    Floats,
    Kernel,
    MetricFunction,
    _metric,
    named_positions,
    numbers,
    same_length,
)

SCORED: tuple[str, ...] = ("dice", "surface_dice", "hausdorff95_mm", "relative_volume_error")
"""Scores of a case and structure that are kept, in the order of their blocks of columns."""

_ALWAYS_DEFINED = ("dice", "surface_dice")
"""Scores that every structure has that is in a reference."""
_HIGHEST = {"dice": 1.0, "surface_dice": 1.0}
_LOWEST = {"dice": 0.0, "surface_dice": 0.0, "hausdorff95_mm": 0.0, "relative_volume_error": -1.0}


def block(score: Float[np.ndarray, "n columns"], name: str) -> Float[np.ndarray, "n k"]:
    """Return the columns of one of ``SCORED``, one a structure."""
    count = score.shape[-1] // len(SCORED)
    first = SCORED.index(name) * count
    return score[..., first : first + count]


def check_structures(target: ArrayLike, score: ArrayLike) -> tuple[Floats, Floats]:
    """Return presence ``(n, k)`` and scores ``(n, 4 k)`` of cases, or refuse them.

    Raises:
        MetricError: If shapes do not fit, presence is not 1, 0 or NaN, a structure that a case
            does not annotate has a score, one in the reference lacks its Dice, or a score is
            outside its range. All faults are named.
    """
    presence = numbers(target, "target", undefined=True)
    table = numbers(score, "score", undefined=True)
    if presence.ndim != 2 or table.ndim != 2 or presence.shape[1] == 0:
        raise MetricError(
            f"target has shape {presence.shape} and score {table.shape}; a segmentation's are "
            "(cases, structures) and (cases, 4 x structures)."
        )
    if table.shape[1] != len(SCORED) * presence.shape[1]:
        raise MetricError(
            f"score has {table.shape[1]} columns for {presence.shape[1]} structures; expected "
            f"{len(SCORED) * presence.shape[1]}: blocks of {', '.join(SCORED)}."
        )
    same_length(presence, table)
    unknown = np.isnan(presence)
    faults = []
    odd = ~unknown & (presence != 0) & (presence != 1)
    if odd.any():
        faults.append(f"target is not 1, 0 or NaN in cases {named_positions(odd)}")
    for name in SCORED:
        column = block(table, name)
        with np.errstate(invalid="ignore"):
            outside = (column < _LOWEST[name]) | (column > _HIGHEST.get(name, np.finfo(float).max))
        if outside.any():
            faults.append(f"{name} is outside its range in cases {named_positions(outside)}")
        scored = unknown & ~np.isnan(column)
        if scored.any():
            faults.append(
                f"{name} is given for a structure that is not annotated in cases "
                f"{named_positions(scored)}"
            )
        if name in _ALWAYS_DEFINED:
            missing = (presence == 1) & np.isnan(column)
            if missing.any():
                faults.append(
                    f"{name} is missing for a structure of the reference in cases "
                    f"{named_positions(missing)}"
                )
    if faults:
        raise_faults(
            MetricError,
            "These are no scores of a segmentation",
            faults,
            "Make target and scores with score_matrix from the rows of score_case.",
        )
    return presence, table


def _mean_of(
    name: str, label: str, value: Callable[[Floats], Floats] | None = None
) -> MetricFunction:
    """Make the metric of one of ``SCORED``; ``value`` is applied to each number first."""

    def kernel(target: Floats, score: Floats) -> Evaluator:
        values = block(score, name)
        if value is not None:
            values = value(values)
        defined = ~np.isnan(values)
        filled, counted = np.where(defined, values, 0.0), defined.astype(np.float64)

        def evaluate(weights: Array) -> Floats:
            counts = weights.astype(np.float64, copy=False)
            sums, cases = counts @ filled, counts @ counted
            some = cases > 0
            means = np.divide(sums, cases, out=np.zeros_like(sums), where=some)
            structures = some.sum(axis=1)
            mean: Floats = means.sum(axis=1) / np.maximum(structures, 1)
            mean[structures == 0] = np.nan
            return mean

        return evaluate

    kernel.__doc__ = (
        f"Return the mean over structures of the mean {label} over the cases that define it."
    )
    named: Kernel = kernel
    named.__name__ = f"segmentation_{name}"
    return _metric(named, check_structures)


segmentation_dice: MetricFunction = _mean_of("dice", "Dice")
segmentation_surface_dice: MetricFunction = _mean_of("surface_dice", "surface Dice")
segmentation_hausdorff95_mm: MetricFunction = _mean_of("hausdorff95_mm", "95% distance in mm")
segmentation_volume_error: MetricFunction = _mean_of(
    "relative_volume_error", "absolute relative volume error", np.abs
)

LISTED = (
    ("dice", "Dice", segmentation_dice, True, (0.0, 1.0), ""),
    ("surface_dice", "surface Dice", segmentation_surface_dice, True, (0.0, 1.0), ""),
    (
        "hausdorff95_mm",
        "95% Hausdorff distance",
        segmentation_hausdorff95_mm,
        False,
        (0.0, float("inf")),
        "mm",
    ),
    (
        "volume_error",
        "absolute relative volume error",
        segmentation_volume_error,
        False,
        (0.0, float("inf")),
        "",
    ),
)
"""Name, label, function, whether higher is better, bounds and unit of each metric."""

SCORE_OF_METRIC = {
    "dice": "dice",
    "surface_dice": "surface_dice",
    "hausdorff95_mm": "hausdorff95_mm",
    "volume_error": "relative_volume_error",
}
"""Metric's name to the score that it is the mean of."""


def why_undefined(metric: str, target: Floats, score: Floats) -> str:
    """Say why a metric has no value for these cases."""
    if len(target) == 0:
        return "there is no case"
    if np.isnan(target).all():
        return "no structure is annotated in any case"
    if metric in _ALWAYS_DEFINED:
        return "no annotated structure is in any reference or prediction"
    return (
        "no structure is both in the reference and predicted in any case"
        if (metric == "hausdorff95_mm")
        else "no structure is in any reference"
    )


def left_out(
    metric: str, target: Floats, score: Floats, classes: Sequence[str] | None = None
) -> str:
    """Say which structures a value leaves out, and how many missed ones have no distance.

    Args:
        metric: Its name.
        target: Presence.
        score: Of the cases.
        classes: Names of the structures; without them, their numbers.
    """
    values = block(score, SCORE_OF_METRIC[metric])
    told = []
    for index in np.flatnonzero(np.isnan(values).all(axis=0)):
        known = int((~np.isnan(target[:, index])).sum())
        name = f"structure {index}" if classes is None else classes[int(index)]
        told.append(
            f"{name} is annotated in no case"
            if known == 0
            else f"{name} has no value in any of {known} annotated cases"
        )
    note = f"left out of the mean: {'; '.join(told)}" if told else ""
    if metric == "hausdorff95_mm":
        present = target == 1
        missed = int((present & np.isnan(values)).sum())
        if missed:
            text = f"{missed} of {int(present.sum())} structures were not predicted and have none"
            note = f"{note}; {text}" if note else text
    return note
