from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from voxgraft.reports import parse_comparison, write_report
from voxgraft.reports.predictions import test_predictions as read_predictions
from voxgraft.reports.slices import read_example

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


TWO = ("scratch", "imagenet-average")
SMALL = {"starts": TWO, "examples": 1}
KINDS = {
    "binary": {"kind": "binary"},
    "regression": SMALL | {"kind": "regression", "sizes": (50, 200)},
    "multiclass": SMALL | {"kind": "multiclass", "sizes": (50, 200), "seeds": (0, 1)},
    "multilabel": SMALL | {"kind": "multilabel", "sizes": (200,), "seeds": (4,)},
    "oneseed": SMALL | {"sizes": (50,), "seeds": (0,), "patients": 30},
    "failed": SMALL
    | {"failed": True, "models": ("lite0_3d", "resnet18_3d"), "sizes": (25, 400), "seeds": (0, 1)},
}


@pytest.fixture(params=list(KINDS))
def made(request, reported):
    return reported(request.param, **KINDS[request.param])


def test_every_kind_of_comparison_gives_a_whole_page(made):
    folder, comparison = made
    page = page_of(folder)
    assert comparison["answer"] in page.words
    assert all(statement in page.words for statement in comparison["statements"])
    for fact in ("Test set", "Seeds", "Intervals", "Limits", "Get it again", "All runs", "Cost"):
        assert fact in page.words
    assert page.all("html")[0]["lang"] == "en"
    assert (folder / "report.html").stat().st_size < 5_000_000
    assert not list(folder.rglob(".tmp-*"))


def test_nothing_is_loaded_from_elsewhere_and_every_link_exists(made):
    folder, _ = made
    page = page_of(folder)
    assert not page.all("link")
    assert not page.all("iframe")
    assert not [script for script in page.all("script") if "src" in script]
    css = "".join(re.findall(r"<style>.*?</style>", (folder / "report.html").read_text(), re.S))
    assert "url(" not in css
    assert "@import" not in css
    for image in page.all("img"):
        assert image["src"].startswith("data:image/png;base64,")
        assert image["alt"]
    ids = {attributes["id"] for _, attributes in page.tags if attributes.get("id")}
    for link in page.all("a"):
        target = link["href"]
        if target.startswith("#"):
            assert target[1:] in ids
        elif not target.startswith("https://arxiv.org/"):
            assert (folder / target).is_file(), target


def test_ids_are_unique_and_references_inside_pictures_hold(made):
    folder, _ = made
    text = (folder / "report.html").read_text()
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    used = re.findall(r"url\(#([^)]+)\)", text) + re.findall(r'<use [^>]*href="#([^"]+)"', text)
    assert used
    assert set(used) <= set(ids)


def test_headings_are_in_order_and_pictures_are_described(made):
    folder, _ = made
    page = page_of(folder)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    described = [a for _, a in page.tags if a.get("role") == "img"]
    assert len(described) >= 3
    assert all(len(a["aria-label"]) > 30 for a in described)
    assert len(page.all("figcaption")) >= 3


def test_every_figure_is_there_as_png_and_svg(made):
    folder, _ = made
    stems = {path.stem for path in (folder / "figures").iterdir()}
    for stem in stems:
        png, svg = folder / f"figures/{stem}.png", folder / f"figures/{stem}.svg"
        assert png.read_bytes().startswith(b"\x89PNG")
        assert "</svg>" in svg.read_text()
    kinds = {stem.split("-")[0] for stem in stems}
    is_regression = made[1]["task"]["kind"] == "regression"
    drawn = {"scatter", "errors"} if is_regression else {"roc", "calibration"}
    assert kinds == {"learning", "differences", "slices"} | drawn


def test_numbers_have_a_true_minus_and_their_unit(reported):
    folder, _ = reported("regression", **KINDS["regression"])
    words = page_of(folder).words
    assert "MAE (years) per case" in words
    assert re.search(r"−\d", words)
    assert not re.search(r"\[-\d", words)


def test_failed_runs_are_named_and_not_averaged_in_silence(reported):
    folder, comparison = reported("failed", **KINDS["failed"])
    words = page_of(folder).words
    n = sum(bool(r["flags"]) or r["status"] != "finished" for r in comparison["runs"])
    assert f"{n} of {len(comparison['runs'])} runs failed, diverged or are flagged" in words
    assert "N = 25, seeds 0, 1: failed (CUDA out of memory)" in words
    assert "diverged; loss not finite" in words
    assert "N = 25; resnet18_3d, imagenet-average, N = 25: no estimate, no run finished." in words
    assert "†" in words


def test_with_one_seed_the_page_says_what_its_intervals_leave_out(reported):
    folder, _ = reported("oneseed", **KINDS["oneseed"])
    assert "with one seed they do not cover the chance of training" in page_of(folder).words


def test_what_the_runs_recorded_is_told(reported):
    words = page_of(reported("binary", kind="binary")[0]).words
    assert "best, before: 0.410 (15 runs); best, after: 0.020 (15 runs)" in words
    assert "99.9% of its parameters from lite0.ra_in1k" in words
    assert "head of the new task (2 tensors)" in words
    assert "encoder.blocks.6.2.conv_pw.weight ← blocks.6.2.conv_pw.weight" in words
    assert "largest absolute difference 3.0e−06 (allowed 1.0e−04); interior slices" in words
    assert "at the edge of the grid" in words


def test_metrics_per_patient_reasons_and_notes_are_shown(tmp_path, make_comparison):
    made = make_comparison(
        tmp_path, "regression", starts=TWO, sizes=(50,), seeds=(0,), examples=0, patients=20
    )
    made["task"]["level"] = "patient"
    made["reference"] = "scratch"
    made["interval"] = None
    for row in made["differences"]:
        row |= {"model": "", "note": "few patients"}
    made["curves"][0]["points"][0] |= {"method": "jackknife t over patients", "flagged": ["seed 0"]}
    made["runs"][0]["metrics_patient"] = {"mae": 77.125}
    made["runs"][0]["undefined"] = {"r2": "all targets are equal"}
    made["data"]["splits"]["test"]["classes"] = {"mean": 51.25, "sd": 9.5}
    made["starts"][1]["trained_on"] = ["ImageNet-1k"]
    (tmp_path / "comparison.json").write_text(json.dumps(made))
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    for text in (
        "metrics per patient on the test split", "77.1", "R²: all targets are equal.",
        "imagenet-average, N = 50: few patients.", "† scratch, N = 50: seed 0.", "51.2",
        "Intervals 95% interval: jackknife t over patients", "Trained on ImageNet-1k",
    ):  # fmt: skip
        assert text in page.words, text


EVIL = '<script>alert("x")</script> & <b>$\\frac{1}{2}$ 結節 \x1b[31m\ud800'


def test_text_of_the_comparison_is_escaped_everywhere(tmp_path, make_comparison):
    made = make_comparison(
        tmp_path, starts=("scratch", "evil"), sizes=(50, 400), seeds=(0,), examples=1
    )
    text = json.dumps(made).replace('"evil"', json.dumps(EVIL))
    made = json.loads(text)
    for key in ("title", "note", "answer", "command"):
        made[key] = f"{key} {EVIL}"
    made["statements"] = made["reproduce"] = [EVIL]
    made["data"] |= {"table": EVIL, "notices": [EVIL], "overlap": [EVIL], "sites": {EVIL: EVIL}}
    made["starts"][1] |= {"paper": "javascript:alert(1)", "description": EVIL}
    made["starts"][1]["graft"]["fresh"][0] = {"name": EVIL, "because": EVIL}
    made["environment"] = {EVIL: EVIL}
    made["runs"][0]["error"] = EVIL
    made["examples"][0] |= {"target": EVIL, "why": EVIL}
    made["task"]["classes"] = ["a", EVIL]
    (tmp_path / "comparison.json").write_text(json.dumps(made))
    html = write_report(tmp_path).read_text(encoding="utf-8")
    page = Page(html)
    assert len(page.all("script")) == 1
    assert not page.all("b")
    assert "alert" not in "".join(re.findall(r"<script>.*?</script>", html, re.S))
    assert '<script>alert("x")</script>' in page.words
    assert not [link for link in page.all("a") if "javascript" in link["href"]]
    assert "\x1b" not in html
    assert "The figures' font lacks these characters of the names: 節 結" in page.words


@pytest.mark.parametrize(
    "content",
    [
        {"format": 1, "task": {"kind": "binary", "metric": "auroc"}},
        {
            "format": 1,
            "task": {"kind": "regression", "metric": "mae"},
            "starts": [{"name": "scratch"}],
            "models": ["m"],
            "curves": [{"start": "scratch", "model": "m", "points": [{"train_size": 9}]}],
            "baselines": [{"name": "mean", "reason": "no test case"}],
            "differences": [{"model": "m", "train_size": 9, "start": "a", "against": "b"}],
            "label_savings": [{"model": "m", "start": "a", "against": "b"}],
            "trials": [{"start": "a", "model": "m"}],
            "examples": [{"case_id": "c"}],
            "cost": [{"start": "a", "model": "m"}],
        },
    ],
)
def test_a_comparison_with_almost_nothing_still_has_a_page(tmp_path, content):
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    assert "No conclusion: the comparison holds no verdict yet." in page.words


def test_unusable_predictions_and_examples_are_named(tmp_path, make_comparison):
    made = make_comparison(tmp_path, starts=TWO, sizes=(400,), seeds=(0, 1), examples=4)
    ids = [run["id"] for run in made["runs"]]
    (tmp_path / "runs" / ids[0] / "predictions.parquet").unlink()
    damaged = tmp_path / "runs" / ids[1] / "predictions.parquet"
    damaged.write_bytes(damaged.read_bytes()[:300])
    made["runs"][2]["folder"] = "../elsewhere"
    made["examples"][0]["file"] = "/etc/passwd"
    made["examples"][1]["file"] = "examples/none.npz"
    (tmp_path / made["examples"][2]["file"]).write_bytes(b"PK\x03\x04 not a zip")
    (tmp_path / "comparison.json").write_text(json.dumps(made))
    words = Page(write_report(tmp_path).read_text(encoding="utf-8")).words
    left_out = "is left out of the plots of predictions: predictions.parquet"
    assert f"Run {ids[0]} {left_out} is missing." in words
    assert f"Run {ids[1]} {left_out} is damaged" in words
    assert "its folder '../elsewhere' is not inside the comparison's folder" in words
    assert "Example c0000 is not shown: '/etc/passwd' is not inside the comparison's" in words
    assert "Example c0001 is not shown: examples/none.npz is missing." in words
    assert "Example c0002 is not shown: examples/c0002.npz is damaged" in words
    assert "c0003" in words


def test_damaged_binary_files_never_end_in_a_traceback(tmp_path, make_comparison):
    made = make_comparison(
        tmp_path, starts=("scratch",), sizes=(50,), seeds=(0,), patients=10, examples=1
    )
    comparison = parse_comparison(made, "here")
    predictions = tmp_path / made["runs"][0]["folder"] / "predictions.parquet"
    image = tmp_path / made["examples"][0]["file"]
    rng = np.random.default_rng(5)
    whole = {path: path.read_bytes() for path in (predictions, image)}
    for _ in range(150):
        for path, content in whole.items():
            broken = np.frombuffer(content, np.uint8).copy()
            broken[rng.integers(0, len(broken), rng.integers(1, 9))] = rng.integers(0, 256)
            path.write_bytes(broken[: rng.choice([len(broken), rng.integers(1, len(broken))])])
        found, faults = read_predictions(comparison, tmp_path)
        assert len(faults) + len(found) == 1
        read = read_example(tmp_path, comparison.examples[0])
        assert isinstance(read, str) or read[0].ndim == 3


def test_figures_of_a_former_report_are_removed_and_others_stay(tmp_path, make_comparison):
    make_comparison(tmp_path, starts=TWO, sizes=(400,), seeds=(0,), examples=1)
    (tmp_path / "figures").mkdir()
    for name in ("roc-old_start.png", "mine.png"):
        (tmp_path / "figures" / name).write_bytes(b"x")
    write_report(tmp_path)
    assert not (tmp_path / "figures/roc-old_start.png").exists()
    assert (tmp_path / "figures/mine.png").exists()


def test_the_same_folder_gives_the_same_page(tmp_path, make_comparison):
    make_comparison(tmp_path, starts=TWO, sizes=(400,), seeds=(0,), examples=1)
    first = write_report(tmp_path).read_bytes()
    assert write_report(tmp_path).read_bytes() == first


def test_reports_load_no_torch():
    code = (
        "import sys, voxgraft.reports, voxgraft.reports.report;"
        "bad = {'torch', 'timm', 'monai'} & set(sys.modules); assert not bad, bad;"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
