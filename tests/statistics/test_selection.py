"""The best of two groups: chosen on validation, and what choosing on the test patients adds."""

import numpy as np
import pytest

from voxgraft.errors import StatisticsError
from voxgraft.metrics import auroc, mae
from voxgraft.statistics import best_against_best, paired_difference
from voxgraft.statistics.bootstrap import resampled_counts
from voxgraft.statistics.sample import group_patients

N = 40
TARGET = np.r_[np.ones(20), np.zeros(20)]


def _groups(seed, sizes=(4, 2), seeds=1, apart=1.0):
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=N)
    return [
        {f"{group}{k}": apart * TARGET + latent + rng.normal(size=(seeds, N)) for k in range(size)}
        for group, size in zip("ab", sizes, strict=True)
    ]


def _even(group, seeds=1):
    return {name: [0.5] * seeds for name in group}


def test_the_networks_are_chosen_on_validation_and_compared_on_test():
    a, b = _groups(0, seeds=2)
    validation = {"a0": [0.7, 0.7], "a1": [0.9, 0.6], "a2": [0.75, 0.74], "a3": [0.1, 0.2]}
    found = best_against_best(
        auroc, TARGET, a, b, validation, {"b0": [0.6, 0.6], "b1": [0.6, 0.6]}, np.arange(N)
    )
    assert (found.chosen_a, found.chosen_b) == ("a1", "b0")
    assert (found.validation_a, found.validation_b) == (0.75, 0.6)
    assert found.difference == paired_difference(
        auroc, TARGET, a["a1"], b["b0"], np.arange(N), replicates=2_000
    )
    values = {name: np.mean([auroc(TARGET, run) for run in runs]) for name, runs in a.items()}
    assert found.on_test.name_a == max(values, key=values.get)
    assert found.on_test.value_a == pytest.approx(max(values.values()))


def test_equals_a_loop_that_draws_and_chooses_again():
    a, b = _groups(1)
    found = best_against_best(
        auroc, TARGET, a, b, _even(a), _even(b), np.arange(N), replicates=100, seed=5
    ).on_test
    grouped = group_patients(np.arange(N), N, TARGET)
    errors = []
    for counts in np.concatenate(list(resampled_counts(grouped, 100, 5))):
        drawn = np.repeat(np.arange(N), counts)
        of_draw = []
        for group in (a, b):
            there = [auroc(TARGET[drawn], runs[0][drawn]) for runs in group.values()]
            here = [auroc(TARGET, runs[0]) for runs in group.values()]
            best = int(np.argmax(there))
            of_draw.append(there[best] - here[best])
        errors.append(of_draw)
    expected = np.mean(errors, axis=0)
    assert (found.optimism_a, found.optimism_b) == pytest.approx(tuple(expected), abs=1e-12)
    assert found.optimism == pytest.approx(expected[0] - expected[1], abs=1e-12)
    assert found.low < found.corrected < found.high


def test_many_equal_networks_flatter_their_group():
    optimism, gain = [], []
    for seed in range(25):
        a, b = _groups([2, seed], sizes=(8, 1))
        found = best_against_best(
            auroc, TARGET, a, b, _even(a), _even(b), np.arange(N), replicates=100
        ).on_test
        optimism.append(found.optimism)
        gain.append(found.difference)
        assert abs(found.optimism_b) < 0.02
    assert np.mean(gain) > 0.04  # all networks are equally good in truth
    assert 0.5 * np.mean(gain) < np.mean(optimism) < np.mean(gain)


def test_an_error_is_chosen_where_it_is_smallest():
    rng = np.random.default_rng(3)
    target = rng.normal(size=N)
    a = {f"a{k}": target + rng.normal(size=N) for k in range(5)}
    b = {"b": target + rng.normal(size=N)}
    validation = {name: [float(k)] for k, name in enumerate(a)}
    found = best_against_best(
        mae, target, a, b, validation, {"b": 1.0}, np.arange(N), higher_is_better=False
    )
    assert found.chosen_a == "a0"
    assert found.on_test.value_a == min(mae(target, run) for run in a.values())
    assert found.on_test.optimism_a < 0
    assert found.on_test.corrected > found.on_test.difference


def test_what_cannot_be_estimated_says_so():
    a, b = _groups(4)
    few = np.r_[np.ones(2), np.zeros(N - 2)]
    shared = np.r_[0, 0, np.arange(2, N)]  # one patient has both positive cases
    for target, patients, note in (
        (np.ones(N), np.arange(N), "undefined"),
        (TARGET, np.zeros(N), "one patient"),
        (few, shared, "too few patients of a class"),
    ):
        found = best_against_best(auroc, target, a, b, _even(a), _even(b), patients)
        assert note in found.on_test.note
        assert np.isnan([found.on_test.low, found.on_test.optimism, found.difference.low]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, v: a.clear(), "group a has no network"),
        (lambda a, v: v.pop("a1"), "a1: scores, but no validation value"),
        (lambda a, v: v.update(other=[0.5]), "other: validation values, but no scores"),
        (lambda a, v: v.update(a0=[np.nan]), r"a0: validation values \[nan\]"),
        (lambda a, v: v.update(a0=[0.5, 0.6]), r"of 1 seed\(s\)"),
        (lambda a, v: a.update(a0=np.zeros(3), a1=np.zeros(2)), "2 faults"),
    ],
)
def test_refusals(change, message):
    a, b = _groups(5)
    validation = _even(a)
    change(a, validation)
    with pytest.raises(StatisticsError, match=message):
        best_against_best(auroc, TARGET, a, b, validation, _even(b), np.arange(N))
