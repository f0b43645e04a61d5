"""Intervals against second implementations, formulas, and simulated coverage."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from voxgraft.errors import StatisticsError
from voxgraft.metrics import METRICS, auroc, balanced_accuracy, mae
from voxgraft.statistics import bootstrap, hierarchical_bootstrap, performance_interval
from voxgraft.statistics.bootstrap import resampled_counts
from voxgraft.statistics.sample import class_strata, group_patients


def _sample(seed, n=60, seeds=1, share=0.5):
    rng = np.random.default_rng(seed)
    target = np.r_[np.ones(round(n * share)), np.zeros(n - round(n * share))]
    latent = rng.normal(size=n)
    return target, target + latent + 0.5 * rng.normal(size=(seeds, n))


def test_mean_of_errors_is_students_interval_on_the_log_scale():
    rng = np.random.default_rng(0)
    target = np.zeros(40)
    score = rng.gamma(2.0, size=40)
    found = performance_interval(mae, target, score, np.arange(40), bounds=(0, math.inf))
    reach = stats.t.ppf(0.975, 39) * score.std(ddof=1) / math.sqrt(40) / score.mean()
    assert found.estimate == pytest.approx(score.mean())
    assert found.low == pytest.approx(score.mean() * math.exp(-reach), rel=1e-9)
    assert found.high == pytest.approx(score.mean() * math.exp(reach), rel=1e-9)
    assert "one training seed" in found.note


def test_seeds_alone_give_students_interval():
    """Patients all alike: only the seeds are left, with seeds - 1 degrees of freedom."""
    target, errors = np.zeros(50), np.array([1.0, 1.4, 1.9])
    scores = errors[:, None] * np.ones((3, 50))
    found = performance_interval(mae, target, scores, np.arange(50))
    reach = stats.t.ppf(0.975, 2) * errors.std(ddof=1) / math.sqrt(3)
    assert found.low == pytest.approx(errors.mean() - reach, rel=1e-9)
    assert found.high == pytest.approx(errors.mean() + reach, rel=1e-9)
    assert (found.n_seeds, found.n_patients, found.note) == (3, 50, "")


def test_bca_and_percentile_are_scipys_up_to_the_draws():
    rng = np.random.default_rng(1)
    values = rng.gamma(1.5, size=200)

    def mean(weights):
        return weights @ values / weights.sum(axis=1)

    found = bootstrap(mean, np.arange(200), method="bca", replicates=20_000)
    second = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=2)
    width = found.high - found.low
    assert found.low == pytest.approx(second.confidence_interval.low, abs=0.02 * width)
    assert found.high == pytest.approx(second.confidence_interval.high, abs=0.02 * width)
    plain = bootstrap(mean, np.arange(200), method="percentile", replicates=20_000)
    tail = stats.norm.cdf(math.sqrt(200 / 199) * stats.t.ppf(0.025, 199))
    draws = values[np.random.default_rng(5).integers(0, 200, (20_000, 200))].mean(axis=1)
    low, high = np.quantile(draws, [tail, 1 - tail])
    assert plain.low == pytest.approx(low, abs=0.02 * width)
    assert plain.high == pytest.approx(high, abs=0.02 * width)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), cases=st.integers(2, 40), replicates=st.integers(100, 300))
def test_draws_are_of_whole_patients_within_strata(seed, cases, replicates):
    rng = np.random.default_rng(seed)
    names = rng.integers(0, 8, cases)
    grouped = group_patients(names, cases, names % 2)
    rows = np.concatenate(list(resampled_counts(grouped, replicates, seed)))
    assert rows.shape == (replicates, grouped.count)
    for members in grouped.strata():
        assert (rows[:, members].sum(axis=1) == len(members)).all()
    weights = grouped.cases(rows)
    for name in np.unique(names):
        same = weights[:, names == name]
        assert (same == same[:, :1]).all()


def test_draws_are_uniform_and_deterministic():
    grouped = group_patients(np.arange(5), 5)
    rows = np.concatenate(list(resampled_counts(grouped, 40_000, 3)))
    again = np.concatenate(list(resampled_counts(grouped, 40_000, 3)))
    assert np.array_equal(rows, again)
    assert rows.mean(axis=0) == pytest.approx(np.ones(5), abs=0.03)
    assert rows.var(axis=0) == pytest.approx(np.full(5, 0.8), abs=0.03)


def test_repeated_cases_of_a_patient_add_nothing():
    target, scores = _sample(2)
    alone = performance_interval(auroc, target, scores, np.arange(60), bounds=(0, 1))
    twice = performance_interval(
        auroc, np.tile(target, 2), np.tile(scores, 2), np.tile(np.arange(60), 2), bounds=(0, 1)
    )
    assert twice.n_patients == 60
    assert twice.low == pytest.approx(alone.low, abs=1e-9)
    as_if_other = performance_interval(
        auroc, np.tile(target, 2), np.tile(scores, 2), np.arange(120), bounds=(0, 1)
    )
    assert as_if_other.low > alone.low + 0.01


def test_only_a_metric_blind_to_prevalence_is_stratified():
    target, scores = _sample(4, share=0.3)
    chance = 1 / (1 + np.exp(-scores[0]))
    blind = {
        name
        for name in METRICS
        if "binary" in METRICS[name].functions
        and class_strata(METRICS[name].function("binary"), target, chance) is not None
    }
    assert blind == {
        "auroc",
        "balanced_accuracy",
        "sensitivity_at_specificity",
        "specificity_at_sensitivity",
    }


def test_perfect_constant_and_undefined():
    target = np.r_[np.ones(6), np.zeros(24)]
    perfect = performance_interval(auroc, target, target, np.arange(30), bounds=(0, 1))
    assert (perfect.estimate, perfect.high) == (1.0, 1.0)
    assert perfect.low == pytest.approx(0.025 ** (1 / 6))
    assert "perfect on all 30 patients" in perfect.note
    flat = performance_interval(auroc, target, np.full(30, 0.3), np.arange(30), bounds=(0, 1))
    assert (flat.low, flat.high) == (0.5, 0.5)
    right = performance_interval(balanced_accuracy, target, target, np.arange(30), bounds=(0, 1))
    assert right.high == 1.0
    assert 0.5 < right.low < 0.95
    one = performance_interval(auroc, np.ones(5), np.arange(5.0), np.arange(5), bounds=(0, 1))
    assert math.isnan(one.estimate)
    assert one.note == "the metric is undefined for these patients"
    lonely = performance_interval(mae, [1.0], [2.0], ["a"])
    assert lonely.note == "one patient: no interval can be given"
    same = performance_interval(mae, [1.0, 2.0], [2.0, 4.0], ["a", "a"])
    assert math.isnan(same.low)


@pytest.mark.parametrize("first", [1.5, 0.52])
def test_one_positive_patient_gives_no_interval(first):
    """Without that patient there is no AUROC: nothing shows how it varies."""
    target = np.r_[1.0, np.zeros(20)]
    score = np.r_[first, np.linspace(1, 0, 20)]
    found = performance_interval(auroc, target, score, np.arange(21), bounds=(0, 1))
    assert math.isfinite(found.estimate)
    assert math.isnan(found.low)
    assert found.note == "too few patients of a class: no interval can be given"


def test_rare_replicates_are_counted_and_too_many_give_no_interval():
    target = np.r_[np.ones(2), np.zeros(20)]
    score = np.linspace(1, 0, 22)
    plain = bootstrap(lambda w: auroc(target, score, w), np.arange(22))
    assert plain.undefined > 500
    assert math.isnan(plain.low)
    assert "too many" in plain.note
    within = bootstrap(lambda w: auroc(target, score, w), np.arange(22), strata=target)
    assert within.undefined == 0


def test_hierarchical_agrees_with_t_and_widens_with_seeds():
    target, scores = _sample(6, n=200, seeds=3)
    shifted = scores + np.array([[0.0], [0.6], [-0.6]]) * target
    quiet = hierarchical_bootstrap(auroc, target, scores, np.arange(200), bounds=(0, 1))
    loud = hierarchical_bootstrap(auroc, target, shifted, np.arange(200), bounds=(0, 1))
    second = performance_interval(auroc, target, shifted, np.arange(200), bounds=(0, 1))
    assert loud.high - loud.low > 1.5 * (quiet.high - quiet.low)
    assert loud.low == pytest.approx(second.low, abs=0.12)
    assert loud.method == "hierarchical bootstrap over patients and seeds"


def _coverage(patients, seeds, seed_sd, repetitions=400):
    rng = np.random.default_rng([patients, seeds])
    hits = 0
    for _ in range(repetitions):
        spread = 0.7 * np.exp(seed_sd * rng.normal(size=(seeds, 1)))
        latent = rng.normal(size=patients)
        errors = spread * (
            math.sqrt(0.7) * latent + math.sqrt(0.3) * rng.normal(size=(seeds, patients))
        )
        found = performance_interval(
            mae, np.zeros(patients), errors, np.arange(patients), bounds=(0, math.inf)
        )
        hits += found.low <= 0.7 * math.sqrt(2 / math.pi) * math.exp(seed_sd**2 / 2) <= found.high
    return hits / repetitions


@pytest.mark.parametrize(("patients", "seeds", "seed_sd"), [(30, 1, 0), (30, 3, 0.2), (80, 3, 0)])
def test_coverage(patients, seeds, seed_sd):
    """400 repetitions: one standard error is 1.1%; the full table is a benchmark."""
    assert 0.92 <= _coverage(patients, seeds, seed_sd) <= 0.985


def test_resampling_three_seeds_would_cover_too_little():
    """What the seeds' own variance is for: without it, seeds that differ are not covered."""
    rng = np.random.default_rng(9)
    hits = plain = 0
    for _ in range(300):
        errors = 1 + 0.3 * rng.normal(size=(3, 1)) + 0.05 * rng.normal(size=(3, 40))
        found = performance_interval(mae, np.zeros(40), errors, np.arange(40))
        hits += found.low <= 1 <= found.high
        drawn = errors.mean(axis=1)[rng.integers(0, 3, (400, 3))].mean(axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        plain += low <= 1 <= high
    assert hits / 300 > 0.91
    assert plain / 300 < 0.85


def test_more_patients_than_groups_left_out():
    target, scores = _sample(8, n=4000)
    found = performance_interval(auroc, target, scores, np.arange(4000), bounds=(0, 1))
    from voxgraft.statistics import delong

    second = delong(target, scores[0])
    assert found.high - found.low == pytest.approx(second.high - second.low, rel=0.08)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: performance_interval(mae, [], [], []), "there is no test case"),
        (lambda: performance_interval(mae, [1, 2], [1, 2, 3], [1, 2]), "has 3 cases and target"),
        (lambda: performance_interval(mae, [1, 2], [1, np.nan], [1, 2]), "NaN or infinity in seed"),
        (lambda: performance_interval(mae, [1, np.nan], [1, 2], [1, 2]), "target holds NaN"),
        (lambda: performance_interval(mae, [1, 2], [1, 2], [1]), "expected \\(2,\\): one id"),
        (lambda: performance_interval(mae, ["a"], [1], [1]), "does not hold numbers"),
        (lambda: performance_interval(mae, [1, 2], [[1, 2], [3]], [1, 2]), "not one array"),
        (lambda: performance_interval(mae, [1, 2], [1, 2], [1, 2], level=95), "share between 0"),
        (lambda: performance_interval(mae, [1, 2], [1, 2], [1, 2], bounds=(1, 0)), "bounds are"),
        (lambda: bootstrap(lambda w: w[:, 0] * 1.0, [1, 2], replicates=10), "100 at least"),
        (lambda: bootstrap(lambda w: w[:, 0] * 1.0, [1, 2], method="x"), "'percentile' or 'bca'"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(StatisticsError, match=message):
        call()
