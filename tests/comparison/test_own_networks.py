"""Starts that have a network of their own, beside those that share one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import voxgraft as vg
from voxgraft.comparison.plan import reference_of
from voxgraft.comparison.plan_file import plan_from_dict
from voxgraft.datasets import Table
from voxgraft.errors import RecipeError
from voxgraft.reports.reading import parse_comparison


def _plan(table: str, **more: Any) -> dict[str, Any]:
    return {
        "table": table,
        "target": "shape",
        "preprocessing": {"intensity": {"kind": "min_max"}},
        "models": ["plain_resnet10_3d"],
        "starts": [
            "scratch",
            {"name": "other-scratch", "model": "mobilenetv3_small_3d"},
            {"name": "other-probe", "model": "mobilenetv3_small_3d", "adapt": "probe"},
        ],
        "sizes": [8],
        "seeds": 2,
        "optimization": {"steps": 2, "batch_size": 4, "eval_every": 2},
        "learning_rate": {"grid": [1e-3]},
        "replicates": 100,
        "threads": 1,
    } | more


def test_each_start_is_tried_on_its_own_network_only() -> None:
    plan = plan_from_dict(_plan("cases.csv"), "plan")
    assert [(model.name, start.name) for model, start in plan.pairs()] == [
        ("plain_resnet10_3d", "scratch"),
        ("mobilenetv3_small_3d", "other-scratch"),
        ("mobilenetv3_small_3d", "other-probe"),
    ]
    again = plan_from_dict(plan.to_dict(), "plan")
    assert again == plan


def test_what_each_start_is_compared_with() -> None:
    starts = [
        "scratch",
        {"name": "other-scratch", "model": "mobilenetv3_small_3d"},
        {"name": "other", "source": "x.safetensors", "model": "mobilenetv3_small_3d"},
        {"name": "third", "source": "y.safetensors", "model": "resnet18_3d"},
    ]
    plan = plan_from_dict(_plan("cases.csv", starts=starts), "plan")
    against = {
        start.name: None if found is None else (found[0].name, found[1])
        for model, start in plan.pairs()
        for found in [reference_of(plan, model, start)]
    }
    assert against == {
        "scratch": None,
        "other-scratch": ("plain_resnet10_3d", "scratch"),
        "other": ("mobilenetv3_small_3d", "other-scratch"),
        "third": ("plain_resnet10_3d", "scratch"),
    }


def test_no_shared_network_is_needed_where_every_start_has_its_own() -> None:
    starts = [{"name": "a", "model": "resnet18_3d"}, {"name": "b", "model": "resnet34_3d"}]
    plan = plan_from_dict(_plan("cases.csv", starts=starts, models=[]), "plan")
    assert [model.name for model in plan.all_models] == ["resnet18_3d", "resnet34_3d"]
    with pytest.raises(RecipeError, match="models: expected a list with at least one entry"):
        plan_from_dict(_plan("cases.csv", starts=["scratch", *starts], models=[]), "plan")
    unlike = {"name": "resnet18_3d", "options": {"depth_stride": 4}}
    with pytest.raises(RecipeError, match="'resnet18_3d' stands there with different options"):
        plan_from_dict(_plan("cases.csv", models=[unlike], starts=["scratch", *starts]), "plan")


def test_the_page_shows_the_starts_together(
    make_shapes: Callable[..., Table], tmp_path: Path
) -> None:
    table = make_shapes(40, size=16)
    folder = tmp_path / "comparison"
    vg.compare(_plan(str(table.path)), folder, jobs=1)
    written = json.loads((folder / "comparison.json").read_text())
    assert {(row["model"], row["start"]) for row in written["runs"]} == {
        ("plain_resnet10_3d", "scratch"),
        ("mobilenetv3_small_3d", "other-scratch"),
        ("mobilenetv3_small_3d", "other-probe"),
    }
    assert {(row["start"], row["against"]) for row in written["differences"]} == {
        ("other-scratch", "scratch"),
        ("other-probe", "scratch"),
    }
    shown = parse_comparison(written, "comparison.json")
    assert shown.model_names == ["each start on its own network"]
    assert shown.start_names == [
        "scratch (plain_resnet10_3d)",
        "other-scratch (mobilenetv3_small_3d)",
        "other-probe (mobilenetv3_small_3d)",
    ]
    assert "scratch (plain_resnet10_3d)" in (folder / "report.html").read_text()


def test_a_network_for_larger_volumes_is_refused_before_anything_trains(
    make_shapes: Callable[..., Table], tmp_path: Path
) -> None:
    table = make_shapes(40, size=16)
    starts = ["scratch", {"name": "convnext", "model": "convnext_atto_3d"}]
    folder = tmp_path / "comparison"
    with pytest.raises(RecipeError) as caught:
        vg.compare(_plan(str(table.path), starts=starts), folder, jobs=1)
    text = str(caught.value)
    assert "the smallest volume (or crop) has 16×16×16" in text
    assert "convnext_atto_3d needs at least 32×32×32 voxels" in text
    assert "plain_resnet10_3d" not in text
    assert not (folder / "runs").exists()
