"""A small comparison of segmentations, end to end, recomputed from what its runs wrote.

Two data sets, each with other structures drawn, are joined and train one network; it and a random
one then learn two structures that neither data set has, from 2, 4 and 8 bodies.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.isotonic import IsotonicRegression

from voxgraft.comparison.conduct import run_comparison
from voxgraft.comparison.plan_file import plan_from_dict
from voxgraft.datasets import join_tables, read_masks, read_table, write_table
from voxgraft.errors import RecipeError
from voxgraft.files import read_json
from voxgraft.reports import write_report
from voxgraft.runs import SCORES_FILE
from voxgraft.runs.slices import SLICES_FILE, read_slices
from voxgraft.synthesis.anatomy import write_anatomies

CLASSES = ["lung_left", "spleen"]
FIRST, SECOND = ["lung_right"], ["liver"]
TARGET = {"kind": "segmentation", "columns": ["masks"], "classes": CLASSES}
SIZES, SEEDS = [2, 4, 8], [0]
GRID: dict[str, Any] = {"size_voxels": (14, 24, 24), "spacing_mm": 13.0}
LIMITED = 2
"""Test cases that annotate the first structure alone."""


def described(table: Path, joined: Path | None = None, **more: Any) -> dict[str, Any]:
    data: dict[str, Any] = {
        "table": str(table),
        "target": TARGET,
        "models": ["segresnet_8"],
        "starts": ["scratch"],
        "preprocessing": {"intensity": {"kind": "window", "low": -160.0, "high": 240.0}},
        "crop_size_voxels": [8, 16, 16],
        "segmentation": {"overlap": 0.25, "surface_tolerance_mm": 13.0},
        "sizes": SIZES,
        "seeds": SEEDS,
        "optimization": {"steps": 100, "batch_size": 4, "eval_every": 100},
        "learning_rate": {"grid": [3e-3]},
        "replicates": 100,
        "threads": 1,
    }
    if joined is not None:
        data["starts"] = ["scratch", {"name": "grown", "pretraining": "joined"}]
        data["pretraining"] = {
            "joined": {
                "table": str(joined),
                "target": TARGET | {"classes": FIRST + SECOND},
                "optimization": {
                    "steps": 300,
                    "batch_size": 4,
                    "eval_every": 150,
                    "learning_rate": 6e-3,
                },
            }
        }
    return data | more


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("segmentation")
    parts = []
    for name, drawn, begin in (("first", FIRST, 100), ("second", SECOND, 200)):
        seeds = range(begin, begin + 13)
        part = write_anatomies(root / name, seeds, annotated=drawn, name=name, **GRID)
        parts.append(part.with_column("split", ["train"] * 12 + ["validation"]))
    joined = join_tables(parts, root / "joined.csv")
    table = write_anatomies(root / "own", range(16), annotated=CLASSES, **GRID)
    table = table.with_column("split", ["train"] * 8 + ["validation"] * 2 + ["test"] * 6)
    drawn = CLASSES * 5 + [""] * (6 - LIMITED) + [CLASSES[0]] * LIMITED
    table = write_table(table.with_column("annotated", drawn), root / "own" / "split.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VOXGRAFT_CACHE", str(root / "cache"))
        run_comparison(
            plan_from_dict(described(table.path, joined.path), "the plan"), root / "out", jobs=2
        )
    return root / "out"


def rows_of(folder: Path, start: str, size: int, seed: int) -> pd.DataFrame:
    run = folder / "runs" / f"segresnet_8__{start}__n{size}__s{seed}"
    frame = pd.read_csv(run / SCORES_FILE)
    return frame[frame["split"] == "test"]


def value(folder: Path, start: str, size: int, name: str) -> float:
    """The mean over seeds of the mean over structures of the mean over cases."""
    frames = [rows_of(folder, start, size, seed) for seed in SEEDS]
    return float(np.mean([frame.groupby("class")[name].mean().mean() for frame in frames]))


@pytest.mark.parametrize("name", ["dice", "surface_dice"])
def test_curves_and_differences_are_those_of_the_runs_rows(folder: Path, name: str) -> None:
    found = read_json(folder / "comparison.json")
    assert [row["status"] for row in found["runs"]] == ["finished"] * 2 * len(SIZES) * len(SEEDS)
    assert found["task"]["metric"] == "dice"
    assert found["baselines"] == found["examples"] == []
    part = found if name == "dice" else found["secondary"][0]
    points = {(c["start"], p["train_size"]): p for c in part["curves"] for p in c["points"]}
    assert set(points) == {(start, size) for start in ("scratch", "grown") for size in SIZES}
    for (start, size), point in points.items():
        assert point["estimate"] == pytest.approx(value(folder, start, size, name), abs=1e-9)
        assert point["low"] <= point["estimate"] <= point["high"]
    assert [row["train_size"] for row in part["differences"]] == SIZES
    for row in part["differences"]:
        size = row["train_size"]
        gap = value(folder, "grown", size, name) - value(folder, "scratch", size, name)
        assert row["estimate"] == pytest.approx(gap, abs=1e-9)


def test_partial_labels_make_a_start_that_finds_unseen_structures_sooner(folder: Path) -> None:
    """One training each of a tiny network; benchmarks/segmentation_transfer.py has more.

    When this was written, at N = 2, 4, 8, Dice was .40, .44, .44 from scratch and .57, .47, .54
    grown, surface Dice .47, .48, .50 and .68, .56, .64; Dice of the start's own structures .90.
    """
    stage = next((folder / "pretraining" / "joined").glob("*/result.json"))
    assert read_json(stage)["fit"]["best_value"] > 0.7
    for name in ("dice", "surface_dice"):
        scratch, grown = (
            [value(folder, start, size, name) for size in SIZES] for start in ("scratch", "grown")
        )
        assert min(scratch + grown) > 0.15
        assert np.mean(grown) > np.mean(scratch) > 0.25
    assert "shown" in read_json(folder / "comparison.json")["answer"]


def test_savings_are_read_off_the_curves(folder: Path) -> None:
    """Monotone curve, linear in the logarithm of the patients, where it meets the goal."""
    found = read_json(folder / "comparison.json")
    assert [row["start"] for row in found["label_savings"]] == ["grown"]
    row = found["label_savings"][0]
    goal = value(folder, "scratch", SIZES[-1], "dice")
    curve = [value(folder, "grown", size, "dice") for size in SIZES]
    rising = IsotonicRegression().fit_transform(np.log(SIZES), curve)
    assert row["reference_size"] == SIZES[-1]
    assert row["reference_value"] == pytest.approx(goal, abs=1e-9)
    assert row["reached"] == bool(rising[-1] >= goal)
    if row["reached"]:
        over = next(k for k in range(len(SIZES)) if rising[k] >= goal)
        needed = float(SIZES[0])
        if over > 0:
            share = (goal - rising[over - 1]) / (rising[over] - rising[over - 1])
            needed = SIZES[over - 1] * (SIZES[over] / SIZES[over - 1]) ** share
        assert row["needed"] == pytest.approx(needed)
        assert row["saved_fraction"] == pytest.approx(1 - needed / SIZES[-1])


def test_each_structure_rests_on_the_cases_that_annotate_it(folder: Path) -> None:
    found = read_json(folder / "comparison.json")
    assert found["structures"]["train_size"] == SIZES[-1]
    rows = found["structures"]["rows"]
    assert [(row["structure"], row["start"]) for row in rows] == [
        (structure, start) for structure in CLASSES for start in ("scratch", "grown")
    ]
    for row in rows:
        assert row["n_cases"] == 6 - (LIMITED if row["structure"] == CLASSES[1] else 0)
        runs = [rows_of(folder, row["start"], SIZES[-1], seed) for seed in SEEDS]
        for name in ("dice", "surface_dice"):
            own = [frame[frame["class"] == row["structure"]][name].mean() for frame in runs]
            assert row[name]["estimate"] == pytest.approx(float(np.mean(own)), abs=1e-9)
        assert (row["difference"] is None) == (row["start"] == "scratch")


def test_the_stage_gives_the_start_its_decoder_and_no_head(folder: Path) -> None:
    grafts = read_json(folder / "grafts.json")
    assert grafts["segresnet_8__scratch"] is None
    report = grafts["segresnet_8__grown"]
    loaded = {row["name"] for row in (*report["loaded"], *report["adapted"])}
    assert any(name.startswith("encoder.") for name in loaded)
    assert any(name.startswith("decoder.") for name in loaded)
    assert not any(name.startswith("head.") for name in loaded)
    assert not report["unexplained"]


def test_drawn_cases_are_the_best_the_middle_and_the_worst(folder: Path) -> None:
    found = read_json(folder / "comparison.json")["contours"]
    frames = [rows_of(folder, s, SIZES[-1], k) for s in ("scratch", "grown") for k in SEEDS]
    means = sum(frame.groupby("case_id")["dice"].mean() for frame in frames) / len(frames)
    order = list(means.sort_values(ascending=False).index)
    assert found["n_cases"] == len(order) == 6
    assert [row["case_id"] for row in found["cases"]] == [order[0], order[2], order[-1]]
    table = read_table(folder / "cases.csv")
    for row in found["cases"]:
        assert row["dice"] == pytest.approx(means[row["case_id"]])
        masks = read_masks(table, row["case_id"])
        with np.load(folder / row["file"]) as arrays:
            drawn, image = arrays["masks"], arrays["image"]
        assert drawn.shape == (3, len(row["structures"]), *image.shape)
        for place, name in enumerate(row["structures"]):  # anterior up, the right at the left
            own = masks.mask(name)[row["slice"] - 1, ::-1, ::-1]
            np.testing.assert_array_equal(drawn[0, place], own)
        for number, run in enumerate(found["runs"], 1):
            kept = read_slices(folder / "runs" / run["run"] / SLICES_FILE)[row["case_id"]]
            assert (kept.axis, kept.index) == (0, row["slice"] - 1)
            for place, name in enumerate(row["structures"]):
                own = kept.masks.get(name, np.zeros(image.shape, bool))[::-1, ::-1]
                np.testing.assert_array_equal(drawn[number, place], own)


def test_the_report_needs_the_folder_alone(folder: Path) -> None:
    page = write_report(folder).read_text(encoding="utf-8")
    found = read_json(folder / "comparison.json")
    for words in (
        "spleen: annotated in",
        "surface Dice per case",
        "Every structure on the test",
        "Label savings",
        "Test cases with contours",
        found["contours"]["cases"][0]["case_id"],
    ):
        assert words in page
    for size in SIZES:
        assert f"{value(folder, 'grown', size, 'dice'):.3f}" in page
        assert f"{value(folder, 'grown', size, 'surface_dice'):.3f}" in page
    saved = pd.read_csv(folder / "tables" / "label-savings.csv")
    assert saved["start"].tolist() == ["grown"]
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
