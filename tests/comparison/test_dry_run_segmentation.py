"""What a comparison of segmentations would cost, with a stage before it; and what it refuses."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from voxgraft.comparison import estimate_comparison
from voxgraft.comparison.plan_file import plan_from_dict
from voxgraft.comparison.study import open_study
from voxgraft.errors import TableError
from voxgraft.synthesis.anatomy import write_anatomies

CLASSES = ["liver", "lung_left"]
TARGET = {"kind": "segmentation", "columns": ["masks"], "classes": CLASSES}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("dry")
    return tuple(
        write_anatomies(
            root / name, seeds, annotated=CLASSES, name=name, size_voxels=(8, 8, 8), spacing_mm=28.0
        ).path
        for name, seeds in (("own", range(8)), ("other", range(50, 55)))
    )  # type: ignore[return-value]


def plan(own: Path, other: Path, **more: Any) -> Any:
    data = {
        "table": str(own),
        "target": TARGET,
        "split": {"fractions": [0.6, 0.2, 0.2]},
        "models": ["segresnet_8"],
        "starts": ["scratch", {"name": "grown", "pretraining": "other"}],
        "pretraining": {
            "other": {
                "table": str(other),
                "target": TARGET,
                "split": {"fractions": [0.8, 0.2, 0.0]},
                "optimization": {"steps": 100, "batch_size": 1, "eval_every": 50},
                "sizes": [2],
            }
        },
        "crop_size_voxels": [8, 8, 8],
        "segmentation": {"overlap": 0.0},
        "sizes": [2, "all"],
        "seeds": 3,
        "optimization": {"steps": 40, "batch_size": 1, "eval_every": 20},
        "learning_rate": {"grid": [1e-3, 1e-2], "steps": 10},
        "threads": 1,
    }
    return plan_from_dict(data | more, "the plan")


def test_the_cost_of_every_arm_and_stage_is_told(
    tables: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXGRAFT_CACHE", str(tmp_path / "cache"))
    found = estimate_comparison(plan(*tables))
    assert [(row["start"], row["patients"], row["steps"]) for row in found["rows"]] == [
        ("grown-2, on other", 2, 100),
        ("scratch", 2, 40),
        ("grown-2", 2, 40),
        ("scratch", 5, 40),
        ("grown-2", 5, 40),
    ]
    assert found["runs"] == 2 * 2 * 3
    assert found["text"].startswith("12 runs, 2 runs before them and 10 trials of learning rates")
    assert all(row["step (s)"] > 0 for row in found["rows"])


def test_a_structure_that_no_training_patient_annotates_is_named_before_anything_trains(
    tables: tuple[Path, Path], tmp_path: Path
) -> None:
    own, other = tables
    frame = pd.read_csv(own)
    for name in ("image", "masks"):
        frame[name] = [str(own.parent / cell) for cell in frame[name]]
    frame["structures"] = str(own.parent / "structures.json")
    frame["split"] = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    frame["annotated"] = ["liver"] * 4 + [" ".join(CLASSES)] * 4
    frame.to_csv(tmp_path / "cases.csv", index=False)
    with pytest.raises(TableError, match="'lung_left' is annotated by none of 4 training cases"):
        open_study(plan(tmp_path / "cases.csv", other), tmp_path / "none", 1)
    frame.loc[3, "annotated"] = "lung_left"
    frame.to_csv(tmp_path / "cases.csv", index=False)
    with pytest.raises(TableError, match="size of 1 patients cannot hold all 2 classes"):
        open_study(plan(tmp_path / "cases.csv", other, sizes=[1, 2]), tmp_path / "few", 1)
