"""The variance of a difference over networks and patients, after Obuchowski and Rockette.

A network's difference between two starts deviates from the mean of all networks for two reasons:
starts serve networks differently (and seeds train them differently), and each network errs on
these patients in its own way. Both are seen in the spread of the networks' differences. What they
do not show is what all networks err together on these patients: the covariance between networks,
from the jackknife over patients. The variance is the sum of the two.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize, stats

from voxgraft.errors import StatisticsError
from voxgraft.statistics.jackknife import Spread
from voxgraft.statistics.lopsided import arm_reach, ends_without_spread, lopsided_ends
from voxgraft.statistics.sample import Floats, Patients, check_level
from voxgraft.statistics.seeds import Uncertainty, difference_uncertainty, mean_uncertainty

Networks = Literal["random", "fixed"]
Quantile = Literal["between", "hillis"]
SMALLEST_P = 1e-12


@dataclass(frozen=True)
class OverNetworks:
    """An interval over networks and what it came from.

    Attributes:
        low: Lower end.
        high: Upper end.
        df: Degrees of freedom.
        error: Standard error; 0 if leaving out patients changes nothing.
        uncertainty: Its parts.
        quantile: The rule of how far to go.
        note: Where there is no spread, what the ends are instead.
    """

    low: float
    high: float
    df: float
    error: float
    uncertainty: Uncertainty
    quantile: Quantile
    note: str = ""

    def p_value(self, distance: float) -> float:
        """Return 1 − the level at which the interval, before it is made lopsided, ends at 0."""
        if self.quantile == "hillis":
            return float(2 * stats.t.sf(distance / self.error, self.df))

        def short(log_p: float) -> float:
            return self.uncertainty.half_width(1 - 10**log_p) - distance

        smallest = math.log10(SMALLEST_P)
        if distance <= 0:
            return 1.0
        if short(smallest) <= 0:
            return SMALLEST_P
        return float(10 ** optimize.brentq(short, smallest, -1e-15, xtol=1e-6))


def interval_over_networks(
    values: Floats,
    sizes: Sequence[int],
    spread: Spread,
    grouped: Patients,
    *,
    networks: Networks,
    quantile: Quantile,
    bounds: tuple[float, float],
    level: float,
) -> OverNetworks:
    """Return the interval from the runs' values and their covariance over patients.

    Args:
        values: ``(runs,)``: all seeds of start a on each network in turn, then those of start b.
        sizes: Seeds of each network with start a, then with start b.
        spread: Of the runs.
        grouped: The patients.
        networks: Random or fixed.
        quantile: The rule for random networks.
        bounds: Of the metric.
        level: Of the interval.
    """
    count = len(sizes) // 2
    averaging = np.repeat(np.eye(len(sizes)), sizes, axis=1) / np.repeat(sizes, sizes)
    each, over_patients = averaging @ values, combined(spread, averaging)
    arms = (slice(None, count), slice(count, None))
    value_a, value_b = (float(each[part].mean()) for part in arms)
    if networks == "random":
        whole = difference_uncertainty(each[:count], each[count:], over_patients, paired=True)
        alone = [mean_uncertainty(each[part], over_patients.of(part)).total for part in arms]
    else:
        signs = np.r_[np.full(count, 1.0), np.full(count, -1.0)] / count
        whole = _fixed_uncertainty(values, sizes, spread, signs)
        alone = [
            _fixed_uncertainty(values, sizes, spread, np.where(signs * sign > 0, signs, 0.0)).total
            for sign in (1, -1)
        ]
    if whole.total <= 1e-24:
        low, high, note = ends_without_spread(value_a, value_b, bounds, grouped, level)
        return OverNetworks(low, high, math.nan, 0.0, whole, quantile, note)
    error = math.sqrt(whole.total)
    df = _degrees(whole, hillis=networks == "random")
    upper = (1 + level) / 2
    if networks == "random" and quantile == "hillis":
        half_width = float(stats.t.ppf(upper, df)) * error
    else:
        quantile = "between"
        half_width = whole.half_width(level)
    # A t quantile of one degree of freedom would press either start's ends against its bounds.
    normal = float(stats.norm.ppf(upper))
    reaches = (
        arm_reach(value_a, alone[0], normal, bounds, grouped, level),
        arm_reach(value_b, alone[1], normal, bounds, grouped, level),
    )
    low, high = lopsided_ends(value_a - value_b, half_width, normal, reaches)
    furthest = bounds[1] - bounds[0]
    return OverNetworks(max(low, -furthest), min(high, furthest), df, error, whole, quantile)


def interval_from_differences(
    differences: Sequence[float], *, level: float = 0.95
) -> tuple[float, float]:
    """Return a t interval for the mean of the networks' differences, from these alone.

    For printed tables: without scores, what all networks err together on the test patients
    cannot be had, and the interval leaves it out. It covers the population of networks for these
    very patients, and other patients only as far as networks err on them each in its own way.

    Args:
        differences: Start a − start b of each network.
        level: Of the interval.

    Raises:
        StatisticsError: If there are fewer than two differences, or one is not finite.
    """
    check_level(level)
    values = np.asarray(differences, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise StatisticsError(
            f"differences are {values.tolist()}; expected two finite ones at least, one a network."
        )
    error = math.sqrt(float(values.var(ddof=1)) / len(values))
    reach = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * error
    return float(values.mean()) - reach, float(values.mean()) + reach


def combined(spread: Spread, combinations: Floats) -> Spread:
    """Return the spread of linear combinations ``(combinations, runs)`` of the runs' values."""
    parts = tuple(combinations @ part @ combinations.T for part in spread.parts)
    covariance: Floats = combinations @ spread.covariance @ combinations.T
    return Spread(covariance, parts, spread.sizes, spread.steps)


def _degrees(whole: Uncertainty, *, hillis: bool) -> float:
    """Return the degrees of freedom of the variance.

    Hillis' take the covariances for known; where the networks' differences do not vary at all,
    those over patients stand instead.

    Source:
        Hillis (2007); Satterthwaite (1946).
    """
    share = whole.observed / whole.total
    weight = share**2 / whole.seeds_degrees if whole.seeds_degrees > 0 else 0.0
    if not hillis or weight <= 0:
        weight += (1 - share) ** 2 / max(whole.patients_degrees, 1.0)
    return 1 / weight


def _fixed_uncertainty(
    values: Floats, sizes: Sequence[int], spread: Spread, signs: Floats
) -> Uncertainty:
    """Return the uncertainty of a sum over networks and starts, their networks as they are.

    Args:
        values: ``(runs,)``.
        sizes: Seeds of each network and start.
        spread: Of the runs.
        signs: ``(networks and starts,)`` weight of each in the sum.

    Source:
        Welch (1947), equation 28, for the degrees of freedom of a sum of variances.
    """
    weights = np.repeat(signs / np.asarray(sizes), sizes)
    patients, degrees = spread.variance(weights)
    ends = np.cumsum(sizes)
    used = [k for k in range(len(sizes)) if signs[k] != 0]
    if min(sizes[k] for k in used) < 2:
        return Uncertainty(patients, degrees)
    own = observed = weight = 0.0
    for k in used:
        part = slice(int(ends[k]) - sizes[k], int(ends[k]))
        alone = mean_uncertainty(values[part], spread.of(part))
        own += alone.own * signs[k] ** 2
        observed += alone.observed * signs[k] ** 2
        weight += (alone.observed * signs[k] ** 2) ** 2 / (sizes[k] + 1)
    nominal = float(sum(sizes[k] - 1 for k in used))
    seeds_degrees = min(nominal, observed**2 / weight - 2) if weight > 0 else nominal
    return Uncertainty(patients, degrees, own, observed, seeds_degrees)
