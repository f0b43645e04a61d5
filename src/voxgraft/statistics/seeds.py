"""Patients and training seeds together: one variance, and how far to go from the estimate.

A start's mean performance over ``S`` trainings errs for two reasons: other patients would have
been drawn, and other seeds would have trained other runs. Resampling three seeds cannot show the
second (the spread of three values, taken with replacement, is too small by a third, and its own
uncertainty is not seen at all); so its variance is estimated and carries ``S − 1`` degrees of
freedom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from voxgraft.statistics.jackknife import Spread
from voxgraft.statistics.sample import Floats


@dataclass(frozen=True)
class Uncertainty:
    """The variance of an estimate and its two sources.

    Attributes:
        patients: Variance from drawing patients.
        patients_degrees: Its degrees of freedom.
        seeds: Variance from drawing training seeds, what patients explain taken off.
        seeds_degrees: Its degrees of freedom; 0 if there is one seed only.
        seeds_observed: The same with nothing taken off.
        seeds_own: What was taken off: the runs' own errors on the patients.
        observed_power: How far Welch's weight goes from what is left to what was observed.
    """

    patients: float
    patients_degrees: float
    seeds: float
    seeds_degrees: float
    seeds_observed: float
    seeds_own: float = 0.0
    observed_power: float = 1.0

    @property
    def total(self) -> float:
        """The sum of the two."""
        return self.patients + self.seeds

    def seed_errors(self, draws: int, rng: np.random.Generator, *, cautious: bool) -> Floats:
        """Draw errors of the seeds, ``(draws,)``; zeros for one seed.

        Plain: a t variable times the seeds' standard error. Cautious, for small p-values: each
        draw first takes a variance that the observed one may stem from (observed x degrees /
        chi-square), then takes the runs' own errors off it, as far as it goes; so seeds whose
        spread is small by chance are not taken to have no effect.

        Source:
            Weerahandi (1995), generalized inference for a variance component (cautious).
        """
        if self.seeds_degrees <= 0:
            return np.zeros(draws)
        if not cautious:
            plain: Floats = math.sqrt(self.seeds) * rng.standard_t(self.seeds_degrees, draws)
            return plain
        spread = rng.chisquare(self.seeds_degrees, draws) / self.seeds_degrees
        variance = self.seeds_observed / np.maximum(spread, 1e-12) - self.seeds_own
        errors: Floats = np.sqrt(np.maximum(variance, 0.0)) * rng.normal(size=draws)
        return errors

    def half_width(self, level: float) -> float:
        """Return how far the interval goes to either side.

        Between two classical rules for a sum of variances with unlike degrees of freedom: Welch
        and Satterthwaite's quantile, which with three seeds covers down to 92% where the seeds
        dominate, and Cochran and Cox's, which covers up to 97.4% where they do not. The root of
        the seeds' share of the variance says how far to go from the first to the second.

        In Welch's weight the seeds enter with a mean of what was observed and what is left of it
        after the patients' part is taken off: the first alone covers up to 98.3% where the seeds
        have no effect and runs err on patients of their own, the second alone down to 90%.
        Simulated over all ratios of the three variances the rule covers 93% to 97.3% for two
        starts with three seeds each (4 degrees of freedom), and for one start with three (2)
        93.2% to 97.6% up to runs' own errors twice as large as those that they share. Paired
        differences, where runs' own errors are most of it, take what was observed alone: 93% to
        98.3%, the most where the seeds have no effect.

        Source:
            Satterthwaite (1946); Cochran and Cox (1957), section 4.14; going between is ours,
            checked in ``benchmarks/interval_coverage.py``.
        """
        upper = (1 + level) / 2
        patients_degrees = max(self.patients_degrees, 1.0)
        quantile_patients = float(stats.t.ppf(upper, patients_degrees))
        if self.seeds_degrees <= 0 or self.total <= 0:
            return quantile_patients * math.sqrt(self.total)
        share = self.seeds / self.total
        quantile_seeds = float(stats.t.ppf(upper, self.seeds_degrees))
        cochran = (1 - share) * quantile_patients + share * quantile_seeds
        power = self.observed_power
        component = self.seeds ** (1 - power) * self.seeds_observed**power
        weight = self.patients**2 / patients_degrees + component**2 / self.seeds_degrees
        degrees = self.total**2 / weight if weight > 0 else self.seeds_degrees
        degrees = min(max(degrees, self.seeds_degrees), patients_degrees + self.seeds_degrees)
        welch = float(stats.t.ppf(upper, max(degrees, 1.0)))
        quantile = welch + math.sqrt(share) * (cochran - welch)
        return quantile * math.sqrt(self.total)


def _observed_power(degrees: int) -> float:
    """Return the power for Welch's weight: 1 for 2 degrees of freedom, 0.85 from 4 on."""
    return min(1.0, max(0.85, 1 - (degrees - 2) / 8))


def _arm(values: Floats, covariance: Floats) -> tuple[float, float, float]:
    """Return (what the seeds add to the mean's variance, what was observed, own) of one arm."""
    count = len(values)
    observed = float(values.var(ddof=1)) / count
    alike = (covariance.sum() - np.trace(covariance)) / (count * (count - 1))
    own = max(0.0, float(np.trace(covariance) / count - alike))
    return max(0.0, observed - own / count), observed, own / count


def mean_uncertainty(values: Floats, spread: Spread) -> Uncertainty:
    """Return the uncertainty of the mean over seeds of one start's values.

    Args:
        values: ``(seeds,)``.
        spread: Of these runs over patients.
    """
    count = len(values)
    patients, degrees = spread.variance(np.full(count, 1 / count))
    if count < 2:
        return Uncertainty(patients, degrees, 0.0, 0.0, 0.0)
    seeds, observed, own = _arm(values, spread.covariance)
    power = _observed_power(count - 1)
    return Uncertainty(patients, degrees, seeds, count - 1.0, observed, own, power)


def difference_uncertainty(
    values_a: Floats, values_b: Floats, spread: Spread, *, paired: bool
) -> Uncertainty:
    """Return the uncertainty of the difference of two starts' means over seeds.

    Args:
        values_a: ``(seeds_a,)``.
        values_b: ``(seeds_b,)``.
        spread: Of the runs of a, then those of b, over patients.
        paired: Whether seed ``k`` of a belongs to seed ``k`` of b; the spread over seeds is then
            that of their differences. Otherwise each start's spread counts, as Welch's.
    """
    count_a, count_b = len(values_a), len(values_b)
    contrast = np.r_[np.full(count_a, 1 / count_a), np.full(count_b, -1 / count_b)]
    patients, degrees = spread.variance(contrast)
    if min(count_a, count_b) < 2:
        return Uncertainty(patients, degrees, 0.0, 0.0, 0.0)
    covariance = spread.covariance
    if paired:
        turn = np.hstack([np.eye(count_a), -np.eye(count_a)])
        seeds, observed, own = _arm(values_a - values_b, turn @ covariance @ turn.T)
        return Uncertainty(patients, degrees, seeds, count_a - 1.0, observed, own)
    _, observed_a, own_a = _arm(values_a, covariance[:count_a, :count_a])
    _, observed_b, own_b = _arm(values_b, covariance[count_a:, count_a:])
    observed, own = observed_a + observed_b, own_a + own_b
    weight = observed_a**2 / (count_a - 1) + observed_b**2 / (count_b - 1)
    nominal = count_a + count_b - 2
    seed_degrees = observed**2 / weight if weight > 0 else float(nominal)
    return Uncertainty(
        patients,
        degrees,
        max(0.0, observed - own),
        seed_degrees,
        observed,
        own,
        _observed_power(nominal),
    )
