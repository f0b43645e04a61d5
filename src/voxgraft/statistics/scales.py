"""Scales on which a bounded metric has no bounds, so that an interval cannot leave them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from voxgraft.errors import StatisticsError


@dataclass(frozen=True)
class Scale:
    """A monotone map, its inverse and its slope."""

    name: str
    forward: Callable[[float], float]
    backward: Callable[[float], float]
    slope: Callable[[float], float]


def _expit(value: float) -> float:
    if value >= 0:
        return 1 / (1 + math.exp(-min(value, 700.0)))
    return math.exp(max(value, -700.0)) / (1 + math.exp(max(value, -700.0)))


def _exp(value: float) -> float:
    return math.exp(min(max(value, -700.0), 700.0))


def scale_of(bounds: tuple[float, float]) -> Scale:
    """Return the scale for a metric's bounds: logit, log, or none.

    Raises:
        StatisticsError: If the bounds are not a low and a higher number.
    """
    low, high = bounds
    if not low < high:
        raise StatisticsError(f"bounds are {bounds!r}; expected (lowest, highest) of the metric.")
    below, above = math.isfinite(low), math.isfinite(high)
    if below and above:
        width = high - low

        def logit(value: float) -> float:
            share = (value - low) / width
            return math.log(share / (1 - share))

        return Scale(
            "logit",
            logit,
            lambda value: low + width * _expit(value),
            lambda value: width / ((value - low) * (high - value)),
        )
    if below:
        return Scale(
            "log",
            lambda value: math.log(value - low),
            lambda value: low + _exp(value),
            lambda value: 1 / (value - low),
        )
    if above:
        return Scale(
            "log",
            lambda value: -math.log(high - value),
            lambda value: high - _exp(-value),
            lambda value: 1 / (high - value),
        )
    return Scale("identity", lambda value: value, lambda value: value, lambda value: 1.0)
