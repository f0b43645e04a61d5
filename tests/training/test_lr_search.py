"""The choice of a learning rate."""

import dataclasses
import json

import pytest

from voxgraft.errors import RecipeError, TrainingError
from voxgraft.training import (
    FitResult,
    check_grid,
    choose_learning_rate,
    measured_memory_format,
    pick_learning_rate,
)


def trial(value, *, diverged=False, steps=60, metric="auroc"):
    return FitResult(
        best_step=1, best_value=value, metric=metric, history=[], steps_planned=steps, steps_done=1,
        stopped_early=False, diverged=diverged, divergence="", learning_rate=1.0, batchnorm={},
        trainable_parameters=1, parameters=1, seconds=2.0,
    )  # fmt: skip


def pick(values, higher=True):
    return pick_learning_rate(
        {rate: trial(value) for rate, value in values.items()}, higher_is_better=higher
    )


def test_the_best_value_is_chosen_in_either_direction():
    values = {1e-4: 0.5, 1e-3: 0.9, 1e-2: 0.7}
    choice = pick(values)
    assert (choice.chosen, choice.edge, choice.budget_steps, choice.seconds) == (1e-3, "", 60, 6.0)
    assert pick(values, higher=False).chosen == 1e-4
    assert pick(values, higher=False).edge == "lowest"
    assert json.loads(json.dumps(choice.to_dict()))["values"] == [0.5, 0.9, 0.7]


def test_ties_go_to_the_middle_of_the_grid_then_to_the_smaller():
    assert pick({1e-4: 0.9, 1e-3: 0.9, 1e-2: 0.9}).chosen == 1e-3
    assert pick({1e-4: 0.9, 1e-3: 0.1, 1e-2: 0.9}).chosen == 1e-4


def test_an_edge_is_flagged_but_not_of_one_rate():
    assert pick({1e-4: 0.1, 1e-3: 0.9}).edge == "highest"
    assert pick({1e-3: 0.9}).edge == ""


def test_diverged_and_undefined_trials_are_worst():
    trials = {1e-3: trial(0.4), 1e-2: trial(0.9, diverged=True), 1e-4: trial(None)}
    choice = pick_learning_rate(trials, higher_is_better=True)
    assert choice.chosen == 1e-3
    assert choice.values == (None, 0.4, None)
    assert choice.diverged == (False, False, True)
    hopeless = {rate: trial(0.9, diverged=True) for rate in (1e-3, 1e-2)}
    choice = pick_learning_rate(hopeless, higher_is_better=True)
    assert (choice.chosen, all(choice.diverged)) == (1e-3, True)


def test_unequal_budgets_are_refused():
    with pytest.raises(TrainingError, match="differ in budget or metric"):
        pick_learning_rate({1e-3: trial(0.5), 1e-2: trial(0.5, steps=90)}, higher_is_better=True)


@pytest.mark.parametrize(
    ("grid", "message"),
    [([], "it is empty"), ([1e-3, 0.0], "0.0 is no learning rate"), ([1e-3, 1e-3], "twice"),
     ([True], "True is no learning rate"), ([float("inf")], "inf is no learning rate")],
)  # fmt: skip
def test_impossible_grids(grid, message):
    with pytest.raises(RecipeError, match=message):
        check_grid(grid)


def test_real_trials(tiny, tmp_path):
    """A rate of nothing learns nothing, a huge one diverges: the middle one is taken."""

    def make_fit(rate):
        _, _, result = tiny.train(
            tmp_path / str(rate),
            changes={"learning_rate": rate, "optimizer": "sgd", "gradient_clip_norm": None,
                     "steps": 30, "eval_every": 10},
        )  # fmt: skip
        return result

    choice = choose_learning_rate(make_fit, [1e30, 3e-2, 1e-9], higher_is_better=True)
    assert choice.grid == (1e-9, 3e-2, 1e30)
    assert choice.chosen == 3e-2
    assert choice.diverged == (False, False, True)


def test_results_are_json(tiny, tmp_path):
    _, _, result = tiny.train(tmp_path, changes={"steps": 2})
    assert set(result.to_dict()) == {field.name for field in dataclasses.fields(FitResult)}


def test_a_memory_layout_is_measured_once_and_then_read(tiny, tmp_path, monkeypatch):
    import torch

    from voxgraft.training import memory_format

    record, network = tmp_path / "memory_format.json", tiny.tiny_network()
    answers = [torch.channels_last_3d, torch.contiguous_format]
    monkeypatch.setattr(memory_format, "choose_memory_format", lambda *_: answers.pop(0))
    for key, expected in (("a", "channels_last"), ("a", "channels_last"), ("b", "contiguous")):
        assert measured_memory_format(record, key, network, (8, 8, 8), 2) == expected
    assert json.loads(record.read_text()) == {"a": "channels_last", "b": "contiguous"}
    for damaged in ('{"a": "sideways"}', "[]", "{"):
        record.write_text(damaged)
        with pytest.raises(TrainingError, match=r"memory_format\.json is damaged"):
            measured_memory_format(record, "a", network, (8, 8, 8), 2)
