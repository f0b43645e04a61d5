from __future__ import annotations

import csv
import io
import json

import pytest

from voxgraft.errors import ReportError
from voxgraft.reports import parse_comparison, plain_text_summary, write_report
from voxgraft.reports.grid import grids, printed_percents
from voxgraft.reports.grid_table import grid_table
from voxgraft.reports.network_tables import best_table, means_table
from voxgraft.reports.networks import best_lines, favors, headline, mean_lines
from voxgraft.reports.remarks import folded
from voxgraft.reports.several import MeanDifference
from voxgraft.reports.tables import to_csv, to_latex, to_markdown

KINDS = {"3D": ["slow_r50", "swin3d_t", "penet_3d"], "2D": ["slicewise_a", "slicewise_b"]}
STARTS = ("scratch", "video", "ct", "video_ct")
SIZES = (51, 509)
ONE_SEED = "one training seed: the interval covers other patients, not other trainings"


def mean(kind, start, against, size, estimate, half, p):
    names = KINDS[kind]
    return {
        "kind": kind, "start": start, "against": against, "train_size": size,
        "estimate": estimate, "low": estimate - half, "high": estimate + half, "level": 0.95,
        "p_value": p, "p_holm": min(1.0, 4 * p), "df": 8.0, "n_networks": len(names),
        "n_patients": 130, "n_seeds": 2, "method": "over networks and patients", "note": "",
        "per_network": {name: estimate + 0.01 * n for n, name in enumerate(names)},
        "value_a": 0.8, "value_b": 0.7, "shown": p < 0.05, "left_out": [],
    }  # fmt: skip


def printed(model, name, start, value, low, high, note=""):
    return {"model": model, "printed": name, "start": start, "percent": 10, "estimate": value,
            "low": low, "high": high, "note": note}  # fmt: skip


def point(start, size):
    value = 0.5 + 0.1 * STARTS.index(start) + (0.05 if size == 509 else 0.0)
    return {"train_size": size, "estimate": value, "low": value - 0.1, "high": value + 0.1,
            "n_patients": 130, "n_seeds": 2, "note": ONE_SEED, "flagged": []}  # fmt: skip


def run(model, start, size, seed, flags=(), status="finished"):
    return {"id": f"{model}_{start}_{size}_{seed}", "model": model, "start": start, "seed": seed,
            "train_size": size, "status": status, "flags": list(flags)}  # fmt: skip


def several():
    """Three 3D networks and two on slices, four starts, two sizes; one arm each is in trouble."""
    names = [name for members in KINDS.values() for name in members]
    curves, runs = [], []
    for model in names:
        for start in STARTS:
            if (model, start) == ("slicewise_b", "video_ct"):
                continue  # never tried
            points = [point(start, size) for size in SIZES]
            if (model, start) == ("penet_3d", "ct"):
                points = points[1:]  # not tried at the smaller size
            curves.append({"model": model, "start": start, "points": points})
            runs += [run(model, start, p["train_size"], s) for p in points for s in (0, 1)]
    for row in runs:
        where = row["model"], row["start"], row["train_size"]
        if where == ("slow_r50", "video_ct", 509) and row["seed"] == 0:
            row["flags"] = ["constant"]
        if where == ("swin3d_t", "scratch", 51):
            row["status"], row["flags"] = "diverged", ["diverged"]
    for curve in curves:
        for p in curve["points"]:
            where = curve["model"], curve["start"], p["train_size"]
            if where == ("slow_r50", "video_ct", 509):
                p["flagged"] = ["seed 0: constant"]
            if where == ("swin3d_t", "scratch", 51):
                p |= {"estimate": None, "low": None, "high": None, "note": ""}
                p["flagged"] = ["seed 0: diverged", "seed 1: diverged"]
    means = [
        mean("3D", "video", "scratch", 509, 0.15, 0.05, 0.001),
        mean("3D", "ct", "scratch", 509, 0.02, 0.05, 0.4),
        mean("3D", "video", "ct", 509, 0.13, 0.05, 0.002),
        mean("3D", "video", "scratch", 51, -0.10, 0.05, 0.003),
        mean("2D", "video", "scratch", 509, 0.06, 0.05, 0.02),
    ]
    best = [{
        "train_size": 509, "chosen_3d": "swin3d_t, video", "chosen_2d": "slicewise_a, ct",
        "validation_3d": 0.91, "validation_2d": 0.83,
        "difference": {"estimate": 0.1, "low": 0.02, "high": 0.18, "p_value": 0.01,
                       "value_a": 0.9, "value_b": 0.8, "n_patients": 130, "n_seeds_a": 2,
                       "n_seeds_b": 2, "p_holm": None, "method": "m", "note": ""},
        "on_test": {"name_a": "slow_r50, video_ct", "name_b": "slicewise_b, ct", "value_a": 0.95,
                    "value_b": 0.8, "difference": 0.15, "low": 0.01, "high": 0.2,
                    "optimism": 0.03, "corrected": 0.12, "note": "these very trainings"},
    }]  # fmt: skip
    constant = "constant prediction: all studies got the same score"
    cells = [
        printed("slow_r50", "Slow R50", "scratch", 0.5, 0.5, 0.5, constant),
        printed("slow_r50", "Slow R50", "video", 0.518, 0.468, 0.563),
        printed("swin3d_t", "Swin-T", "video", 0.665, 0.63, 0.7),
        printed("penet_3d", "PENet", "ct", 0.5, 0.5, 0.5, constant),
        printed("slicewise_a", "ResNet-18", "ct", 0.612, 0.648, 0.578, "impossible: ends swapped"),
    ]
    common = "t interval over the networks alone; nor is another training in it"
    published = {"study": "ke2023", "dataset": "RSNA", "of": 7, "cells": cells, "means": [
        {"start": "video", "against": "scratch", "percent": 10, "estimate": 0.074, "low": 0.026,
         "high": 0.122, "smallest": 0.018, "largest": 0.129, "n_networks": 7,
         "note": f"{common}; doubtful cells in it: Slow R50, none; PENet, none"},
        {"start": "video", "against": "ct", "percent": 10, "estimate": 0.072, "low": 0.004,
         "high": 0.141, "smallest": -0.034, "largest": 0.167, "n_networks": 7, "note": common},
    ]}  # fmt: skip
    return {
        "format": 1, "title": "Several networks", "answer": "No difference was shown.",
        "statements": [f"Statement {n}." for n in range(15)],
        "task": {"kind": "binary", "metric": "auroc", "metric_label": "AUROC"},
        "data": {"splits": {"train": {"patients": 5095}, "test": {"patients": 130}}},
        "starts": [{"name": name, "source": "5 sources, one a network",
                    "sources": {"slow_r50": "slow_r50.k400_8x8"} if name == "video" else {}}
                   for name in STARTS],
        "reference": "scratch", "models": names, "sizes": list(SIZES), "seeds": [0, 1],
        "runs": runs, "curves": curves,
        "baselines": [{"name": "prior", "estimate": 0.5, "low": 0.5, "high": 0.5}],
        "networks": {"kinds": KINDS, "means": means, "best": best}, "published": published,
    }  # fmt: skip


def parsed(made):
    return parse_comparison(json.loads(json.dumps(made)), "here")


def cells_of(grid):
    return {
        (row.network, start): cell
        for _, rows in grid.groups
        for row in rows
        for start, cell in zip(grid.starts, row.cells, strict=True)
    }


def test_a_grid_has_each_network_and_start_and_says_why_a_cell_is_empty():
    made = several()
    small, large = grids(parsed(made))
    assert [kind for kind, _ in large.groups] == ["3D networks", "Networks on slices (2D)"]
    assert [row.network for _, rows in large.groups for row in rows] == made["models"]
    cells = cells_of(large)
    assert cells["penet_3d", "video"].text == "0.650 [0.550, 0.750]"
    assert cells["slicewise_b", "video_ct"].text == "not tried"
    assert cells_of(small)["penet_3d", "ct"].text == "not tried at this size"
    empty = cells_of(small)["swin3d_t", "scratch"]
    assert (empty.text, empty.words) == ("no value", "2 of 2 runs: diverged")


def test_the_best_of_a_row_is_no_flagged_one():
    cells = cells_of(grids(parsed(several()))[1])
    assert cells["slow_r50", "video_ct"].words == "1 of 2 runs: constant prediction"
    assert not cells["slow_r50", "video_ct"].top
    assert [start for (name, start), cell in cells.items() if cell.top and name == "slow_r50"] == [
        "ct"
    ]
    assert cells["penet_3d", "video_ct"].top
    lower = several()
    lower["task"] |= {"metric": "brier", "higher_is_better": False}
    assert cells_of(grids(parsed(lower))[1])["penet_3d", "scratch"].top


def test_printed_cells_stand_beside_the_size_of_their_share():
    small, large = grids(parsed(several()))
    assert (small.percent, large.percent) == (None, 10)  # 509 is 10% of 5,095; 51 is no 10%
    cells = cells_of(large)
    assert cells["swin3d_t", "video"].printed == "0.665 [0.630, 0.700]"
    assert cells["swin3d_t", "scratch"].printed == "not printed"
    assert cells["slow_r50", "scratch"].mark == cells["penet_3d", "ct"].mark == "a"
    assert cells["slicewise_a", "ct"].mark == "b"
    assert cells["slicewise_b", "ct"].printed == ""  # the paper has no such network
    assert not any(cell.printed for cell in cells_of(small).values())
    notes = grid_table(parsed(several()), large).notes
    assert "a Printed cell: constant prediction: all studies got the same score." in notes
    assert f"Every network and start: {ONE_SEED}." in notes
    assert f"17 of 18 values: {ONE_SEED}." in grid_table(parsed(several()), small).notes


@pytest.mark.parametrize(
    ("patients", "sizes", "expected"),
    [
        (5095, [509, 5095], {509: 10, 5095: 100}),
        (5095, [510], {510: 10}),
        (5095, [511, 5094], {}),
        (28, [3, 28], {3: 10, 28: 100}),
        (None, [509], {}),
    ],
)
def test_percents_meet_sizes_within_rounding(patients, sizes, expected):
    made = several()
    made["data"]["splits"]["train"]["patients"] = patients
    made["sizes"], made["runs"], made["curves"] = sizes, [], []
    made["published"]["cells"].append(made["published"]["cells"][0] | {"percent": 100})
    assert printed_percents(parsed(made)) == expected


def test_means_over_networks_lead_and_say_no_more_than_they_show():
    first, second, third = headline(parsed(several()))
    assert first == (
        "3D networks, mean over 3, at N = 509: video (AUROC +0.150 [+0.100, +0.200], p = 0.004) "
        "beats scratch; no difference from scratch is shown for ct (AUROC +0.020 "
        "[−0.030, +0.070])."
    )
    assert second.startswith("Networks on slices (2D), mean over 2, at N = 509: no difference")
    assert "is worse than scratch" in third
    row = MeanDifference(start="a", against="b", train_size=9, low=0.1, high=0.2, p_value=0.01)
    assert favors(row, True) == 1
    assert favors(row, False) == -1
    assert favors(row.model_copy(update={"p_holm": 0.2}), True) == 0
    assert favors(row.model_copy(update={"low": None}), True) == 0


def test_the_printed_mean_and_its_smallest_and_largest_stand_beside_ours():
    comparison = parsed(several())
    table = means_table(comparison)
    row = next(r for r in table.rows if [c.text for c in r[:3]] == ["video", "scratch", "509"])
    assert row[-2].text == "+0.074 [+0.026, +0.122]"
    assert row[-1].text == "+0.018 to +0.129"
    text = " ".join(table.notes)
    assert "prints as a 95% confidence interval is the smallest and the largest" in text
    assert text.count("nor is another training in it") == 1
    assert "doubtful cells in it: Slow R50, none; PENet, none" in text
    lines = mean_lines(comparison)
    assert lines[0].startswith("3D, N = 51: video − scratch −0.100 [−0.150, −0.050], p = 0.012")
    assert "3 networks, 130 patients, 2 seeds (printed cells +0.074" in " ".join(lines)
    record = next(csv.DictReader(io.StringIO(to_csv(table))))
    assert float(record["printed_smallest"]) == 0.018


def test_the_best_are_chosen_on_validation_and_the_other_way_is_named():
    comparison = parsed(several())
    (line,) = best_lines(comparison)
    assert line.startswith("Chosen on validation at N = 509: swin3d_t, video (0.910 there)")
    assert "difference +0.100 [+0.020, +0.180], p = 0.010: the 3D network is better." in line
    table = best_table(comparison)
    assert table.rows[-1][-3].text == "+0.150 → +0.120 [+0.010, +0.200]"
    assert table.rows[-1][-1].text == "+0.030"
    for made in (table, means_table(comparison)):
        assert to_markdown(made)
        assert r"\end{table}" in to_latex(made)


def test_the_page_and_the_terminal_have_the_grid_first(tmp_path):
    made = several()
    (tmp_path / "comparison.json").write_text(json.dumps(made))
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert '<p class="answer">3D networks, mean over 3, at N = 509: video' in html
    assert html.index("Network by network: 15 findings") < html.index("Statement 14.")
    assert "<dt>slow_r50</dt><dd>slow_r50.k400_8x8</dd>" in html
    assert html.index('id="networks"') < html.index('id="results"')
    assert '<span class="printed">0.500 [0.500, 0.500]<sup>a</sup></span>' in html
    assert '<span class="flagged">1 of 2 runs: constant prediction</span>' in html
    for name in ("mean-differences-3d.svg", "mean-differences-2d.png"):
        assert (tmp_path / "figures" / name).is_file()
    for name in ("networks-n509", "network-means", "network-best"):
        assert (tmp_path / "tables" / f"{name}.csv").is_file()
    text = plain_text_summary(made)
    assert text.startswith("3D networks, mean over 3, at N = 509: video")
    assert "(0.500 [0.500, 0.500]) a" in text
    assert "† 2 of 2 runs: diverged" in text
    assert text.count("one training seed") == 1


def test_one_network_or_one_start_a_network_shows_nothing_of_this(tmp_path, make_comparison):
    made = make_comparison(
        tmp_path, starts=("scratch", "a"), sizes=(400,), seeds=(0,), patients=20, examples=0
    )
    made["networks"] = {"kinds": {"3D": made["models"]}, "means": [], "best": []}
    made["published"] = None
    assert plain_text_summary(made).startswith(made["answer"])
    (tmp_path / "comparison.json").write_text(json.dumps(made))
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert 'id="networks"' not in html
    assert "Network by network" not in html
    own = several()
    own["curves"] = [c for c in own["curves"] if (c["model"], c["start"]) in {
        ("slow_r50", "scratch"), ("swin3d_t", "video")}]  # fmt: skip
    assert grids(parsed(own | {"runs": []})) == []


@pytest.mark.parametrize(
    "path",
    [
        ("networks",), ("published",), ("networks", "kinds"), ("networks", "means"),
        ("networks", "best"), ("networks", "means", 0, "per_network"), ("published", "means"),
        ("networks", "means", 0, "low"), ("networks", "best", 0, "difference"),
        ("networks", "best", 0, "on_test"), ("published", "cells"), ("data", "splits"),
        ("published", "cells", 0, "estimate"), ("published", "study"), ("runs",), ("reference",),
    ],
)  # fmt: skip
def test_what_is_missing_is_left_out_and_what_is_damaged_is_named(path):
    for damage in ("missing", None, 7.5):
        made = several()
        inner = made
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = damage
        if damage == "missing":
            del inner[path[-1]]
        if damage == 7.5 and path[-1] not in ("low", "estimate"):
            with pytest.raises(ReportError, match=path[0]):
                parsed(made)
            continue
        comparison = parsed(made)
        assert plain_text_summary(made).endswith("\n")
        assert means_table(comparison).caption
        assert best_table(comparison).caption
        assert len(grids(comparison)) == 2


def test_remarks_are_said_once_a_kind():
    found = [(str(n), "x; y" if n < 5 else "x") for n in range(6)]
    assert folded(found, 6, "Every one", "values") == ["Every one: x.", "5 of 6 values: y."]
    assert folded(found[:2], 6, "Every one", "values") == ["0; 1: x; y."]
