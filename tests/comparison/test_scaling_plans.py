"""A stage with several sizes: a start each, nested, and one family."""

from pathlib import Path
from typing import Any

import pytest

from voxgraft.comparison.plan import Plan
from voxgraft.comparison.plan_chains import families
from voxgraft.comparison.plan_change import refuse_changed_plan
from voxgraft.comparison.plan_file import plan_from_dict
from voxgraft.comparison.stages import stage_runs
from voxgraft.comparison.study import open_study
from voxgraft.datasets import nested_subsets, read_table
from voxgraft.errors import RecipeError, TableError


def plan_of(table: str = "cases.csv", **more: Any) -> Plan:
    data = {
        "table": table,
        "target": "shape",
        "models": ["plain_resnet10_3d"],
        "starts": ["scratch", {"name": "grown", "pretraining": "other", "description": "ours"}],
        "pretraining": {"other": {"table": "other.csv", "target": "shape", "sizes": [4, "all"]}},
        "learning_rate": {"grid": [1e-3]},
    }
    return plan_from_dict(data | more, "the plan")


def test_each_size_is_a_start_and_they_are_one_family():
    plan = plan_of()
    assert [start.name for start in plan.starts] == ["scratch", "grown-4", "grown-all"]
    assert plan.chained_sizes == {"grown-4": 4, "grown-all": "all"}
    assert plan_from_dict(plan.to_dict(), "again") == plan
    assert {name: [s.name for s in own] for name, own in families(plan).items()} == {
        "grown": ["grown-4", "grown-all"]
    }
    assert plan.origin(plan.starts[1]) == (
        "scratch, then trained on other (4 of its training patients)"
    )
    assert plan.origin(plan.starts[2]) == "scratch, then trained on other"


def test_sizes_may_be_given_start_by_start_and_added_later():
    other = {"table": "other.csv", "target": "shape"}
    starts = [
        "scratch",
        {"name": "few", "pretraining": {"stage": "other", "size": 4}},
        {"name": "all", "pretraining": "other"},
    ]
    plan = plan_of(starts=starts, pretraining={"other": other})
    assert {name: [s.name for s in own] for name, own in families(plan).items()} == {
        "few": ["few", "all"]
    }
    more = plan_of(pretraining={"other": other | {"sizes": [4, 8, "all"]}})
    refuse_changed_plan(plan_of(), more, Path("folder"))
    changed = plan_of(pretraining={"other": other | {"sizes": [4], "seed": 3}})
    with pytest.raises(RecipeError, match="pretraining: was"):
        refuse_changed_plan(plan_of(), changed, Path("folder"))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [([0, 4], "0 is no number of patients"), ([4, 4], "name each once")],
)
def test_impossible_sizes_are_refused(sizes, words):
    with pytest.raises(RecipeError, match=words):
        plan_of(pretraining={"other": {"table": "o.csv", "target": "shape", "sizes": sizes}})
    with pytest.raises(RecipeError, match=r"starts\.1\.pretraining\.seize: unknown key"):
        plan_of(starts=["scratch", {"name": "a", "pretraining": {"stage": "other", "seize": 3}}])


def renamed(table, path: Path) -> Path:
    frame = table.frame.copy()
    frame["image"] = [str(table.image_path(case)) for case in frame["case_id"]]
    frame["patient_id"] = [f"other{number}" for number in range(len(frame))]
    frame.to_csv(path, index=False)
    return path


def test_the_runs_of_a_stage_train_on_nested_subsets(make_shapes, tmp_path, monkeypatch):
    monkeypatch.setenv("VOXGRAFT_CACHE", str(tmp_path / "cache"))
    table = make_shapes(24)
    other = renamed(make_shapes(20, seed=5), tmp_path / "other.csv")
    stage = {"table": str(other), "target": "shape", "seed": 3}
    plan = plan_of(str(table.path), pretraining={"other": stage | {"sizes": [4, 0.5, "all"]}})
    study = open_study(plan, tmp_path / "out", 1)
    runs = stage_runs(study, tmp_path / "out", 1, 1)
    recipes = {key: recipe for key, [(_, recipe)] in runs.items()}
    assert list(recipes) == [f"plain_resnet10_3d__grown-{size}" for size in (4, 0.5, "all")]
    counts = [recipe.train_size for recipe in recipes.values()]
    cases = read_table(Path(next(iter(recipes.values())).table))
    everyone = len(cases.split("train").patients)
    assert counts == [4, round(everyone / 2), everyone]
    assert {recipe.subset_seed for recipe in recipes.values()} == {3}
    drawn = nested_subsets(cases, counts, seed=3, target=study.target)
    assert set(drawn[counts[0]]) < set(drawn[counts[1]]) < set(drawn[counts[2]])

    both = plan_of(str(table.path), pretraining={"other": stage | {"sizes": [everyone, "all"]}})
    with pytest.raises(RecipeError, match=f"both {everyone} patients"):
        stage_runs(open_study(both, tmp_path / "both", 1), tmp_path / "both", 1, 1)
    beyond = plan_of(str(table.path), pretraining={"other": stage | {"sizes": [4, 99]}})
    with pytest.raises(TableError, match="training size is 99"):
        stage_runs(open_study(beyond, tmp_path / "beyond", 1), tmp_path / "beyond", 1, 1)


def test_the_rate_of_an_optimization_is_a_grid_of_one_unless_a_grid_is_given():
    other = {"table": "other.csv", "target": "shape", "optimization": {"learning_rate": 6e-3}}
    plan = plan_of(pretraining={"other": other})
    assert plan.stages["other"].grid == (6e-3,)
    assert plan.learning_rate.grid == (1e-3,)
    assert plan_of(pretraining={"other": other | {"grid": [1e-4]}}).stages["other"].grid == (1e-4,)
    plan = plan_of(learning_rate=None, optimization={"learning_rate": 2e-3})
    assert plan.learning_rate.grid == plan.stages["other"].grid == (2e-3,)
    assert plan_from_dict(plan.to_dict(), "again") == plan
    plan = plan_of(learning_rate=None, optimization={"steps": 7})
    assert plan.learning_rate.grid == plan.stages["other"].grid == (3e-4, 1e-3, 3e-3)
    assert plan_from_dict(plan.to_dict(), "again") == plan
