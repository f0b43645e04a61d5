"""Ends of a difference near a metric's bounds, where they reach further inward than outward."""

from __future__ import annotations

import math

from voxgraft.statistics.intervals import without_spread
from voxgraft.statistics.sample import Patients
from voxgraft.statistics.scales import scale_of

Arm = tuple[float, float, float]
"""How far a start's interval goes below and above its value, and its variance."""


def arm_reach(
    value: float,
    variance: float,
    quantile: float,
    bounds: tuple[float, float],
    grouped: Patients,
    level: float,
) -> Arm:
    """Return how far one start reaches, by a quantile of the difference.

    Args:
        value: Of the start.
        variance: Of that value.
        quantile: How many standard errors to go.
        bounds: Lowest and highest value of the metric.
        grouped: Patients, for the exact bound of a value that is perfect or the worst.
        level: Of the interval.
    """
    reach = quantile * math.sqrt(variance)
    if not all(map(math.isfinite, bounds)):
        return reach, reach, variance
    if value in bounds or variance <= 1e-24:
        low, high, _ = without_spread(value, bounds, grouped, level)
        return value - low, high - value, variance
    scale = scale_of(bounds)
    center, step = scale.forward(value), reach * scale.slope(value)
    low, high = scale.backward(center - step), scale.backward(center + step)
    return value - low, high - value, variance


def lopsided_ends(
    difference: float, half_width: float, quantile: float, arms: tuple[Arm, Arm]
) -> tuple[float, float]:
    """Return ends of a difference, as lopsided as those of its two starts.

    Near a bound a start's interval reaches further inward than outward. The t interval of the
    difference is stretched by the mean square of how far the starts' are; away from bounds that
    is 1.

    Args:
        difference: Start a − start b.
        half_width: Of the t interval of the difference.
        quantile: By which the arms were made.
        arms: Of start a and of start b.

    Source:
        After Zou and Donner (2008), whose recombination of the two intervals widens too much
        where the starts go closely together.
    """
    (below_a, above_a, variance_a), (below_b, above_b, variance_b) = arms
    even = quantile * math.sqrt(variance_a + variance_b)
    if even <= 0:
        return difference - half_width, difference + half_width
    down = half_width * math.hypot(below_a, above_b) / even
    up = half_width * math.hypot(above_a, below_b) / even
    return difference - down, difference + up


def ends_without_spread(
    value_a: float, value_b: float, bounds: tuple[float, float], grouped: Patients, level: float
) -> tuple[float, float, str]:
    """Return ends of a difference that leaving out any patient does not change, and why."""
    if value_a == value_b and value_a in bounds and all(map(math.isfinite, bounds)):
        rarer = min(len(members) for members in grouped.strata())
        reach = (bounds[1] - bounds[0]) * (1 - ((1 - level) / 2) ** (1 / rarer))
        return -reach, reach, f"both reach {value_a:g}; exact bound from the {rarer} rarer patients"
    return value_a - value_b, value_a - value_b, "no patient changes the difference"
