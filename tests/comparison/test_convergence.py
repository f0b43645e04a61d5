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


def test_the_median_run_reaches_the_goal_at_its_first_evaluation_at_least_as_good():
    reference = [course(0.2, 0.4, 0.5), course(0.3, 0.6, 0.7)]  # kept 0.5 and 0.7: goal 0.6
    start = [course(0.5, 0.6, 0.5), course(0.4, 0.5, 0.9), course(0.61, 0.1, 0.1)]
    found = reach(start, reference, higher_is_better=True)
    assert found is not None
    assert found.goal == pytest.approx(0.6)
    assert found.steps == (20, 30, 10)
    assert found.median_steps == 20
    assert found.median_hours == pytest.approx(0.02)
    assert (found.interval, found.low, found.high) == (False, None, None)
    own = reach(reference, reference, higher_is_better=True)
    assert own is not None
    assert own.steps == (None, 20)  # the mean of two is reached by the better one alone
    assert own.median_steps is None


def test_a_run_that_never_gets_there_counts_as_infinite():
    reference = [course(0.5)]
    one_of_three = [course(0.6, 0.6), course(0.1, 0.2), course(0.1, 0.3)]
    found = reach(one_of_three, reference, higher_is_better=True)
    assert found is not None
    assert found.steps == (10, None, None)
    assert found.median_steps is None
    two_of_three = [course(0.6, 0.6), course(0.1, 0.2), course(0.1, 0.5)]
    assert reach(two_of_three, reference, higher_is_better=True).median_steps == 20


def test_lower_may_be_better_and_undefined_evaluations_reach_nothing():
    reference = [course(9.0, 7.0, kept=7.0)]
    found = reach([course(None, 8.0, 6.9)], reference, higher_is_better=False)
    assert found is not None
    assert found.steps == (30,)
    assert reach([course(0.5)], [course(None)], higher_is_better=True) is None
    assert reach([], reference, higher_is_better=True) is None


def test_with_five_runs_of_both_an_interval_draws_runs_and_goal():
    reference = [course(0.1, 0.5) for _ in range(5)]
    start = [course(0.5, 0.6), *(course(0.2, 0.6) for _ in range(4))]
    found = reach(start, reference, higher_is_better=True)
    assert found is not None
    assert found.interval
    # The median of five draws is 10 only if the early run is drawn three times or more:
    # sum over k = 3..5 of C(5, k) 0.2^k 0.8^(5-k) = 0.058, more than the 2.5% below the interval.
    assert (found.median_steps, found.low, found.high) == (20, 10, 20)
    again = reach(start, reference, higher_is_better=True)
    assert again == found
    hopeless = reach([course(0.1, 0.2) for _ in range(5)], reference, higher_is_better=True)
    assert hopeless is not None
    assert (hopeless.low, hopeless.high) == (None, None)


def test_the_mean_course_counts_the_runs_that_went_so_far():
    rows = mean_course([course(0.2, 0.4, 0.6), course(0.4, None)])
    assert [row["step"] for row in rows] == [10, 20, 30]
    assert [row["n"] for row in rows] == [2, 1, 1]
    np.testing.assert_allclose([row["mean"] for row in rows], [0.3, 0.4, 0.6])
    assert (rows[0]["low"], rows[0]["high"]) == (0.2, 0.4)
    assert rows[0]["hours"] == pytest.approx(0.01)
    assert math.isnan(course(None).kept)
    assert mean_course([]) == []
