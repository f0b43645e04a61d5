"""Paired differences: permutation by enumeration, null and planted differences, Holm."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxgraft.errors import StatisticsError
from voxgraft.metrics import METRICS, auroc, balanced_accuracy, brier, mae, multiclass_auroc
from voxgraft.statistics import adjust, delong_test, holm, paired_difference


def _by_hand(target, a, b, patients, statistic):
    """Share of all 2^n swaps at least as far from 0 as the observed difference."""
    names = np.unique(patients)
    observed = np.mean(
        [statistic(target, x) - statistic(target, y) for x, y in zip(a, b, strict=True)]
    )
    extreme = 0
    for swap in itertools.product((False, True), repeat=len(names)):
        swapped = np.isin(patients, names[list(swap)])
        null = np.mean(
            [
                statistic(target, np.where(swapped, y, x))
                - statistic(target, np.where(swapped, x, y))
                for x, y in zip(a, b, strict=True)
            ]
        )
        extreme += abs(null) >= abs(observed) - 1e-12
    return extreme / 2 ** len(names)


def test_exact_permutation_of_values_with_several_cases_a_patient():
    rng = np.random.default_rng(0)
    patients = np.array([1, 1, 2, 3, 3, 3, 4, 5, 6, 7])
    target = rng.normal(size=10)
    a, b = target + rng.normal(size=(1, 10)), target + 2 * rng.normal(size=(1, 10))
    found = paired_difference(mae, target, a, b, patients, higher_is_better=False)
    expected = _by_hand(target, a, b, patients, lambda t, s: np.abs(t - s).mean())
    assert found.p_patients == pytest.approx(expected, abs=1e-12)
    assert found.p_value == found.p_patients
    assert "neither interval nor p-value covers that" in found.note


def test_exact_permutation_of_the_auroc_swaps_ranks():
    rng = np.random.default_rng(1)
    target = np.array([1, 0, 1, 0, 1, 0, 0, 1, 0.0, 0])
    a, b = rng.normal(size=(1, 10)) + target, rng.normal(size=(1, 10))
    ranks = [(np.argsort(np.argsort(s[0])) + 0.5)[None] / 10 for s in (a, b)]
    expected = _by_hand(target, *ranks, np.arange(10), auroc)
    found = paired_difference(auroc, target, a, b, np.arange(10))
    assert found.p_patients == pytest.approx(expected, abs=1e-12)
    monotone = paired_difference(auroc, target, np.exp(5 * a), b / 100, np.arange(10))
    assert monotone.p_patients == found.p_patients


def test_drawn_swaps_agree_with_delong_and_are_never_zero():
    rng = np.random.default_rng(2)
    n = 200
    target = np.r_[np.ones(80), np.zeros(120)]
    latent = rng.normal(size=n)
    a, b = target + latent + 0.6 * rng.normal(size=(2, n))
    found = paired_difference(auroc, target, a, b, np.arange(n), replicates=4000)
    second = delong_test(target, a, b)
    assert found.estimate == pytest.approx(second.difference, abs=1e-12)
    assert found.low == pytest.approx(second.low, abs=0.004)
    assert found.high == pytest.approx(second.high, abs=0.004)
    assert found.p_patients == pytest.approx(second.p_value, abs=0.03)
    far = paired_difference(auroc, target, target, -target, np.arange(n), replicates=1000)
    assert far.p_value == pytest.approx(1 / 1001)


@pytest.mark.parametrize("name", [name for name in METRICS if "binary" in METRICS[name].functions])
def test_exchanging_the_starts_turns_the_sign(name):
    rng = np.random.default_rng(3)
    target = np.r_[np.ones(20), np.zeros(30)]
    a, b = 1 / (1 + np.exp(-(rng.normal(size=(2, 3, 50)) + target)))
    function = METRICS[name].function("binary")
    found, turned = (
        paired_difference(function, target, x, y, np.arange(50), replicates=200)
        for x, y in ((a, b), (b, a))
    )
    assert found.estimate == pytest.approx(-turned.estimate, abs=1e-12)
    assert found.low == pytest.approx(-turned.high, abs=1e-9)
    again = paired_difference(function, target, a, b, np.arange(50), replicates=200)
    assert again == found


def test_identical_predictions():
    target = np.r_[np.ones(10), np.zeros(10)]
    score = np.linspace(0, 1, 20)
    found = paired_difference(auroc, target, score, score, np.arange(20))
    assert (found.estimate, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert found.note.startswith("the predictions are identical")
    assert not found.shown


def test_both_perfect_is_not_proof_of_equality():
    target = np.r_[np.ones(6), np.zeros(30)]
    other = target + np.linspace(0, 0.5, 36)
    found = paired_difference(auroc, target, target, other, np.arange(36), bounds=(0, 1))
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 6))
    assert found.low == -found.high
    assert "both reach 1" in found.note


def _comparison(rng, shift, seed_sd, n=120, seeds=3):
    target = np.r_[np.ones(n // 2), np.zeros(n - n // 2)]
    latent = rng.normal(size=n)

    def start(apart):
        apart = apart + seed_sd * rng.normal(size=(seeds, 1))
        return apart * target + latent + 0.5 * rng.normal(size=(seeds, n))

    return paired_difference(
        auroc, target, start(1 + shift), start(1.0), np.arange(n), replicates=200
    )


def test_null_is_kept_and_a_planted_difference_found():
    """The full tables are ``benchmarks/null_comparison.py``; swaps alone fail the first."""
    rng = np.random.default_rng(4)
    null = [_comparison(rng, 0.0, 0.15) for _ in range(120)]
    assert np.mean([item.shown for item in null]) <= 0.06
    assert np.mean([item.p_patients <= 0.05 for item in null]) > 0.15
    planted = [_comparison(rng, 0.6, 0.05) for _ in range(40)]
    assert np.mean([item.shown and item.favors_a for item in planted]) > 0.9


def test_seeds_paired_or_not():
    rng = np.random.default_rng(5)
    n = 100
    target = np.r_[np.ones(50), np.zeros(50)]
    luck = rng.normal(size=(5, 1))
    latent = rng.normal(size=(5, n))
    a = (1.4 + luck) * target + latent
    b = (1.0 + luck) * target + latent + 0.05 * rng.normal(size=(5, n))
    paired, unpaired = (
        paired_difference(auroc, target, a, b, np.arange(n), pair_seeds=pair)
        for pair in (True, False)
    )
    assert paired.estimate == unpaired.estimate
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)
    fewer = paired_difference(auroc, target, a, b[:3], np.arange(n))
    assert (fewer.n_seeds_a, fewer.n_seeds_b) == (5, 3)
    with pytest.raises(StatisticsError, match="a has 5 and b has 3"):
        paired_difference(auroc, target, a, b[:3], np.arange(n), pair_seeds=True)


def test_multiclass_columns():
    rng = np.random.default_rng(6)
    target = np.repeat([0, 1, 2], 20)
    logits = rng.normal(size=(2, 2, 60, 3)) + np.eye(3)[target]
    a, b = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    found = paired_difference(multiclass_auroc, target, a, b, np.arange(60), replicates=200)
    assert found.low < found.estimate < found.high
    wider = paired_difference(
        METRICS["brier"].function("multiclass"), target, a, b, np.arange(60), replicates=200
    )
    assert 0 < wider.p_value <= 1


@pytest.mark.parametrize(
    ("target", "patients", "note"),
    [
        (np.ones(6), np.arange(6), "undefined for these patients"),
        (np.r_[1.0, np.zeros(5)], np.zeros(6), "one patient: no difference"),
        (np.r_[1.0, np.zeros(5)], np.arange(6), "too few patients of a class"),
        (np.r_[1.0, 1.0, np.zeros(4)], np.arange(6), "one training seed each"),
    ],
)
def test_what_cannot_be_tested_says_so(target, patients, note):
    rng = np.random.default_rng(7)
    a, b = rng.normal(size=(2, 6))
    found = paired_difference(auroc, target, a, b, patients)
    assert note in found.note
    assert math.isnan(found.low) == ("one training seed" not in note)


@pytest.mark.parametrize(
    ("scores_a", "scores_b", "message"),
    [
        (np.zeros(3), np.zeros(4), "scores_a has 3 cases and target has 4"),
        (np.zeros((0, 4)), np.zeros(4), "one seed at least"),
        (np.zeros((1, 4, 2)), np.zeros((1, 4, 3)), "same columns"),
        (np.full(4, np.inf), np.zeros(4), "Leave diverged runs out"),
    ],
)
def test_refusals(scores_a, scores_b, message):
    with pytest.raises(StatisticsError, match=message):
        paired_difference(brier, [0, 1, 0, 1], scores_a, scores_b, np.arange(4))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).tolist() == []
    kept = holm([0.02, math.nan, 0.01])
    assert kept[[0, 2]] == pytest.approx([0.02, 0.02])
    assert math.isnan(kept[1])
    with pytest.raises(StatisticsError, match=r"1\.5 is outside"):
        holm([0.1, 1.5])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_monotone_and_between_plain_and_bonferroni(values):
    corrected, plain = holm(values), np.array(values)
    assert (corrected >= plain - 1e-15).all()
    assert (corrected <= np.minimum(1, len(plain) * plain) + 1e-12).all()
    order = np.argsort(plain, kind="stable")
    assert (np.diff(corrected[order]) >= -1e-15).all()


def test_adjust_fills_the_family():
    rng = np.random.default_rng(8)
    family = [_comparison(rng, shift, 0.05) for shift in (0.0, 0.8)]
    filled = adjust(family)
    assert [item.p_holm for item in filled] == pytest.approx(
        holm([item.p_value for item in family])
    )
    assert math.isnan(family[0].p_holm)


def test_balanced_accuracy_of_one_seed_each():
    target = np.r_[np.ones(10), np.zeros(10)]
    a = np.r_[np.ones(9), 0, np.zeros(9), 1.0]
    b = np.r_[np.ones(6), np.zeros(4), np.zeros(8), np.ones(2)]
    found = paired_difference(balanced_accuracy, target, a, b, np.arange(20), replicates=1000)
    assert found.estimate == pytest.approx(0.9 - 0.7)
    assert found.low < 0.2 < found.high
