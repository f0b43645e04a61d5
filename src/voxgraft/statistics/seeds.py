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

_BELOW = 0.3
"""How far below zero what the runs of two starts share may go; chosen by simulated coverage."""


@dataclass(frozen=True)
class Uncertainty:
    """The variance of an estimate and its sources.

    Attributes:
        patients: Variance from drawing patients: what the runs share, and the runs' own errors.
        patients_degrees: Its degrees of freedom.
        own: The runs' own errors on these patients, a part of it.
        observed: Variance of the estimate that the spread of the runs shows: their own errors
            and the seeds'; 0 if there is one seed only.
        seeds_degrees: Its degrees of freedom; 0 if there is one seed only.
        below: How far below zero what the runs share may be estimated, in parts of ``observed``.
    """

    patients: float
    patients_degrees: float
    own: float = 0.0
    observed: float = 0.0
    seeds_degrees: float = 0.0
    below: float = 0.0

    @property
    def shared(self) -> float:
        """What the runs share of the variance over patients; all of it for one seed.

        Where two starts share hardly anything, as their difference does not depend on which
        patients are hard, it is the small difference of two large estimates, and may well be
        negative. Cut off at zero it is too large on average: ``below`` lets it go further.
        """
        if self.seeds_degrees <= 0:
            return self.patients
        return max(-self.below * self.observed, self.patients - self.own)

    @property
    def seeds(self) -> float:
        """What the seeds add to the runs' own errors."""
        return max(0.0, self.observed - self.own)

    @property
    def total(self) -> float:
        """The variance: what the runs share, and what their spread shows."""
        return self.shared + self.observed

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
        variance = self.observed / np.maximum(spread, 1e-12) - self.own
        errors: Floats = np.sqrt(np.maximum(variance, 0.0)) * rng.normal(size=draws)
        return errors

    def half_width(self, level: float) -> float:
        """Return how far the interval goes to either side.

        The runs' own errors are counted where they are seen, in the spread of the runs, and not
        again over patients: so the variance is a sum of two independent parts, neither of them a
        remainder that would have to be cut off at zero (which widens the intervals of seeds
        without effect: they then covered 98%).

        The quantile lies between two classical rules for a sum of variances with unlike degrees
        of freedom: Welch and Satterthwaite's, which with three seeds covers down to 92% where
        the spread of the runs is most of it, and Cochran and Cox's, which covers too much where
        it is not. The share of that spread, to the power ``d / (d + 1)`` of its degrees of
        freedom ``d``, says how far to go from the first to the second. By quadrature, for normal
        values and any share, this covers 94.2% to 95.9% with two or more degrees of freedom and
        92.3% to 96.6% with one (two seeds).

        Source:
            Satterthwaite (1946); Cochran and Cox (1957), section 4.14; going between is ours,
            checked in ``benchmarks/interval_coverage.py``.
        """
        upper = (1 + level) / 2
        patients_degrees = max(self.patients_degrees, 1.0)
        quantile_patients = float(stats.t.ppf(upper, patients_degrees))
        if self.seeds_degrees <= 0 or self.total <= 0:
            return quantile_patients * math.sqrt(self.total)
        share = min(1.0, self.observed / self.total)
        quantile_seeds = float(stats.t.ppf(upper, self.seeds_degrees))
        cochran = (1 - share) * quantile_patients + share * quantile_seeds
        weight = (1 - share) ** 2 / patients_degrees + share**2 / self.seeds_degrees
        welch = float(stats.t.ppf(upper, max(1 / weight, 1.0)))
        far = math.pow(share, self.seeds_degrees / (self.seeds_degrees + 1))
        return (welch + far * (cochran - welch)) * math.sqrt(self.total)


def _arm(values: Floats, covariance: Floats) -> tuple[float, float]:
    """Return what one arm's runs err by themselves, and what their spread shows, of its mean."""
    count = len(values)
    observed = float(values.var(ddof=1)) / count
    alike = (covariance.sum() - np.trace(covariance)) / (count * (count - 1))
    own = max(0.0, float(np.trace(covariance) / count - alike))
    return own / count, observed


def mean_uncertainty(values: Floats, spread: Spread) -> Uncertainty:
    """Return the uncertainty of the mean over seeds of one start's values.

    Args:
        values: ``(seeds,)``.
        spread: Of these runs over patients.
    """
    count = len(values)
    patients, degrees = spread.variance(np.full(count, 1 / count))
    if count < 2:
        return Uncertainty(patients, degrees)
    own, observed = _arm(values, spread.covariance)
    return Uncertainty(patients, degrees, own, observed, count - 1.0)


def difference_uncertainty(
    values_a: Floats, values_b: Floats, spread: Spread, *, paired: bool
) -> Uncertainty:
    """Return the uncertainty of the difference of two starts' means over seeds.

    Args:
        values_a: ``(seeds_a,)``.
        values_b: ``(seeds_b,)``.
        spread: Of the runs of a, then those of b, over patients.
        paired: Whether seed ``k`` of a belongs to seed ``k`` of b; the spread over seeds is then
            that of their differences. Otherwise each start's spread counts, with degrees of
            freedom of their sum.

    Source:
        Welch (1947), equation 28, for these degrees of freedom: of two variances with two each,
        Satterthwaite's estimate is low by a quarter on average.
    """
    count_a, count_b = len(values_a), len(values_b)
    contrast = np.r_[np.full(count_a, 1 / count_a), np.full(count_b, -1 / count_b)]
    patients, degrees = spread.variance(contrast)
    if min(count_a, count_b) < 2:
        return Uncertainty(patients, degrees)
    covariance = spread.covariance
    if paired:
        turn = np.hstack([np.eye(count_a), -np.eye(count_a)])
        own, observed = _arm(values_a - values_b, turn @ covariance @ turn.T)
        return Uncertainty(patients, degrees, own, observed, count_a - 1.0)
    own_a, observed_a = _arm(values_a, covariance[:count_a, :count_a])
    own_b, observed_b = _arm(values_b, covariance[count_a:, count_a:])
    observed = observed_a + observed_b
    nominal = float(count_a + count_b - 2)
    weight = observed_a**2 / (count_a + 1) + observed_b**2 / (count_b + 1)
    seed_degrees = min(nominal, observed**2 / weight - 2) if weight > 0 else nominal
    return Uncertainty(patients, degrees, own_a + own_b, observed, seed_degrees, _BELOW)
