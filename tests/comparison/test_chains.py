"""Plans whose starts have a source on each network, and go through other trainings first."""

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from voxgraft.comparison.ke2023_plan import NETWORKS, SOURCES, ke2023
from voxgraft.comparison.plan import reference_of, resolve_reference
from voxgraft.comparison.plan_file import plan_from_dict
from voxgraft.comparison.stages import stage_runs
from voxgraft.comparison.study import open_study
from voxgraft.datasets import read_table
from voxgraft.errors import RecipeError
from voxgraft.models import MODELS
from voxgraft.weights import SOURCES as CATALOG


def plan_of(table: str, **more: Any):
    data = {
        "table": table,
        "target": "shape",
        "models": ["plain_resnet10_3d", "slow_r50"],
        "starts": [
            "scratch",
            {"name": "video", "source": {"slow_r50": "slow_r50.k400_8x8"}},
            {"name": "ct", "pretraining": "ct"},
            {
                "name": "video_ct",
                "source": {"slow_r50": "slow_r50.k400_8x8"},
                "pretraining": "ct",
            },
        ],
        "pretraining": {"ct": {"table": "other.csv", "target": "shape", "grid": [1e-3]}},
    }
    return plan_from_dict(data | more, "the plan")


def test_a_start_is_tried_where_it_has_a_source():
    plan = plan_of("cases.csv")
    pairs = [(model.name, start.name, start.source) for model, start in plan.pairs()]
    assert pairs == [
        ("plain_resnet10_3d", "scratch", None),
        ("plain_resnet10_3d", "ct", None),
        ("slow_r50", "scratch", None),
        ("slow_r50", "video", "slow_r50.k400_8x8"),
        ("slow_r50", "ct", None),
        ("slow_r50", "video_ct", "slow_r50.k400_8x8"),
    ]
    assert plan_from_dict(plan.to_dict(), "again") == plan
    assert resolve_reference(plan) == "scratch"
    slow, ct = plan.models[1], plan.starts[2]
    assert reference_of(plan, slow, ct) == (slow, "scratch")
    assert not plan.is_scratch(ct)
    assert plan.origin(ct) == "scratch, then trained on ct"
    assert plan.origin(plan.starts[3]) == "slow_r50.k400_8x8, then trained on ct"


def test_what_a_start_names_must_be_there():
    with pytest.raises(RecipeError) as caught:
        plan_of(
            "cases.csv",
            starts=[
                "scratch",
                {"name": "a", "source": {"x3d_s": "x3d_s.k400"}},
                {"name": "b", "pretraining": "mri"},
            ],
        )
    assert "x3d_s" in str(caught.value)
    assert "'b' goes through 'mri'" in str(caught.value)
    with pytest.raises(RecipeError, match=r"pretraining\.ct\.tabel: unknown key"):
        plan_of("cases.csv", pretraining={"ct": {"tabel": "x.csv", "target": "shape"}})


def small(table: Path, other: Path):
    return dataclasses.replace(
        plan_of(str(table)),
        stages=plan_of(
            str(table),
            pretraining={"ct": {"table": str(other), "target": "shape", "grid": [1e-4, 1e-3]}},
        ).stages,
    )


def renamed(table, path: Path, offset: int = 1000) -> Path:
    """Write a table with the same scans under other patients' names."""
    frame = table.frame.copy()
    frame["image"] = [str(table.image_path(case)) for case in frame["case_id"]]
    frame["patient_id"] = [f"other{number + offset}" for number in range(len(frame))]
    frame.to_csv(path, index=False)
    return path


def test_a_stage_may_not_hold_test_patients(make_shapes, tmp_path):
    table = make_shapes(24)
    plan = small(table.path, table.path)
    study = open_study(plan, tmp_path / "out", 1)
    with pytest.raises(RecipeError, match="holds what the comparison tests on") as caught:
        stage_runs(study, tmp_path / "out", 1, 1)
    assert "patient patient" in str(caught.value)
    same_scans = renamed(table, tmp_path / "same.csv")
    study = open_study(small(table.path, same_scans), tmp_path / "out2", 1)
    with pytest.raises(RecipeError, match="scan "):
        stage_runs(study, tmp_path / "out2", 1, 1)


def test_the_runs_of_a_stage(make_shapes, tmp_path, monkeypatch):
    monkeypatch.setenv("VOXGRAFT_CACHE", str(tmp_path / "cache"))
    table, other = make_shapes(24), make_shapes(20, seed=5)
    path = renamed(other, tmp_path / "other.csv")
    out = tmp_path / "out"
    study = open_study(small(table.path, path), out, 1)
    runs = stage_runs(study, out, 1, 1)
    assert list(runs) == ["plain_resnet10_3d__ct", "slow_r50__ct", "slow_r50__video_ct"]
    (first, recipe), (_, second) = runs["slow_r50__video_ct"]
    assert first == out / "pretraining" / "ct" / "slow_r50__video_ct__lr0.0001"
    assert recipe.start.source == "slow_r50.k400_8x8"
    assert second.optimization.learning_rate == 1e-3
    cases = read_table(Path(recipe.table))
    assert set(cases.frame["split"]) == {"train", "validation"}
    assert recipe.score_splits == ("validation",)
    assert recipe.save_weights


def test_rates_are_chosen_at_one_size(make_shapes, tmp_path):
    table = make_shapes(40)
    plan = plan_of(
        str(table.path),
        starts=["scratch"],
        pretraining={},
        sizes=[0.5, "all"],
        learning_rate={"grid": [1e-4, 1e-3], "size": 0.5},
    )
    study = open_study(plan, tmp_path / "out", 1)
    assert study.search_size == study.sizes[0]
    trials = [(arm.model.name, arm.train_size, rate) for arm, rate in study.trials()]
    size = study.sizes[0]
    assert trials == [
        (name, size, rate) for name in ("plain_resnet10_3d", "slow_r50") for rate in (1e-4, 1e-3)
    ]
    largest = list(study.arms())[-1]
    assert study.searched(largest).train_size == size
    assert not study.trial(*next(study.trials())).save_weights


def test_weights_are_kept_of_the_seeds_that_the_plan_says(make_shapes, tmp_path):
    table = make_shapes(40)
    kept = {}
    for keep in ("all", "first seed", "none"):
        plan = plan_of(
            str(table.path), starts=["scratch"], pretraining={}, seeds=2, keep_weights=keep
        )
        study = open_study(plan, tmp_path / keep, 1)
        arm = next(study.arms())
        kept[keep] = [study.run(arm, seed, 1e-3).save_weights for seed in (0, 1)]
    assert kept == {"all": [True, True], "first seed": [True, False], "none": [False, False]}


def test_the_chest_ct_study_is_a_valid_plan():
    data = ke2023("cases.csv", "pe", pretraining_table="other.csv", pretraining_target="nodule")
    plan = plan_from_dict(data, "ke2023")
    assert len(plan.pairs()) == 4 * len(NETWORKS) == 44
    assert {model.name for model in plan.models} == set(SOURCES)
    windows = {model.name: model.windows or plan.windows for model in plan.models}
    assert windows["penet_3d"].size_voxels[0] == 24
    assert windows["slicewise_resnet18"].size_voxels[0] == 1
    assert windows["lrcn_resnext101_32x8d"].labels == "study"
    assert windows["csn_r101"].min_positive_slices == 4
    for model, start in plan.pairs():
        MODELS.get(model.name)
        if start.source is not None:
            CATALOG.get(start.source)
    lidc = plan_from_dict(ke2023("cases.csv", "nodule", dataset="LIDC"), "ke2023")
    assert lidc.sizes == (0.1, "all")
    assert lidc.preprocessing.intensity.low == -1350.0
    assert [start.name for start in lidc.starts] == ["scratch", "video"]
    with pytest.raises(RecipeError, match="COVID"):
        ke2023("cases.csv", "pe", dataset="COVID")  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="x3d_s"):
        ke2023("cases.csv", "pe", sources={"x3d_s": "x3d_s.k400"})


def test_a_table_of_labels_by_slice_is_found_from_another_folder(make_shapes, tmp_path):
    table = make_shapes(24)
    frame = table.frame.copy()
    frame["slice_labels"] = "slices.csv"
    folder = table.path.parent
    (folder / "slices.csv").write_text("case_id,slice,box\n")
    frame["box"] = (frame["shape"] == "box").astype(int)
    path = folder / "with_slices.csv"
    frame.to_csv(path, index=False)
    plan = plan_of(str(path), target="box", starts=["scratch"], pretraining={})
    study = open_study(plan, tmp_path / "elsewhere", 1)
    named = pd.read_csv(study.table)["slice_labels"].unique()
    assert list(named) == [str((folder / "slices.csv").resolve())]
