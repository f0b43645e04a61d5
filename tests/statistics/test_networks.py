"""Differences over networks: published reader studies, a second implementation, what is covered."""

import math

import numpy as np
import pytest
from scipy import stats

from voxgraft.errors import StatisticsError
from voxgraft.metrics import auroc, mae
from voxgraft.statistics import (
    delong_covariance,
    mean_difference_over_networks,
    paired_difference,
)
from voxgraft.statistics.jackknife import Spread
from voxgraft.statistics.obuchowski_rockette import interval_over_networks
from voxgraft.statistics.sample import group_patients

# Van Dyke et al. (1993), 5 readers, 45 + 69 cases: AUCs of CINE and of SE MRI.
CINE = (0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066)
SE = (0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169)
# Variance, Cov1, Cov2, Cov3, and the results that the program prints with them.
OR_DBM_MRMC = (
    (0.00080228827, 0.00034661371, 0.00034407483, 0.00023902837),
    (15.259675, 0.051665686, -0.087959499, 0.00035885444),
)
MRMCAOV_UNBIASED = (
    (0.00078839, 0.00034167, 0.00033906, 0.00023561),
    (15.034, 0.051162, -0.087852, 0.0002513),
)


def _or_matrix(readers, variance, cov1, cov2, cov3):
    same_reader, one = np.eye(readers), np.ones((readers, readers))
    within = cov2 * (one - same_reader) + variance * same_reader
    across = cov3 * (one - same_reader) + cov1 * same_reader
    return np.block([[within, across], [across, within]])


@pytest.mark.parametrize(("error", "published"), [OR_DBM_MRMC, MRMCAOV_UNBIASED])
def test_the_published_analysis_of_van_dyke(error, published):
    covariance = _or_matrix(5, *error)
    found = interval_over_networks(
        np.array([*CINE, *SE]),
        [1] * 10,
        Spread(covariance, (covariance,), (114,), 114),
        group_patients(np.arange(114), 114),
        networks="random",
        quantile="hillis",
        bounds=(-math.inf, math.inf),
        level=0.95,
    )
    df, p, low, high = published
    assert found.df == pytest.approx(df, rel=1e-4)
    assert found.p_value(0.04380032) == pytest.approx(p, rel=1e-4)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-6)


def _grid(rng, networks=5, seeds=1, positive=60, negative=50, apart=0.3, own=0.5, spread=0.3):
    """Return target and scores ``(networks, seeds, n)`` of two starts."""
    target = np.r_[np.ones(positive), np.zeros(negative)]
    shape = (2, networks, seeds, len(target))
    level = 1 + spread * rng.normal(size=(2, networks, 1, 1))
    level = level + np.array([apart, 0.0]).reshape(2, 1, 1, 1)
    scores = level * target + rng.normal(size=len(target)) + own * rng.normal(size=shape)
    scores += 0.5 * rng.normal(size=(2, 1, 1, len(target)))  # what a start errs in all networks
    return target, scores[0], scores[1]


def _by_the_formulas(target, scores):
    """Obuchowski and Rockette's table for ``(2, readers, n)`` scores, with DeLong's covariances."""
    readers = scores.shape[1]
    areas, covariance = delong_covariance(target, scores.reshape(2 * readers, -1))
    areas = areas.reshape(2, readers)
    cov2, cov3 = [], []
    for i in range(2):
        for k in range(2):
            for j in range(readers):
                for m in range(readers):
                    if j != m:
                        value = covariance[i * readers + j, k * readers + m]
                        (cov2 if i == k else cov3).append(value)
    shared = max(0.0, np.mean(cov2) - np.mean(cov3))
    of_start, of_reader = areas.mean(axis=1), areas.mean(axis=0)
    rest = areas - of_start[:, None] - of_reader[None] + areas.mean()
    ms_interaction = (rest**2).sum() / (readers - 1)
    ms_start = readers * ((of_start - areas.mean()) ** 2).sum()
    denominator = ms_interaction + readers * shared
    df = denominator**2 / (ms_interaction**2 / (readers - 1))
    p = stats.f.sf(ms_start / denominator, 1, df)
    reach = stats.t.ppf(0.975, df) * math.sqrt(2 * denominator / readers)
    difference = of_start[0] - of_start[1]
    return df, p, difference - reach, difference + reach


@pytest.mark.parametrize("networks", [2, 3, 7])
def test_equals_the_formulas_with_delongs_covariances(networks):
    target, a, b = _grid(np.random.default_rng(networks), networks)
    found = mean_difference_over_networks(auroc, target, a, b, np.arange(110), quantile="hillis")
    expected = _by_the_formulas(target, np.stack([a[:, 0], b[:, 0]]))
    assert (found.df, found.p_value, found.low, found.high) == pytest.approx(expected, rel=1e-9)
    assert found.estimate == pytest.approx(np.mean(found.per_network), abs=1e-12)
    wider = mean_difference_over_networks(auroc, target, a, b, np.arange(110))
    assert wider.df == found.df
    assert found.df > networks - 1
    assert wider.high - wider.low > found.high - found.low
    assert ("two networks" in wider.note) == (networks == 2)


def test_fixed_networks_are_one_sum_over_patients():
    target, a, b = _grid(np.random.default_rng(1), 4)
    found = mean_difference_over_networks(auroc, target, a, b, np.arange(110), networks="fixed")
    _, covariance = delong_covariance(target, np.concatenate([a[:, 0], b[:, 0]]))
    signs = np.repeat([0.25, -0.25], 4)
    reach = stats.t.ppf(0.975, found.df) * math.sqrt(signs @ covariance @ signs)
    assert found.high - found.estimate == pytest.approx(reach, rel=1e-9)
    assert found.p_value == pytest.approx(
        2 * stats.t.sf(abs(found.estimate) * stats.t.ppf(0.975, found.df) / reach, found.df),
        rel=1e-4,
    )
    assert "others are not covered" in found.note
    assert "one training seed each" in found.note


def test_more_networks_narrow_ours_and_widen_the_smallest_to_largest():
    """Ke et al. (2023) print the latter as a 95% interval."""
    target, a, b = _grid(np.random.default_rng(2), 24, positive=100, negative=100)
    few, many = (
        mean_difference_over_networks(auroc, target, a[:k], b[:k], np.arange(200)) for k in (4, 24)
    )
    assert many.high - many.low < few.high - few.low
    assert np.ptp(many.per_network) > np.ptp(few.per_network)
    for found in (few, many):
        ends = (min(found.per_network), max(found.per_network))
        assert abs(found.low - ends[0]) > 0.01
        assert abs(found.high - ends[1]) > 0.01


def test_patients_count_where_all_networks_agree():
    """Seven copies of a network agree on the patients' luck: their range is a point, not ours."""
    target, a, b = _grid(np.random.default_rng(3), 1)
    copies = mean_difference_over_networks(
        auroc, target, np.repeat(a, 7, axis=0), np.repeat(b, 7, axis=0), np.arange(110)
    )
    alone = paired_difference(auroc, target, a[0], b[0], np.arange(110), replicates=100)
    assert np.ptp(copies.per_network) == pytest.approx(0, abs=1e-12)
    assert (copies.low, copies.high) == pytest.approx((alone.low, alone.high), abs=1e-9)


def test_seeds_are_averaged_within_a_network():
    target, a, b = _grid(np.random.default_rng(4), 3)
    one = mean_difference_over_networks(auroc, target, a, b, np.arange(110))
    twice = mean_difference_over_networks(
        auroc, target, np.repeat(a, 2, axis=1), [np.repeat(x, 3, axis=0) for x in b], np.arange(110)
    )
    assert twice.n_seeds == 2
    assert (twice.low, twice.high) == pytest.approx((one.low, one.high), abs=1e-9)
    assert twice.p_value == pytest.approx(one.p_value, abs=1e-6)


def test_fixed_networks_with_several_seeds_cover_the_seeds():
    rng = np.random.default_rng(5)
    target, a, b = _grid(rng, 3, seeds=3, own=0.1, spread=0.0)
    a = a + 0.8 * rng.normal(size=(3, 3, 1)) * target  # luck of the seeds of start a
    both = mean_difference_over_networks(auroc, target, a, b, np.arange(110), networks="fixed")
    single = mean_difference_over_networks(
        auroc, target, a[:, :1], b[:, :1], np.arange(110), networks="fixed"
    )
    assert "one training seed" not in both.note
    assert both.high - both.low > single.high - single.low


def test_one_network_is_the_paired_difference_of_the_room():
    target, a, b = _grid(np.random.default_rng(6), 1, seeds=2, positive=15, negative=15)
    found = mean_difference_over_networks(auroc, target, a, b, np.arange(30), bounds=(0, 1))
    alone = paired_difference(auroc, target, a[0], b[0], np.arange(30), bounds=(0, 1))
    assert (found.low, found.high, found.p_value) == (alone.low, alone.high, alone.p_value)
    assert found.note.startswith("one network")
    assert math.isnan(found.df)


@pytest.mark.parametrize("networks", ["random", "fixed"])
def test_exchanging_the_starts_turns_the_sign_and_p_agrees_with_the_interval(networks):
    for seed in range(6):
        target, a, b = _grid(np.random.default_rng([7, seed]), 4, positive=20, negative=25)
        found, turned = (
            mean_difference_over_networks(auroc, target, x, y, np.arange(45), networks=networks)
            for x, y in ((a, b), (b, a))
        )
        assert turned.low == pytest.approx(-found.high, abs=1e-12)
        assert turned.p_value == pytest.approx(found.p_value, abs=1e-9)
        assert (found.p_value <= 0.05) == (found.low > 0 or found.high < 0) == found.shown


def test_near_a_bound_it_is_lopsided_and_never_leaves_what_a_difference_can_be():
    target, a, b = _grid(np.random.default_rng(8), 2, positive=12, negative=30, apart=4)
    plain, bounded = (
        mean_difference_over_networks(auroc, target, a, b, np.arange(42), bounds=bounds)
        for bounds in ((-math.inf, math.inf), (0.0, 1.0))
    )
    assert bounded.estimate - bounded.low > plain.estimate - plain.low or bounded.low == -1
    target, a, b = _grid(np.random.default_rng(2), 2, positive=5, negative=8)
    wide = mean_difference_over_networks(auroc, target, a, b, np.arange(13), bounds=(0.0, 1.0))
    assert -1 <= wide.low < wide.high <= 1


def test_an_error_with_several_cases_a_patient():
    rng = np.random.default_rng(9)
    target = rng.normal(size=40)
    a = target + rng.normal(size=(3, 2, 40))
    b = target + 1.8 * rng.normal(size=(3, 2, 40))
    one = mean_difference_over_networks(mae, target, a, b, np.arange(40), higher_is_better=False)
    again = np.repeat(np.arange(40), 2)
    doubled = mean_difference_over_networks(
        mae, target[again], a[..., again], b[..., again], again, higher_is_better=False
    )
    assert (doubled.low, doubled.high) == pytest.approx((one.low, one.high), abs=1e-9)
    assert (doubled.n_patients, one.favors_a) == (40, True)


def test_a_null_is_kept():
    """The tables are ``benchmarks/results/networks_coverage.md``."""
    rng = np.random.default_rng(10)
    shown = []
    for _ in range(80):
        target, a, b = _grid(rng, 3, positive=52, negative=52, apart=0.0, spread=0.2)
        shown.append(mean_difference_over_networks(auroc, target, a, b, np.arange(104)).shown)
    assert np.mean(shown) <= 0.09


@pytest.mark.parametrize(
    ("target", "patients", "note"),
    [
        (np.ones(6), np.arange(6), "the metric is undefined in network(s) 0, 1"),
        (np.r_[1.0, np.zeros(5)], np.zeros(6), "one patient"),
        (np.r_[1.0, np.zeros(5)], np.arange(6), "too few patients of a class"),
    ],
)
def test_what_cannot_be_tested_says_so(target, patients, note):
    a, b = np.random.default_rng(11).normal(size=(2, 2, 1, 6))
    found = mean_difference_over_networks(auroc, target, a, b, patients)
    assert note in found.note
    assert math.isnan(found.low)
    assert not found.shown


def test_no_spread_at_all():
    target = np.r_[np.ones(6), np.zeros(30)]
    scores = np.stack([target + 0.001 * k * np.arange(36) / 36 for k in range(4)]).reshape(2, 2, 36)
    same = mean_difference_over_networks(auroc, target, scores, scores, np.arange(36))
    assert (same.estimate, same.low, same.high, same.p_value) == (0, 0, 0, 1)
    perfect = mean_difference_over_networks(
        auroc, target, scores, scores[::-1], np.arange(36), bounds=(0, 1)
    )
    assert perfect.high == pytest.approx(1 - 0.025 ** (1 / 6))
    assert perfect.note.startswith("both reach 1")


@pytest.mark.parametrize(
    ("a", "b", "options", "message"),
    [
        (np.zeros((2, 1, 4)), np.zeros((3, 1, 4)), {}, "2 networks and scores_b 3"),
        (np.zeros((2, 1, 4)), [np.zeros(4), np.zeros(3)], {}, r"scores_b\[1\] has 3 cases"),
        (np.zeros(4), np.zeros(4), {}, "no axis of networks"),
        ([], [], {}, "no axis of networks"),
        ([np.full(4, np.nan)] * 2, [np.zeros(4)] * 2, {}, r"2 faults"),
        (np.zeros((2, 1, 4, 2)), np.zeros((2, 1, 4, 3)), {}, "differ in columns"),
        (np.zeros((2, 1, 4)), np.zeros((2, 1, 4)), {"networks": "some"}, "'random' or 'fixed'"),
        (np.zeros((2, 1, 4)), np.zeros((2, 1, 4)), {"quantile": "z"}, "'between' or 'hillis'"),
    ],
)
def test_refusals(a, b, options, message):
    with pytest.raises(StatisticsError, match=message):
        mean_difference_over_networks(auroc, [0, 1, 0, 1], a, b, np.arange(4), **options)
