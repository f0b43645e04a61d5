"""The rate that falls on plateaus, and the one that stays."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from voxgraft.errors import RecipeError
from voxgraft.tasks import build_task
from voxgraft.training import Adapt, Optimization
from voxgraft.training.schedule import count_plateaus, learning_rate_at

PLATEAU = Optimization(schedule="plateau", plateau_patience=2, warmup=0.0, learning_rate=0.8)


def plateaus(values, optimization=PLATEAU, higher=True, every=1):
    """Return the plateaus after each evaluation."""
    rows = [(every * (place + 1), value) for place, value in enumerate(values)]
    return [
        count_plateaus(rows[: place + 1], optimization, higher_is_better=higher)
        for place in range(len(rows))
    ]


def test_plateaus_by_hand():
    #         best  best  equal worse best  worse none  worse none  worse best
    values = [0.50, 0.60, 0.60, 0.55, 0.70, 0.65, None, 0.69, None, 0.69, 0.71]
    assert plateaus(values) == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
    lower = [None if value is None else -value for value in values]
    assert plateaus(lower, higher=False) == plateaus(values)
    assert plateaus([None, None, None, 0.5, None, 0.4]) == [0, 0, 0, 0, 0, 1]
    assert plateaus([]) == []


def test_the_warm_up_sets_what_must_be_bettered_and_does_not_count():
    late = PLATEAU.replace(steps=100, warmup=0.3)  # evaluations at 10, 20, 30 are in the warm-up
    assert plateaus([0.9, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9], late, every=10) == [0, 0, 0, 0, 1, 1, 2]
    assert learning_rate_at(14, late) == pytest.approx(0.8 * 15 / 30)
    assert learning_rate_at(29, late, 0) == learning_rate_at(30, late, 0) == 0.8


def test_rates_by_hand():
    assert [learning_rate_at(50, PLATEAU, count) for count in range(4)] == [0.8, 0.4, 0.2, 0.1]
    floored = PLATEAU.replace(plateau_factor=0.1, final_learning_rate=0.05)
    rates = [learning_rate_at(50, floored, count) for count in range(3)]
    assert rates == pytest.approx([0.8, 0.08, 0.04])
    constant = PLATEAU.replace(schedule="constant", warmup=0.1, steps=20)
    assert [learning_rate_at(step, constant) for step in range(20)] == [0.4] + [0.8] * 19


values_with_gaps = st.lists(
    st.one_of(st.just(math.nan), st.integers(0, 12).map(lambda n: n / 12)), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 12).map(lambda n: n / 12),
    values_with_gaps,
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from([0.0, 0.2]),
)
def test_rates_are_those_of_reduce_lr_on_plateau(first, others, patience, higher, floor):
    values = [first, *others]
    ours = PLATEAU.replace(plateau_patience=patience, final_learning_rate=floor)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=ours.learning_rate)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="max" if higher else "min",
        factor=ours.plateau_factor,
        patience=patience - 1,
        threshold=0.0,
        min_lr=floor * ours.learning_rate,
        eps=0.0,
    )
    defined = [None if math.isnan(value) else value for value in values]
    for value, count in zip(values, plateaus(defined, ours, higher), strict=True):
        scheduler.step(value)
        assert learning_rate_at(99, ours, count) == optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize(("on", "better"), [("metric", max), ("loss", min)])
def test_a_training_follows_its_history(tiny, tmp_path, on, better):
    changes = {
        "schedule": "plateau", "plateau_patience": 1, "plateau_factor": 0.7, "plateau_on": on,
        "steps": 24, "eval_every": 2, "warmup": 0.1, "learning_rate": 0.1,
    }  # fmt: skip
    feed = tiny.tiny_feed(tiny.BINARY, 9, seed=1)
    feed.targets[:3] = 1.0 - feed.targets[:3]  # what is learnt is right for some cases only
    _, _, result = tiny.train(tmp_path, changes=changes, validation_feed=feed)
    rate, best, expected = 0.1, None, []
    for row in result.history:
        expected.append(rate)  # of the update before the evaluation
        value = row["validation_loss"] if on == "loss" else row["validation"]["auroc"]
        if best is None or (value != best and better(value, best) == value):
            best = value
        elif row["step"] > 2:
            rate *= 0.7
    assert [row["learning_rate"] for row in result.history] == pytest.approx(expected, rel=1e-12)
    assert expected[-1] < 0.1


def test_what_cannot_fall_is_refused(tiny, tmp_path):
    with pytest.raises(RecipeError, match=r"early_stop_patience is 5 and plateau_patience 5.*loss"):
        Optimization(schedule="plateau", early_stop_patience=5)
    Optimization(schedule="plateau", early_stop_patience=5, plateau_on="loss")
    Optimization(schedule="plateau", early_stop_patience=6)
    with pytest.raises(RecipeError, match="schedule is 'plateau', which watches validation cases"):
        tiny.fit(
            tiny.tiny_network(), build_task(tiny.BINARY), tiny.tiny_feed(tiny.BINARY, 20), None,
            tiny.settings(schedule="plateau"), Adapt(), None, folder=tmp_path, seed=1, device="cpu",
        )  # fmt: skip
