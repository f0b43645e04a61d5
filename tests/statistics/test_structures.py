"""Statistics of segmentations: scores that are open where a case does not define them."""

import math

import numpy as np
import pytest
from scipy import stats

from voxgraft.errors import StatisticsError
from voxgraft.metrics import METRICS
from voxgraft.statistics import (
    label_savings,
    mean_difference_over_networks,
    paired_difference,
    performance_interval,
)

DICE = METRICS["dice"].function("segmentation")
BOUNDS = METRICS["dice"].bounds


def scored(dice, known):
    """Presence and scores of cases that have every structure they annotate."""
    filled = np.where(known, dice, np.nan)
    open_ = np.full_like(filled, np.nan)
    return np.where(known, 1.0, np.nan), np.concatenate([filled, filled, open_, open_], axis=-1)


def drawn(seed, cases=30, classes=3, seeds=2, open_share=0.3, shift=0.0):
    """Presence ``(n, k)`` and scores ``(seeds, n, 4 k)``, skewed towards 1."""
    rng = np.random.default_rng(seed)
    known = rng.random((cases, classes)) >= open_share
    known[:2] = True
    case = rng.normal(size=(cases, 1))
    noise = 0.5 * rng.normal(size=(seeds, cases, classes))
    dice = 1 / (1 + np.exp(-(1.5 + shift + case + noise)))
    presence, _ = scored(dice[0], known)
    return presence, np.stack([scored(one, known)[1] for one in dice])


def test_fully_annotated_cases_have_students_interval_of_their_mean_dice():
    presence, scores = drawn(0, open_share=0.0, seeds=1)
    found = performance_interval(
        DICE, presence, scores, np.arange(30), bounds=BOUNDS, undefined=True
    )
    case = scores[0, :, :3].mean(axis=1)
    mean, error = case.mean(), case.std(ddof=1) / math.sqrt(30)
    reach = stats.t.ppf(0.975, 29) * error / (mean * (1 - mean))
    ends = stats.logistic.cdf(stats.logistic.ppf(mean) + np.array([-reach, reach]))
    assert found.estimate == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx(tuple(ends), rel=1e-9)


def test_what_is_not_annotated_is_left_out_of_estimate_and_leave_one_out():
    presence, scores = drawn(1, seeds=2)
    patients = np.repeat(np.arange(15), 2)
    found = performance_interval(DICE, presence, scores, patients, undefined=True)

    def mean(keep):
        return np.mean([np.nanmean(run[keep, :3], axis=0).mean() for run in scores])

    left = np.array([mean(patients != patient) for patient in range(15)])
    assert found.estimate == pytest.approx(mean(patients >= 0))
    one = performance_interval(DICE, presence, scores[:1], patients, undefined=True)
    left = np.array([np.nanmean(scores[0, patients != p, :3], axis=0).mean() for p in range(15)])
    error = math.sqrt(14 / 15 * ((left - left.mean()) ** 2).sum())
    assert one.high - one.estimate == pytest.approx(stats.t.ppf(0.975, 14) * error, rel=1e-6)
    assert found.n_patients == 15


def test_one_structure_keeps_its_axis():
    presence, scores = drawn(2, classes=1)
    found = performance_interval(
        DICE, presence, scores, np.arange(30), bounds=BOUNDS, undefined=True
    )
    assert found.estimate == pytest.approx(np.nanmean(scores[:, :, 0]))


def test_differences_swap_whole_patients_and_their_ends_agree_with_the_values():
    presence, first = drawn(3, cases=8, seeds=1)
    _, second = drawn(3, cases=8, seeds=1, shift=-0.8)
    found = paired_difference(
        DICE, presence, first, second, np.arange(8), bounds=BOUNDS, undefined=True
    )
    signs = (np.arange(256)[:, None] >> np.arange(8)) & 1
    null = []
    for row in signs.astype(bool):
        a = np.where(row[:, None], second[0], first[0])[:, :3]
        b = np.where(row[:, None], first[0], second[0])[:, :3]
        null.append(np.nanmean(a, axis=0).mean() - np.nanmean(b, axis=0).mean())
    assert found.estimate == pytest.approx(null[0])
    assert found.p_value == pytest.approx(np.mean(np.abs(null) >= abs(null[0]) - 1e-12))
    assert found.low < found.estimate < found.high


def test_a_start_against_itself_is_no_difference():
    presence, scores = drawn(4)
    found = paired_difference(DICE, presence, scores, scores, np.arange(30), undefined=True)
    assert (found.estimate, found.p_value) == (0.0, 1.0)
    assert "identical" in found.note


def test_savings_and_networks_take_open_scores():
    presence, small = drawn(5, shift=-1.0)
    _, large = drawn(5, shift=0.5)
    _, middle = drawn(5, shift=0.0)
    saved = label_savings(
        DICE, presence, {4: middle, 8: large}, {4: small, 8: middle}, np.arange(30),
        replicates=200, undefined=True,
    )  # fmt: skip
    assert saved.status == "at the smallest size"
    assert saved.reference_value == pytest.approx(np.mean([DICE(presence, run) for run in middle]))
    mean = mean_difference_over_networks(
        DICE, presence, [large, middle], [small, small], np.arange(30), undefined=True
    )
    expected = np.mean([DICE(presence, run) for run in (*large, *middle)])
    assert mean.estimate == pytest.approx(expected - np.mean([DICE(presence, r) for r in small]))
    assert mean.low < mean.estimate < mean.high


def test_open_scores_are_refused_unless_asked_for_and_infinite_ones_always():
    presence, scores = drawn(6)
    with pytest.raises(StatisticsError, match="NaN or infinity"):
        performance_interval(DICE, presence, scores, np.arange(30))
    scores[1, 0, 0] = np.inf
    with pytest.raises(StatisticsError, match=r"infinity in seed\(s\) 1"):
        performance_interval(DICE, presence, scores, np.arange(30), undefined=True)
    with pytest.raises(StatisticsError, match="target holds infinity"):
        performance_interval(DICE, presence + np.inf, scores, np.arange(30), undefined=True)


def test_a_mean_dice_is_covered_by_its_interval():
    """40 patients, 4 structures, skewed Dice with failures: 95% intervals cover about that."""
    covered, trials = 0, 100
    truth = _drawn_mean()
    for trial in range(trials):
        presence, scores = skewed(trial, 40)
        found = performance_interval(
            DICE, presence, scores, np.arange(40), bounds=BOUNDS, undefined=True
        )
        covered += found.low <= truth <= found.high
    assert covered >= 88


def skewed(seed, cases):
    """Dice of 4 structures: mostly high, a tail of failures; a quarter is not annotated."""
    rng = np.random.default_rng([7, seed])
    case = rng.normal(size=(cases, 1))
    level = np.array([2.5, 2.0, 1.2, 0.6])
    dice = 1 / (1 + np.exp(-(level + case + 0.7 * rng.normal(size=(cases, 4)))))
    dice[rng.random((cases, 4)) < 0.05] = 0.0
    presence, scores = scored(dice, rng.random((cases, 4)) < 0.75)
    return presence, scores[None]


def _drawn_mean():
    presence, scores = skewed(10**6, 200_000)
    return DICE(presence, scores[0])
