"""When runs get where the reference ended: hand-computed courses."""

import math

import numpy as np
import pytest

from voxgraft.comparison.convergence import course_of, mean_course, reach


def course(*values: float | None, every: int = 10, kept: float | None = None):
    history = [
        {"step": every * (k + 1), "validation": {"dice": value}, "seconds": 36.0 * (k + 1)}
        for k, value in enumerate(values)
    ]
    known = [value for value in values if value is not None]
    return course_of(history, "dice", max(known, default=None) if kept is None else kept)


def test_a_start_is_there_when_its_kept_weights_are_as_good_in_the_mean():
    reference = [course(0.2, 0.5, 0.4), course(0.3, 0.6, 0.7)]  # kept 0.5 and 0.7: goal 0.6
    start = [course(0.5, 0.7, 0.1), course(0.4, 0.5, 0.9)]
    found = reach(start, reference, higher_is_better=True)
    assert found is not None
    assert found.goal == pytest.approx(0.6)
    assert found.steps == 20  # best so far: 0.45, 0.6, 0.8 in the mean
    assert found.hours == pytest.approx(0.02)
    assert found.firsts == (20, 30)
    assert (found.interval, found.low, found.high) == (False, None, None)
    own = reach(reference, reference, higher_is_better=True)
    assert own is not None
    assert own.steps == 30  # where its last run is at its best
    assert own.firsts == (None, 20)


def test_a_start_that_never_gets_there_says_so():
    reference = [course(0.5)]
    found = reach([course(0.6, 0.6), course(0.1, 0.2)], reference, higher_is_better=True)
    assert found is not None
    assert (found.steps, found.hours) == (None, None)
    assert found.firsts == (10, None)


def test_runs_that_ended_early_keep_their_best():
    found = reach([course(0.4), course(0.2, 0.6)], [course(0.5)], higher_is_better=True)
    assert found is not None
    assert found.steps == 20  # (0.4 + 0.6) / 2
    assert found.hours == pytest.approx((36 + 72) / 2 / 3600)


def test_lower_may_be_better_and_undefined_evaluations_reach_nothing():
    reference = [course(9.0, 7.0, kept=7.0)]
    found = reach([course(None, 8.0, 6.9, kept=6.9)], reference, higher_is_better=False)
    assert found is not None
    assert (found.goal, found.steps, found.firsts) == (7.0, 30, (30,))
    assert reach([course(0.5)], [course(None)], higher_is_better=True) is None
    assert reach([], reference, higher_is_better=True) is None


def test_with_five_runs_of_both_an_interval_draws_runs_and_goal():
    reference = [course(0.1, 0.5) for _ in range(5)]
    # After 10 steps the mean of five draws is 0.2 + 0.4 k / 5 with k early runs among them. It is
    # 0.5 with k = 4 or more: by 5 · 0.4^4 · 0.6 + 0.4^5 = 8.7% of draws, more than the 2.5% below.
    start = [course(0.6, 0.6), course(0.6, 0.6), *(course(0.2, 0.6) for _ in range(3))]
    found = reach(start, reference, higher_is_better=True)
    assert found is not None
    assert found.interval
    assert (found.steps, found.low, found.high) == (20, 10, 20)
    assert reach(start, reference, higher_is_better=True) == found
    never = reach([course(0.1, 0.2) for _ in range(5)], reference, higher_is_better=True)
    assert never is not None
    assert (never.steps, never.low, never.high) == (None, None, None)


def test_the_mean_course_counts_the_runs_that_went_so_far():
    rows = mean_course([course(0.2, 0.4, 0.6), course(0.4, None)])
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert [row["n"] for row in rows] == [2, 1, 1]
    np.testing.assert_allclose([row["mean"] for row in rows], [0.3, 0.4, 0.6])
    assert (rows[0]["low"], rows[0]["high"]) == (0.2, 0.4)
    assert rows[0]["hours"] == pytest.approx(0.01)
    assert math.isnan(course(None).kept)
    assert mean_course([]) == []
