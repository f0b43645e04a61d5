"""The loss's settings from a recipe to a trained run; steps that recipes give as epochs."""

import dataclasses
from typing import Any

import pytest

from voxgraft.errors import RecipeError, TaskError
from voxgraft.inference import load_trained
from voxgraft.recipes import Recipe, TaskSettings, recipe_from_dict
from voxgraft.runs import begin_run, execute_run, planned_optimizations


def plain(**changes: Any) -> dict[str, Any]:
    return {
        "table": "cases.csv",
        "target": {"kind": "binary", "columns": ["shape"], "classes": ["ball", "box"]},
        "metric": "auroc",
        "preprocessing": {"intensity": {"kind": "min_max"}},
        "model": "plain_resnet10_3d",
        "start": "scratch",
        "memory_format": "contiguous",
    } | changes


AGE = {"kind": "regression", "columns": ["age"]}


def test_settings_of_the_loss_reach_the_task_and_are_read_again() -> None:
    assert recipe_from_dict(plain(), "recipe").task == TaskSettings()
    recipe = recipe_from_dict(
        plain(task={"class_weights": "balanced", "label_smoothing": 0.1}), "recipe"
    )
    assert recipe_from_dict(recipe.to_dict(), "again") == recipe
    task = recipe.task.build(recipe.target, recipe.metric)
    assert (task.class_weights, task.label_smoothing) == ("balanced", 0.1)
    assert recipe.key() != dataclasses.replace(recipe, task=TaskSettings()).key()
    recipe = recipe_from_dict(
        plain(task={"regression_loss": "mse"}, target=AGE, metric="mae"), "recipe"
    )
    assert recipe.task.build(recipe.target, "mae").regression_loss == "mse"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"task": {"weights": "balanced"}}, "task.weights: unknown key"),
        ({"task": {"class_weights": True}}, "task.class_weights: "),
        ({"task": {"label_smoothing": 1.0}}, "label_smoothing is 1.0, expected from 0 to below 1"),
        ({"task": {"label_smoothing": 0.1}, "target": AGE}, "no meaning for a regression target"),
        ({"task": None}, "task: missing, expected a mapping of settings"),
    ],
)
def test_impossible_settings_are_refused_as_they_are_read(changes: Any, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe_from_dict(plain(**changes), "recipe")
    assert told in str(caught.value)


def test_a_setting_that_does_not_fit_a_target_is_refused_in_python_too() -> None:
    target = recipe_from_dict(plain(target=AGE), "recipe").target
    with pytest.raises(TaskError, match="no meaning for a regression target"):
        TaskSettings(class_weights="balanced").build(target)


def test_a_run_of_two_epochs_with_balanced_classes(make_shapes, tmp_path) -> None:
    table = make_shapes(12, size=8)
    split = table.frame.assign(split=["train"] * 7 + ["validation"] * 3 + ["test"] * 2)
    split.to_csv(tmp_path / "cases.csv", index=False)
    for case in split["image"]:
        (tmp_path / case).symlink_to(table.root / case)
    recipe: Recipe = recipe_from_dict(
        plain(
            table=str(tmp_path / "cases.csv"),
            store=str(tmp_path / "store"),
            task={"class_weights": "balanced"},
            optimization={"epochs": 2, "eval_every_epochs": 1, "batch_size": 3, "threads": 1},
        ),
        "recipe",
    )
    three = dataclasses.replace(recipe, train_size=3, optimization=recipe.optimization)
    fixed = dataclasses.replace(recipe, optimization=recipe.optimization.replace(epochs=None))
    planned = planned_optimizations([recipe, three, fixed])
    assert [(item.steps, item.eval_every) for item in planned] == [(5, 3), (2, 1), (300, 3)]
    begin_run(tmp_path / "run", recipe)
    fitted = execute_run(tmp_path / "run")["fit"]
    assert fitted["steps_planned"] == fitted["steps_done"] == 5  # 14 of 15 draws
    assert [row["step"] for row in fitted["history"]] == [3, 5]
    assert load_trained(tmp_path / "run").task.class_weights == "balanced"
