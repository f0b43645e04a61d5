"""A small scaling study of a classification, recomputed from what its runs wrote."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from voxgraft.comparison.conduct import run_comparison
from voxgraft.comparison.plan_file import plan_from_dict
from voxgraft.datasets import Table
from voxgraft.files import read_json
from voxgraft.reports import write_report
from voxgraft.reports.reading import parse_comparison

STARTS = ("scratch", "grown-4", "grown-all")
SIZES = (8,)


@pytest.fixture(scope="module")
def folder(make_shapes: Callable[..., Table], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scaling")
    table, other = make_shapes(40, size=8), make_shapes(20, size=8, seed=5, per_patient=2)
    frame = other.frame.copy()
    frame["image"] = [str(other.image_path(case)) for case in frame["case_id"]]
    frame["patient_id"] = "other-" + frame["patient_id"]
    frame["shape"] = ["ball", "box", "box", "ball"] * 5
    frame.to_csv(root / "other.csv", index=False)
    plan = plan_from_dict(
        {
            "table": str(table.path),
            "target": "shape",
            "preprocessing": {"intensity": {"kind": "min_max"}},
            "models": ["plain_resnet10_3d"],
            "starts": ["scratch", {"name": "grown", "pretraining": "other"}],
            "pretraining": {
                "other": {
                    "table": str(root / "other.csv"),
                    "target": "shape",
                    "sizes": [4, "all"],
                    "grid": [1e-4, 1e-3],
                    "optimization": {"steps": 1, "batch_size": 4, "eval_every": 1},
                }
            },
            "sizes": list(SIZES),
            "seeds": 2,
            "optimization": {"steps": 3, "batch_size": 4, "eval_every": 1},
            "learning_rate": {"grid": [1e-3]},
            "replicates": 100,
            "threads": 1,
        },
        "the plan",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXGRAFT_CACHE", str(root / "cache"))
        run_comparison(plan, root / "out")
        write_report(root / "out")
    return root / "out"


@pytest.fixture(scope="module")
def found(folder: Path) -> dict[str, Any]:
    return read_json(folder / "comparison.json")


def result(folder: Path, start: str, size: int, seed: int) -> dict[str, Any]:
    return read_json(folder / f"runs/plain_resnet10_3d__{start}__n{size}__s{seed}/result.json")


def test_points_are_those_of_the_learning_curves_at_the_cases_pretrained_on(folder, found):
    curves = {row["start"]: row["points"] for row in found["curves"]}
    families = found["scaling"]["families"]
    assert [(row["family"], row["train_size"]) for row in families] == [
        ("grown", size) for size in SIZES
    ]
    split = pd.read_csv(folder / "pretraining/other/cases.csv")
    patients = split[split["split"] == "train"]["patient_id"].nunique()
    for place, row in enumerate(families):
        seen = [(point["start"], point["patients"], point["cases"]) for point in row["points"]]
        assert seen == [("grown-4", 4, 8), ("grown-all", patients, 2 * patients)]
        for point in [*row["points"], row["reference"]]:
            expected = curves[point["start"]][place]
            for name in ("estimate", "low", "high", "n_seeds"):
                assert point[name] == expected[name]
        first, last = (curves[name][place]["estimate"] for name in STARTS[1:])
        assert row["gain"]["estimate"] == pytest.approx(last - first)
        assert row["gain"]["p_holm"] >= row["gain"]["p_value"]


def test_courses_and_goals_are_those_of_the_histories(folder, found):
    convergence = found["convergence"]
    assert convergence["metric"] == found["task"]["metric"] == "auroc"
    assert len(convergence["courses"]) == len(STARTS) * len(SIZES)
    for course in convergence["courses"]:
        runs = [
            result(folder, course["start"], course["train_size"], seed)["fit"]["history"]
            for seed in (0, 1)
        ]
        for place, point in enumerate(course["points"]):
            values = [run[place]["validation"]["auroc"] for run in runs]
            assert point["step"] == place + 1
            assert point["mean"] == pytest.approx(sum(values) / 2)
            assert (point["low"], point["high"]) == (min(values), max(values))
    for row in convergence["reached"]:
        kept = [
            result(folder, "scratch", row["train_size"], seed)["fit"]["best_value"]
            for seed in (0, 1)
        ]
        assert row["goal"] == pytest.approx(sum(kept) / 2)
        assert row["runs"] == 2
        assert row["against"] == "scratch"
        if row["start"] == "scratch":
            assert row["steps"] == row["reference_steps"] in (1, 2, 3)


def test_hours_are_the_runs_seconds_with_the_pretraining_apart(folder, found):
    hours = found["device_hours"]
    assert (hours["kind"], hours["threads"]) == ("CPU", 1)
    for row in hours["runs"]:
        seconds = sum(
            result(folder, row["start"], row["train_size"], seed)["fit"]["seconds"]
            for seed in (0, 1)
        )
        assert row["training_hours"] == pytest.approx(seconds / 3600)
        assert row["hours"] == row["training_hours"] + row["search_hours"]
    assert [row["start"] for row in hours["pretraining"]] == list(STARTS[1:])
    for row in hours["pretraining"]:
        tried = list((folder / "pretraining/other").glob(f"*__{row['start']}__lr*/result.json"))
        assert row["runs"] == len(tried) == 2
        seconds = sum(read_json(path)["fit"]["seconds"] for path in tried)
        assert row["hours"] == pytest.approx(seconds / 3600)
    total = sum(row["device_hours"] for row in found["cost"])
    assert total == pytest.approx(sum(row["hours"] for row in hours["runs"]))


def test_the_page_shows_all_three(folder, found):
    page = (folder / "report.html").read_text(encoding="utf-8")
    for words in (
        'id="scaling"',
        'id="convergence"',
        "CPU-hours",
        "Every point of the curves",
        "8 cases",
    ):
        assert words in page
    for name in ("scaling", "convergence", "courses", "device-hours"):
        assert (folder / "tables" / f"{name}.csv").is_file()
    scaling = pd.read_csv(folder / "tables" / "scaling.csv")
    assert list(scaling["pretraining_patients"])[:2] == [0, 4]
    names = {path.stem for path in (folder / "figures").glob("*.svg")}
    assert "scaling-grown-plain-resnet10-3d" in names
    assert {f"convergence-steps-plain-resnet10-3d-n{size}" for size in SIZES} <= names
    assert parse_comparison(json.loads(json.dumps(found)), "x").scaling.families
