"""What a comparison says before its numbers: seen test data, and input unlike the training's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from voxgraft.comparison.audit import declared_data_sets, input_audit, overlap_audit
from voxgraft.comparison.grafts import audit_grafts
from voxgraft.comparison.matrix import Study
from voxgraft.comparison.plan_file import plan_from_dict
from voxgraft.comparison.study import open_study
from voxgraft.comparison.summary import data_summary
from voxgraft.datasets import Table, read_table, write_table
from voxgraft.runs import build_network


@pytest.fixture(scope="module")
def table(make_shapes: Callable[..., Table]) -> Table:
    return make_shapes(24, size=8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_file(timm.create_model("mobilenetv3_small_050").state_dict(), path)
    return path


def _study(table: Table, weights: Path, folder: Path, **changes: Any) -> Study:
    plan: dict[str, Any] = {
        "table": str(table.path),
        "target": "shape",
        "models": ["mobilenetv3_small_050_3d"],
        "starts": [
            "scratch",
            {"name": "timm", "source": f"mobilenetv3_small_050.lamb_in1k@{weights}"},
        ],
        "seeds": 1,
        "preprocessing": {"intensity": {"kind": "min_max"}},
    }
    return open_study(plan_from_dict({**plan, **changes}, "the plan"), folder, 1)


def test_the_plan_names_the_data_set(table: Table, weights: Path, tmp_path: Path) -> None:
    study = _study(table, weights, tmp_path, dataset="ImageNet")
    cases = read_table(study.table)
    assert declared_data_sets(study, cases) == ("ImageNet",)
    (row,) = overlap_audit(study, cases)
    assert row["flag"]
    assert row["start"] == "timm"
    assert "was trained on ImageNet-1k, the test data itself" in row["text"]


def test_a_column_of_the_table_names_it_case_by_case(
    table: Table, weights: Path, tmp_path: Path
) -> None:
    frame = table.frame.copy()
    frame["split"] = ["train"] * 12 + ["validation"] * 4 + ["test"] * 8
    frame["image"] = [str(table.image_path(case_id)) for case_id in frame["case_id"]]
    frame["dataset"] = ["ImageNet-1k"] * 16 + ["LIDC-IDRI", "KiTS"] * 4
    write_table(dataclasses.replace(table, frame=frame), tmp_path / "named.csv")
    named = read_table(tmp_path / "named.csv")
    study = _study(named, weights, tmp_path / "out")
    cases = read_table(study.table)
    assert declared_data_sets(study, cases) == ("KiTS", "LIDC-IDRI")
    (row,) = overlap_audit(study, cases)
    assert not row["flag"]
    assert "no overlap with KiTS, LIDC-IDRI is known" in row["text"]


def test_silence_about_the_data_set_is_flagged_and_input_is_compared(
    table: Table, weights: Path, tmp_path: Path
) -> None:
    study = _study(table, weights, tmp_path)
    grafts = audit_grafts(study, tmp_path, 1)
    data = data_summary(study, read_table(study.table), tmp_path, grafts)
    assert data["overlap_flags"] == ["timm"]
    assert "nobody said which data set they are of" in data["overlap"][0]
    assert data["notices"] == input_audit(grafts)
    assert any(
        line.startswith("timm on mobilenetv3_small_050_3d: input, channels: trained on 3")
        for line in data["notices"]
    )
    recipe = study.run(list(study.arms())[1], 0, 1e-3)
    network, grafted = build_network(recipe, 1, check_parity=False)
    assert grafted is not None
    assert any(note.startswith("input, size: ") for note in grafted.report.notes)
    assert network.input_mean.tolist() == pytest.approx([0.449], abs=1e-3)
