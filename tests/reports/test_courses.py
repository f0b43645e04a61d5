"""Scaling, convergence, hours and savings in words, by hand."""

import json
from pathlib import Path
from typing import Any

import pytest

from voxgraft.reports import write_report
from voxgraft.reports.conclusions import needed_text, saved_text
from voxgraft.reports.convergence import convergence_table, reached_text
from voxgraft.reports.courses import Reached
from voxgraft.reports.hours import hours_table, hours_text
from voxgraft.reports.own_networks import TOGETHER, together
from voxgraft.reports.reading import parse_comparison
from voxgraft.reports.scaling import chosen_sizes, scaling_table


def reached(**more: Any) -> Reached:
    values: dict[str, Any] = {
        "start": "grown",
        "train_size": 20,
        "against": "scratch",
        "goal": 0.8,
        "runs": 3,
        "reached": 3,
        "steps": 120.0,
        "fewest": 100,
        "most": 160,
        "first_evaluation": 20,
        "last_step": 400,
        "reference_steps": 400.0,
    }
    return Reached.model_validate(values | more)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({}, "reaches scratch's final score after 120 steps: 3.3 times fewer than scratch"),
        (
            {"steps": 20.0},
            "reaches scratch's final score after at most 20 steps: 20.0 times fewer than scratch",
        ),
        (
            {"steps": 400.0, "reference_steps": 200.0},
            "reaches scratch's final score after 400 steps: 2.0 times as many as scratch",
        ),
        (
            {"steps": 400.0},
            "reaches scratch's final score after 400 steps: as many as scratch",
        ),
        (
            {"steps": None, "reached": 1},
            "does not reach scratch's final score within 400 steps; 1 of 3 runs do",
        ),
        (
            {"steps": None, "reached": 0},
            "does not reach scratch's final score within 400 steps",
        ),
        ({"start": "scratch"}, "reaches its own final score after 120 steps"),
    ],
)
def test_convergence_in_words(more: dict[str, Any], words: str) -> None:
    assert reached_text(reached(**more)) == words


def comparison(**more: Any) -> Any:
    base = {
        "format": 1,
        "task": {"kind": "segmentation", "metric": "dice", "metric_label": "Dice"},
        "models": ["segresnet_8"],
        "starts": [{"name": "scratch"}, {"name": "grown-4"}, {"name": "grown-all"}],
        "reference": "scratch",
    }
    return parse_comparison(base | more, "by hand")


def test_an_interval_over_runs_is_in_brackets_and_may_be_open() -> None:
    rows = [
        reached(interval=True, low=100, high=None).model_dump() | {"model": "segresnet_8"},
        reached(start="scratch").model_dump() | {"model": "segresnet_8"},
    ]
    table = convergence_table(comparison(convergence={"metric": "dice", "reached": rows}))
    shown = [[cell.text for cell in row] for row in table.rows]
    assert shown[1][2:5] == ["120", "[100, not reached]", "3 of 3"]
    assert shown[2][2:5] == ["120", "100 to 160", "3 of 3"]


def test_savings_say_at_most_where_the_fewest_patients_are_enough() -> None:
    saving = {
        "model": "segresnet_8",
        "start": "grown-4",
        "against": "scratch",
        "smallest": 5,
        "reference_size": 64,
        "reference_value": 0.8,
        "needed": 20.0,
        "needed_low": 5,
        "needed_high": 32.0,
        "saved_fraction": 0.6875,
        "saved_low": 0.5,
        "saved_high": 0.921875,
        "reached": True,
    }
    (row,) = comparison(label_savings=[saving]).label_savings
    assert needed_text(row) == "20 [≤ 5, 32]"
    assert saved_text(row) == "69% [50%, ≥ 92%]"
    at_once = saving | {"needed": 5, "saved_fraction": 0.921875, "needed_high": None}
    (row,) = comparison(label_savings=[at_once | {"saved_low": None}]).label_savings
    assert needed_text(row) == "≤ 5 [≤ 5, not reached]"
    assert saved_text(row) == "≥ 92% [none, ≥ 92%]"
    never = saving | {"reached": False, "needed": None, "saved_fraction": None}
    (row,) = comparison(label_savings=[never]).label_savings
    assert (needed_text(row), saved_text(row)) == ("not reached", "—")


def family(start: str, model: str) -> dict[str, Any]:
    point = {"estimate": 0.7, "low": 0.6, "high": 0.8, "n_seeds": 3}
    return {
        "family": start,
        "stage": "atlas",
        "model": model,
        "train_size": 20,
        "points": [
            {"start": f"{start}-4", "patients": 4, "cases": 6} | point,
            {"start": f"{start}-all", "patients": 40, "cases": 40} | point,
        ],
        "reference": {"start": "scratch", "estimate": 0.5},
        "gain": {"estimate": 0.1, "low": 0.05, "high": 0.15, "p_holm": 0.01, "shown": True},
    }


def test_the_table_of_scaling_starts_with_no_pretraining() -> None:
    table = scaling_table(comparison(scaling={"families": [family("grown", "segresnet_8")]}))
    shown = [[cell.text for cell in row] for row in table.rows]
    assert [row[0] for row in shown[1:]] == ["none", "4 patients, 6 cases", "40 patients"]
    assert shown[1][2] == "0.500 [no interval]"
    assert [record["pretraining_cases"] for record in table.records] == [0, 6, 40]
    assert table.notes[0] == (
        "grown, N = 20: 40 against 4 patients of atlas: +0.100 [+0.050, +0.150], p (Holm) 0.010."
    )


def test_hours_have_their_unit_and_the_pretraining_apart() -> None:
    hours = {
        "device": "NVIDIA H200",
        "kind": "GPU",
        "threads": 2,
        "runs": [
            {
                "start": start,
                "model": "segresnet_8",
                "train_size": size,
                "runs": 3,
                "training_hours": 1.5,
                "search_hours": 0.25,
                "hours": 1.75,
            }
            for start in ("scratch", "grown-4")
            for size in (5, 20)
        ],
        "pretraining": [
            {
                "start": "grown-4",
                "model": "segresnet_8",
                "stage": "atlas",
                "patients": 4,
                "cases": 6,
                "runs": 2,
                "hours": 12.25,
            }
        ],
    }
    table = hours_table(comparison(device_hours=hours))
    assert table.caption.startswith("GPU-hours on NVIDIA H200:")
    shown = [[cell.text for cell in row] for row in table.rows]
    assert shown == [
        ["scratch", "1.50", "1.50", "3.00", "0.500", "—"],
        ["grown-4", "1.50", "1.50", "3.00", "0.500", "12.2"],
    ]
    assert "12.2 in 2 trainings (one a learning rate)" in table.notes[0]
    assert [hours_text(value) for value in (None, 0.0, 0.0004, 2.345)] == [
        "—",
        "0.000",
        "< 0.001",
        "2.35",
    ]


def test_at_most_so_many_sizes_are_drawn_with_both_ends() -> None:
    assert chosen_sizes([5, 10, 20]) == [5, 10, 20]
    assert chosen_sizes([5, 10, 20, 64, 128, 256, 512, 1024]) == [5, 20, 256, 1024]


def test_starts_on_networks_of_their_own_are_renamed_everywhere() -> None:
    pairs = [("scratch", "a"), ("grown-4", "b"), ("grown-all", "b")]
    rows = [{"start": start, "model": model, "against": "scratch"} for start, model in pairs]
    value = {
        "models": ["a", "b"],
        "curves": rows,
        "secondary": [{"metric": "surface_dice", "curves": rows, "differences": rows}],
        "structures": {"rows": rows},
        "scaling": {"families": [family("grown", "b")]},
        "convergence": {"courses": rows, "reached": rows},
        "device_hours": {"runs": rows, "pretraining": rows},
    }
    found = together(value)
    lists = [
        found["secondary"][0]["curves"],
        found["secondary"][0]["differences"],
        found["structures"]["rows"],
        found["convergence"]["courses"],
        found["convergence"]["reached"],
        found["device_hours"]["runs"],
        found["device_hours"]["pretraining"],
    ]
    for renamed in lists:
        assert [row["start"] for row in renamed] == [f"{start} ({model})" for start, model in pairs]
        assert {row["against"] for row in renamed} == {"scratch (a)"}
        assert {row["model"] for row in renamed} == {TOGETHER}
    (grown,) = found["scaling"]["families"]
    assert grown["model"] == TOGETHER
    assert [point["start"] for point in grown["points"]] == ["grown-4 (b)", "grown-all (b)"]
    assert grown["reference"]["start"] == "scratch (a)"
    broken = value | {"scaling": None, "structures": [], "convergence": 3, "device_hours": {}}
    assert together(broken)["models"] == [TOGETHER]


def test_the_page_of_damaged_or_empty_parts_is_written(
    make_comparison: Any, tmp_path: Path
) -> None:
    made = make_comparison(tmp_path, sizes=(25, 50), seeds=(0,), examples=0)
    course = {"start": "scratch", "model": made["models"][0], "train_size": 25}
    made["convergence"] = {
        "metric": "auroc",
        "courses": [course | {"points": []}, course | {"points": [{"step": 5, "mean": 0.5}]}],
        "reached": [course | {"goal": None, "runs": 0, "reached": 0}],
    }
    made["scaling"] = {"families": [family("grown", made["models"][0]) | {"points": []}]}
    made["device_hours"] = {"runs": [], "pretraining": []}
    (tmp_path / "comparison.json").write_text(json.dumps(made))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert 'id="convergence"' in page
    assert 'id="scaling"' in page
