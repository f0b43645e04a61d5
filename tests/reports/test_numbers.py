from __future__ import annotations

import csv
import io
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.calibration import calibration_curve
from sklearn.metrics import roc_auc_score, roc_curve

from voxgraft.reports import comparison_table, parse_comparison, plain_text_summary
from voxgraft.reports.agreement import limits_of_agreement
from voxgraft.reports.calibration import reliability
from voxgraft.reports.comparison import Difference
from voxgraft.reports.conclusions import estimates_table, supported, supported_best
from voxgraft.reports.predictions import test_predictions as read_predictions
from voxgraft.reports.ranking import GRID, mean_roc, roc_points
from voxgraft.reports.slices import chosen_slice, orthogonal_slices
from voxgraft.reports.tables import Cell, Table, latex_text, to_csv, to_latex, to_markdown
from voxgraft.reports.wording import (
    decimals_for,
    duration,
    learning_rate,
    number,
    p_text,
    slug,
    slugs,
)


@given(st.data(), st.integers(2, 40))
def test_roc_points_equal_scikit_learn(data, n):
    score = data.draw(arrays(float, n, elements=st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.9, 1.0])))
    positive = data.draw(arrays(bool, n).filter(lambda a: 0 < a.sum() < n))
    false, true = roc_points(positive, score)
    expected_false, expected_true, _ = roc_curve(positive, score, drop_intermediate=False)
    np.testing.assert_allclose(false, expected_false, atol=1e-12)
    np.testing.assert_allclose(true, expected_true, atol=1e-12)
    assert np.trapezoid(true, false) == pytest.approx(roc_auc_score(positive, score))


def test_mean_roc_keeps_the_mean_area():
    rng = np.random.default_rng(0)
    positive = rng.integers(0, 2, 300).astype(bool)
    scores = positive * 1.2 + rng.normal(size=(4, 300))
    areas = [roc_auc_score(positive, score) for score in scores]
    mean = mean_roc(positive, scores)
    assert np.trapezoid(mean, GRID) == pytest.approx(np.mean(areas), abs=4e-3)
    assert (np.diff(mean) >= 0).all()


def test_reliability_equals_scikit_learn():
    rng = np.random.default_rng(1)
    predicted = rng.uniform(size=500)
    happened = (rng.uniform(size=500) < predicted**2).astype(float)
    edges = np.arange(1, 10) / 10
    mean, rate = reliability(predicted, happened, edges)
    expected_rate, expected_mean = calibration_curve(happened, predicted, n_bins=10)
    np.testing.assert_allclose(mean, expected_mean)
    np.testing.assert_allclose(rate, expected_rate)


def test_limits_of_agreement_by_hand():
    bias, low, high = limits_of_agreement(np.array([-1.0, 0.0, 4.0]))
    assert bias == 1.0
    assert high == pytest.approx(1 + 1.96 * np.sqrt(7))
    assert low == pytest.approx(1 - 1.96 * np.sqrt(7))


def test_slices_show_the_patient_as_radiologists_see_it():
    image = np.zeros((3, 5, 7), np.float32)
    image[:, :, 6] += 0.5  # right
    image[:, 4, :] += 0.25  # anterior
    image[2, :, :] += 0.125  # superior
    axial, coronal, sagittal = orthogonal_slices(image, np.array([4.0, 2.0, 1.0]))
    assert axial[0].shape == (5, 7)
    assert axial[1] == 2.0
    assert axial[0][2, 0] > axial[0][2, -1]  # right is at the left
    assert axial[0][0, 3] > axial[0][-1, 3]  # anterior is at the top
    assert coronal[0].shape == (3, 7)
    assert coronal[1] == 4.0
    assert coronal[0][1, 0] > coronal[0][1, -1]
    assert coronal[0][0, 3] > coronal[0][-1, 3]  # superior is at the top
    assert sagittal[0].shape == (3, 5)
    assert sagittal[1] == 2.0
    assert sagittal[0][1, 0] > sagittal[0][1, -1]  # anterior is at the left
    assert sagittal[0][0, 2] > sagittal[0][-1, 2]


def test_the_middle_slice_is_shown_unless_another_shows_far_more():
    assert chosen_slice(np.array([0, 8, 10, 12, 0])) == 2
    assert chosen_slice(np.array([0, 30, 10, 12, 0])) == 1
    assert chosen_slice(np.array([0, 0, 0])) == 1


def test_predictions_are_aligned_by_case_over_seeds(tmp_path, make_comparison):
    import pandas as pd

    made = make_comparison(
        tmp_path, starts=("scratch",), sizes=(50,), seeds=(0, 1), patients=20, examples=0
    )
    path = tmp_path / "runs" / made["runs"][1]["id"] / "predictions.parquet"
    frame = pd.read_parquet(path)
    frame.sample(frac=1, random_state=0).to_parquet(path)
    found, faults = read_predictions(parse_comparison(made, "here"), tmp_path)
    assert faults == []
    (own,) = found["efficientnet_lite0_3d"]
    test = frame[frame["split"] == "test"].sort_values("case_id")
    assert own.scores.shape == (2, 30, 1)
    np.testing.assert_array_equal(own.scores[1, :, 0], test["score_0"])
    np.testing.assert_array_equal(own.target[:, 0], test["target_0"])
    assert own.rests_on == "30 test cases of 20 patients, 2 seeds"


def test_csv_holds_the_json_s_numbers_unrounded(reported):
    folder, made = reported("binary")
    with (folder / "tables/estimates.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    points = {(c["start"], p["train_size"]): p for c in made["curves"] for p in c["points"]}
    trained = [row for row in rows if row["model"]]
    assert len(trained) == len(points)
    for row in trained:
        point = points[row["start"], int(row["train_size"])]
        for key in ("estimate", "low", "high"):
            assert float(row[key]) == point[key]
        assert json.loads(row["values"]) == point["values"]
        assert int(row["n_patients"]) == point["n_patients"]
    assert float(rows[-1]["estimate"]) == made["baselines"][0]["estimate"]
    with (folder / "tables/runs.csv").open(encoding="utf-8") as handle:
        runs = list(csv.DictReader(handle))
    assert [float(row["auroc"]) for row in runs] == [r["metrics"]["auroc"] for r in made["runs"]]
    assert all(row["sensitivity_at_specificity"] == "" for row in runs)
    with (folder / "tables/differences.csv").open(encoding="utf-8") as handle:
        differences = list(csv.DictReader(handle))
    assert [float(r["p_holm"]) for r in differences] == [d["p_holm"] for d in made["differences"]]


def test_markdown_and_latex_hold_the_same_rounded_numbers(reported):
    folder, made = reported("binary")
    point = made["curves"][1]["points"][0]
    shown = f"{point['estimate']:.3f} [{point['low']:.3f}, {point['high']:.3f}]"
    assert shown in (folder / "report.html").read_text()
    assert shown in (folder / "tables/estimates.md").read_text()
    latex = (folder / "tables/estimates.tex").read_text()
    assert shown.replace("[", "{[}").replace("]", "{]}") in latex
    assert latex.count(r"\begin{") == latex.count(r"\end{")
    body = latex.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert {line.count("&") for line in body.splitlines() if "&" in line} == {5, 1}


def test_latex_escapes_everything_special():
    assert latex_text(r"50% of_a & b$c#{d}~^\ −1 [x]") == (
        r"50\% of\_a \& b\$c\#\{d\}\textasciitilde{}\textasciicircum{}\textbackslash{} $-$1 {[}x{]}"
    )


def test_markdown_escapes_what_would_break_a_table():
    table = Table(
        name="t", caption="c", header=["a|b", "n"], rows=[[Cell(text="x|y\nz"), Cell(text="1")]],
        records=[{"a": "x,y", "n": 1.5, "none": None}],
    )  # fmt: skip
    assert "| a\\|b | n |" in to_markdown(table)
    assert "| x\\|y z | 1 |" in to_markdown(table)
    assert list(csv.reader(io.StringIO(to_csv(table)))) == [["a", "n", "none"], ["x,y", "1.5", ""]]
    assert r"a\textbar{}b & n \\" in to_latex(table)


def difference(**settings):
    least = {"model": "m", "train_size": 9, "start": "a", "against": "b", "estimate": 0.1}
    return Difference(**(least | settings))


@pytest.mark.parametrize(
    ("settings", "higher", "expected"),
    [
        ({"low": 0.01, "high": 0.2, "p_holm": 0.01}, True, 1),
        ({"low": 0.01, "high": 0.2, "p_holm": 0.01}, False, -1),
        ({"low": -0.2, "high": -0.1, "p_holm": 0.01}, False, 1),
        ({"low": 0.01, "high": 0.2, "p_holm": 0.05}, True, 0),
        ({"low": 0.0, "high": 0.2, "p_holm": 0.01}, True, 0),
        ({"low": 0.01, "high": 0.2}, True, 0),
        ({"p_holm": 0.01}, True, 0),
    ],
)
def test_support_needs_interval_and_corrected_p(settings, higher, expected):
    assert supported(difference(**settings), higher) == expected


def small(differences):
    return parse_comparison(
        {
            "format": 1,
            "task": {"kind": "binary", "metric": "auroc"},
            "models": ["m"],
            "curves": [
                {"start": s, "model": "m", "points": [{"train_size": 9, "estimate": e}]}
                for s, e in (("scratch", 0.7), ("a", 0.9), ("b", 0.8))
            ],
            "differences": [
                {"model": "m", "train_size": 9, "start": s, "against": t,
                 "estimate": 0.1, "low": 0.05, "high": 0.2, "p_holm": 0.01}
                for s, t in differences
            ],
        },
        "here",
    )  # fmt: skip


def test_best_is_bold_only_where_every_other_start_is_beaten():
    some = small([("a", "scratch"), ("b", "scratch")])
    assert supported_best(some, "m", 9) == ""
    assert "No start is in bold" in estimates_table(some).notes[-1]
    every = small([("a", "scratch"), ("b", "scratch"), ("a", "b")])
    assert supported_best(every, "m", 9) == "a"
    bold = [row[0].text for row in estimates_table(every).rows if row[1].best]
    assert bold == ["a"]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (number(-0.0421), "−0.042"),
        (number(-0.0001), "0.000"),
        (number(0.0421, signed=True), "+0.042"),
        (number(12345.678, 1), "12,345.7"),
        (number(None), "—"),
        (number(float("nan")), "—"),
        (p_text(0.0004), "< 0.001"),
        (p_text(0.05), "0.050"),
        (duration(0.2), "0.20 s"),
        (duration(75), "75 s"),
        (duration(600), "10.0 min"),
        (duration(7200), "2.0 h"),
        (learning_rate(3e-5), "3×10⁻⁵"),
        (learning_rate(3e-4), "0.0003"),
        (slug("Über/Start (a)"), "uber-start-a"),
        (slug("結節"), "x"),
    ],
)
def test_numbers_as_people_read_them(shown, expected):
    assert shown == expected


def test_decimals_follow_the_size_of_the_values():
    assert decimals_for([0.871, 0.9]) == 3
    assert decimals_for([4.2, 5.1, 16.0]) == 2
    assert decimals_for([420.0, 516.0]) == 0
    assert decimals_for([None]) == 3


@given(st.lists(st.text(max_size=6), max_size=12))
def test_file_names_are_distinct_and_safe(names):
    found = slugs(names)
    assert len(set(found.values())) == len(found) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9-]+", value) for value in found.values())


def test_summaries_hold_the_sentence_the_table_and_the_savings(reported):
    from rich.console import Console

    _, made = reported("binary")
    point = made["curves"][0]["points"][-1]
    shown = f"{point['estimate']:.3f} [{point['low']:.3f}, {point['high']:.3f}]"
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(comparison_table(made))
    for text in (plain_text_summary(made), console.export_text()):
        assert text.startswith(made["answer"][:60])
        assert shown in text
        assert "Baseline: diameter" in text
        assert made["label_savings"][0]["text"] in text
        assert "Runs: 60 finished." in text
    lines = plain_text_summary(made).splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("Start "))
    assert len({line.index("]") for line in lines[at + 2 : at + 6]}) == 1


def test_summaries_do_not_read_markup_or_control_codes():
    from rich.console import Console

    made = {
        "format": 1, "task": {"kind": "binary", "metric": "auroc"}, "answer": "[red]a\x1b[2J[/red]",
        "models": ["m"], "curves": [{"start": "[bold]s", "model": "m",
                                     "points": [{"train_size": 9, "estimate": 0.5}]}],
    }  # fmt: skip
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(comparison_table(made))
    for text in (plain_text_summary(made), console.export_text()):
        assert "[red]a\ufffd[2J[/red]" in text
        assert "[bold]s" in text
        assert "\x1b" not in text
