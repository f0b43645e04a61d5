"""A small comparison of segmentations, end to end, recomputed from what its runs wrote."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from voxgraft.comparison.conduct import run_comparison
from voxgraft.comparison.plan_file import plan_from_dict
from voxgraft.datasets import read_table
from voxgraft.errors import RecipeError
from voxgraft.files import read_json
from voxgraft.reports import write_report
from voxgraft.runs import SCORES_FILE
from voxgraft.synthesis.anatomy import write_anatomies

CLASSES = ["liver", "lung_left"]
TARGET = {"kind": "segmentation", "columns": ["masks"], "classes": CLASSES}


def described(table: Path, other: Path | None = None, **more: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "table": str(table),
        "target": TARGET,
        "split": {"fractions": [0.45, 0.1, 0.45]},
        "models": ["plain_resnet10_3d"],
        "starts": ["scratch"],
        "crop_size_voxels": [16, 16, 16],
        "segmentation": {"decoder": "unet", "decoder_width": 4, "overlap": 0.0},
        "sizes": [2, 4],
        "seeds": 2,
        "optimization": {"steps": 1, "batch_size": 2, "eval_every": 1},
        "learning_rate": {"grid": [1e-3]},
        "replicates": 100,
        "threads": 1,
    }
    if other is not None:
        data["starts"] = ["scratch", {"name": "grown", "pretraining": "other"}]
        data["pretraining"] = {
            "other": {
                "table": str(other),
                "target": TARGET | {"classes": ["liver", "stomach"]},
                "split": {"fractions": [0.67, 0.33, 0.0]},
            }
        }
    return data | more


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("segmentation")
    size, spacing_mm = (12, 16, 16), 14.0
    table = write_anatomies(
        root / "data", range(9), annotated=CLASSES, size_voxels=size, spacing_mm=spacing_mm
    )
    frame = pd.read_csv(root / "data" / "cases.csv")
    frame["annotated"] = ["liver" if row % 3 == 0 else "" for row in range(len(frame))]
    frame.to_csv(root / "data" / "cases.csv", index=False)
    other = write_anatomies(
        root / "other",
        range(50, 53),
        annotated=["liver", "stomach"],
        name="other",
        size_voxels=size,
        spacing_mm=spacing_mm,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXGRAFT_CACHE", str(root / "cache"))
        plan = plan_from_dict(described(table.path, other.path), "the plan")
        run_comparison(plan, root / "out")
    return root / "out"


def mean_over_structures(frame: pd.DataFrame, name: str) -> float:
    return float(frame.groupby("class")[name].mean().mean())


def rows_of(folder: Path, start: str, size: int, seed: int) -> pd.DataFrame:
    run = folder / "runs" / f"plain_resnet10_3d__{start}__n{size}__s{seed}"
    frame = pd.read_csv(run / SCORES_FILE)
    return frame[frame["split"] == "test"]


def test_curves_and_differences_are_those_of_the_runs_rows(folder: Path) -> None:
    found = read_json(folder / "comparison.json")
    assert [row["status"] for row in found["runs"]] == ["finished"] * 8
    assert found["task"]["metric"] == "dice"
    assert found["baselines"] == found["examples"] == []
    for curves, name in (
        (found["curves"], "dice"),
        (found["secondary"][0]["curves"], "surface_dice"),
    ):
        values: dict[tuple[str, int], float] = {}
        for curve in curves:
            for point in curve["points"]:
                expected = [
                    mean_over_structures(
                        rows_of(folder, curve["start"], point["train_size"], seed), name
                    )
                    for seed in (0, 1)
                ]
                assert point["values"] == pytest.approx(expected, abs=1e-9)
                values[curve["start"], point["train_size"]] = float(np.mean(expected))
        differences = found["differences"]
        if name == "surface_dice":
            differences = found["secondary"][0]["differences"]
        for row in differences:
            size = row["train_size"]
            expected_difference = values["grown", size] - values["scratch", size]
            assert row["estimate"] == pytest.approx(expected_difference, abs=1e-9)
        assert [row["train_size"] for row in differences] == [2, 4]


def test_each_structure_rests_on_the_cases_that_annotate_it(folder: Path) -> None:
    found = read_json(folder / "comparison.json")
    test = read_table(folder / "cases.csv").split("test").frame
    limited = int((test["annotated"] == "liver").sum())
    assert found["structures"]["train_size"] == 4
    rows = found["structures"]["rows"]
    assert [(row["structure"], row["start"]) for row in rows] == [
        (structure, start) for structure in CLASSES for start in ("scratch", "grown")
    ]
    for row in rows:
        missing = limited if row["structure"] == "lung_left" else 0
        assert row["n_cases"] == len(test) - missing
        runs = [rows_of(folder, row["start"], 4, seed) for seed in (0, 1)]
        for name in ("dice", "surface_dice"):
            own = [frame[frame["class"] == row["structure"]][name].mean() for frame in runs]
            assert row[name]["estimate"] == pytest.approx(float(np.mean(own)), abs=1e-9)
    for row in rows:
        if row["start"] == "grown":  # of one patient nothing can be tested
            assert (row["difference"]["p_holm"] is None) == (row["n_patients"] < 2)
    assert all(row["difference"] is None for row in rows if row["start"] == "scratch")


def test_the_stage_gives_the_start_its_decoder(folder: Path) -> None:
    grafts = read_json(folder / "grafts.json")
    assert grafts["plain_resnet10_3d__scratch"] is None
    report = grafts["plain_resnet10_3d__grown"]
    assert grafts["plain_resnet10_3d__grown__before_other"] is None
    assert "decoder." in str(report)


def test_the_report_needs_the_folder_alone(folder: Path) -> None:
    page = write_report(folder).read_text(encoding="utf-8")
    for words in ("liver: annotated in", "surface Dice per case", "Every structure on the test"):
        assert words in page
    assert (folder / "tables" / "structures.csv").is_file()
    assert "Left out of this page" not in page


def test_all_that_a_segmentation_cannot_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        plan_from_dict(
            described(
                tmp_path / "cases.csv",
                crop_size_voxels=None,
                level="patient",
                baselines=["age"],
                metric="auroc",
                starts=["scratch", {"name": "probe", "source": "x", "adapt": "probe"}],
            ),
            "the plan",
        )
    for name in ("crop_size_voxels", "level", "baselines", "metric", "'probe' is a probe"):
        assert name in str(caught.value)
    with pytest.raises(RecipeError, match="no target of this plan is one"):
        plan_from_dict(described(tmp_path / "cases.csv", target="age"), "the plan")
    plan = plan_from_dict(described(tmp_path / "cases.csv"), "the plan")
    assert plan_from_dict(plan.to_dict(), "again") == plan
