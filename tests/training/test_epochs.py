"""Epochs in place of steps: how many updates they are, and that a training makes them."""

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.errors import RecipeError
from voxgraft.training import Optimization
from voxgraft.training.schedule import BatchSchedule


@pytest.mark.parametrize(
    ("items", "batch_size", "accumulate", "epochs", "steps"),
    [
        (714, 16, 1, 50, 2232),  # 2231.25
        (71, 16, 1, 50, 222),  # 221.9
        (96, 16, 2, 1, 3),
        (100, 16, 1, 0.5, 4),  # 3.1
        (10, 1, 1, 0.3, 3),  # 0.3 * 10 is 3 in decimals
        (30, 1, 1, 0.1, 3),  # and 0.1 * 30 is 3.0000000000000004 in binary
        (5, 16, 1, 50, 50),  # fewer than a batch: a batch is one pass
        (5, 16, 4, 50, 13),
        (1000, 16, 1, 0.001, 1),
    ],
)
def test_epochs_as_steps(items, batch_size, accumulate, epochs, steps):
    given = Optimization(
        epochs=epochs, eval_every_epochs=epochs, batch_size=batch_size, accumulate=accumulate
    )
    found = given.resolved(items)
    assert (found.steps, found.eval_every) == (steps, steps)
    assert (found.epochs, found.eval_every_epochs) == (None, None)
    assert found.resolved(7 * items) == found
    assert found == given.replace(
        steps=steps, eval_every=steps, epochs=None, eval_every_epochs=None
    )


def test_steps_stay_where_no_epochs_are_asked_for():
    plain = Optimization(steps=77, eval_every=5)
    assert plain.resolved(1000) == plain
    assert plain.replace(epochs=2).resolved(160) == plain.replace(steps=20)
    assert plain.replace(eval_every_epochs=1).resolved(160) == plain.replace(eval_every=10)


def test_warm_up_is_a_fraction_of_the_resolved_steps():
    assert Optimization(epochs=50, batch_size=16, warmup=0.1).resolved(160).warmup_steps == 50


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 3), st.integers(1, 12))
def test_the_steps_draw_every_item_so_often_and_one_step_less_does_not(
    items, batch_size, accumulate, quarters
):
    epochs = quarters / 4
    settled = Optimization(epochs=epochs, batch_size=batch_size, accumulate=accumulate)
    schedule = BatchSchedule(items, batch_size, seed=0)
    steps = settled.resolved(items).steps
    drawn = schedule.batch_size * accumulate
    assert (steps - 1) * drawn < Fraction(quarters, 4) * items <= steps * drawn
    batches = list(schedule.batches(0, steps * accumulate))
    times = Counter(position for batch in batches for position in batch.tolist())
    assert sum(count >= math.floor(epochs) for count in times.values()) >= (epochs >= 1) * items


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan"), True, "2"])
def test_impossible_epochs(value):
    with pytest.raises(RecipeError, match=r"(?s)epochs is .*\n.*eval_every_epochs is"):
        Optimization(epochs=value, eval_every_epochs=value)


def test_no_items():
    with pytest.raises(RecipeError, match="there are 0 training items"):
        Optimization(epochs=1).resolved(0)


def test_a_training_of_two_epochs(tiny, tmp_path):
    feed = tiny.tiny_feed(tiny.BINARY, 20)
    changes = {"epochs": 2.0, "eval_every_epochs": 0.5, "batch_size": 5}
    _, _, result = tiny.train(tmp_path, train_feed=feed, norm="group", changes=changes)
    assert (result.steps_planned, result.steps_done) == (8, 8)
    assert [row["step"] for row in result.history] == [2, 4, 6, 8]
    assert result.history[-1]["learning_rate"] < 0.1 * result.learning_rate  # the cosine's end
    trained = Counter(position for batch in feed.served for position in batch)
    assert trained == dict.fromkeys(range(20), 2)
