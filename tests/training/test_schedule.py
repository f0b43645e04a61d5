"""Batches and rates as functions of the step."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.errors import TrainingError
from voxgraft.training import Optimization
from voxgraft.training.schedule import BatchSchedule, learning_rate_at, stream_seed


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 20), st.integers(0, 2**31), st.integers(1, 4))
def test_every_epoch_holds_every_case_once(cases, batch_size, seed, epochs):
    schedule = BatchSchedule(cases, batch_size, seed)
    count = math.ceil(epochs * cases / schedule.batch_size)
    stream = np.concatenate(list(schedule.batches(0, count)))
    for epoch in range(epochs):
        part = stream[epoch * cases : (epoch + 1) * cases]
        assert sorted(part) == list(range(cases))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(1, 12), st.integers(0, 99), st.booleans())
def test_a_batch_depends_on_seed_and_step_alone(cases, batch_size, seed, balanced):
    labels = np.arange(cases) % 3 if balanced else None
    in_order = list(BatchSchedule(cases, batch_size, seed, labels).batches(0, 30))
    backwards = BatchSchedule(cases, batch_size, seed, labels)
    for step in range(29, -1, -1):
        np.testing.assert_array_equal(backwards.positions(step), in_order[step])


def test_epochs_and_seeds_are_shuffled_differently():
    orders = [tuple(BatchSchedule(12, 12, seed).positions(e)) for seed in (0, 1) for e in (0, 1)]
    assert len(set(orders)) == 4
    other = BatchSchedule(12, 12, 0, purpose="running statistics")
    assert tuple(other.positions(0)) not in orders


def test_a_small_set_is_one_batch():
    schedule = BatchSchedule(5, 16, seed=0)
    assert [len(batch) for batch in schedule.batches(0, 3)] == [5, 5, 5]
    assert sorted(schedule.positions(2)) == [0, 1, 2, 3, 4]


def test_balanced_classes_come_equally_often_and_so_do_the_cases_of_a_class():
    labels = np.array([0] * 30 + [1] * 5 + [2] * 3)
    schedule = BatchSchedule(38, 6, seed=4, labels=labels)
    stream = np.concatenate(list(schedule.batches(0, 60)))  # 360 draws: 120 of each class
    assert Counter(labels[stream]) == {0: 120, 1: 120, 2: 120}
    for batch in schedule.batches(0, 60):
        assert Counter(labels[batch]) == {0: 2, 1: 2, 2: 2}
    for label, times in ((0, 4), (1, 24), (2, 40)):
        assert set(Counter(stream[labels[stream] == label]).values()) == {times}


def test_no_cases_are_refused():
    with pytest.raises(TrainingError, match="there are no training cases"):
        BatchSchedule(0, 4, 0)


def test_learning_rate_by_hand():
    plan = Optimization(steps=10, learning_rate=0.8, warmup=0.2, final_learning_rate=0.1)
    rates = [learning_rate_at(step, plan) for step in range(11)]
    assert rates[:3] == pytest.approx([0.4, 0.8, 0.8])
    assert rates[6] == pytest.approx(0.08 + 0.36)  # half of the cosine
    assert rates[10] == pytest.approx(0.08)
    assert rates[2:] == sorted(rates[2:], reverse=True)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 50), st.floats(0, 1), st.floats(0, 1))
def test_learning_rate_is_positive_and_never_above_the_peak(steps, warmup, final):
    plan = Optimization(steps=steps, learning_rate=1e-2, warmup=warmup, final_learning_rate=final)
    rates = [learning_rate_at(step, plan) for step in range(steps)]
    assert all(0 < rate <= 1e-2 * (1 + 1e-12) for rate in rates)


def test_streams_do_not_meet():
    seeds = {
        stream_seed(seed, step, purpose)
        for seed in (0, 1, -1, 2**40)
        for step in range(50)
        for purpose in ("augmentation", "dropout")
    }
    assert len(seeds) == 4 * 50 * 2
    assert all(0 <= seed < 2**63 for seed in seeds)
