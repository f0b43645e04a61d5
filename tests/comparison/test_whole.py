"""One small comparison from plan to page; killed and resumed; and used afterwards."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

import voxgraft as vg
from voxgraft.comparison.explained import Explainer
from voxgraft.datasets import Table
from voxgraft.errors import RecipeError, RunError, VolumeError
from voxgraft.volumes import Affine
from voxgraft.weights import read_state_dict

COMMAND = [sys.executable, "-m", "voxgraft.cli.main"]


def _plan(table: Table) -> dict[str, Any]:
    return {
        "title": "Balls <and> boxes",
        "table": str(table.path),
        "target": "shape",
        "preprocessing": {"intensity": {"kind": "min_max"}},
        "models": ["plain_resnet10_3d"],
        "starts": ["scratch", {"name": "probe", "adapt": "probe"}],
        "sizes": [8, "all"],
        "seeds": 2,
        "optimization": {"steps": 5, "batch_size": 6, "eval_every": 3},
        "learning_rate": {"grid": [1e-3, 1e-2], "steps": 3},
        "baselines": ["radius_mm"],
        "replicates": 200,
        "threads": 1,
    }


@pytest.fixture(scope="module")
def table(make_shapes: Callable[..., Table]) -> Table:
    return make_shapes(48, size=8)


@pytest.fixture(scope="module")
def finished(table: Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "comparison"
    vg.compare(_plan(table), folder, jobs=2)
    return folder


def _start(plan: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [*COMMAND, "compare", str(plan), "--out", str(out), "--jobs", "2"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _kill_when(process: subprocess.Popen[bytes], happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not happened():
        if process.poll() is not None or time.monotonic() > deadline:
            said = process.communicate()[1].decode()
            pytest.fail(f"the comparison ended before it could be killed: {said}")
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_killed_comparison_ends_with_the_same_bits(
    table: Table, finished: Path, tmp_path: Path
) -> None:
    plan, out = tmp_path / "plan.yaml", tmp_path / "comparison"
    plan.write_text(yaml.safe_dump(_plan(table)))

    def exists(pattern: str, number: int) -> Callable[[], bool]:
        return lambda: len(list(out.glob(pattern))) >= number

    _kill_when(_start(plan, out), exists("trials/*/environment.json", 1))
    _kill_when(_start(plan, out), exists("trials/*/result.json", 2))
    _kill_when(_start(plan, out), exists("runs/*/predictions.parquet", 3))
    done = sorted(path.parent.name for path in out.glob("runs/*/result.json"))
    before = {name: (out / "runs" / name / "result.json").stat().st_mtime_ns for name in done}
    process = _start(plan, out)
    said = process.communicate()[1].decode()
    assert process.returncode == 0, said

    for name, changed in before.items():
        assert (out / "runs" / name / "result.json").stat().st_mtime_ns == changed
    runs = sorted(path.name for path in (finished / "runs").iterdir())
    assert runs == sorted(path.name for path in (out / "runs").iterdir())
    for name in runs:
        expected = pd.read_parquet(finished / "runs" / name / "predictions.parquet")
        pd.testing.assert_frame_equal(
            pd.read_parquet(out / "runs" / name / "predictions.parquet"),
            expected,
            check_exact=True,
        )
        ours, theirs = (
            read_state_dict(p / "runs" / name / "model.safetensors") for p in (out, finished)
        )
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    new, old = (json.loads((p / "comparison.json").read_text()) for p in (out, finished))
    for key in ("answer", "differences", "curves", "baselines", "label_savings"):
        assert new[key] == old[key]


def test_the_page_shows_every_start_and_escapes_the_title(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert "Balls &lt;and&gt; boxes" in page
    assert "<and>" not in page
    comparison = json.loads((finished / "comparison.json").read_text())
    assert {row["start"] for row in comparison["runs"]} == {"scratch", "probe"}
    assert {row["status"] for row in comparison["runs"]} == {"finished"}
    assert [row["name"] for row in comparison["baselines"]] == ["majority", "radius_mm"]


def test_both_arms_train_on_the_same_nested_patients(finished: Path) -> None:
    comparison = json.loads((finished / "comparison.json").read_text())
    assert comparison["sizes"] == [8, comparison["data"]["splits"]["train"]["patients"]]
    for row in comparison["runs"]:
        result = json.loads((finished / row["folder"] / "result.json").read_text())
        assert result["train_patients"] == row["train_size"]


def test_the_learning_rate_has_an_equal_budget_and_a_probe_needs_none(finished: Path) -> None:
    trials = json.loads((finished / "trials.json").read_text())
    for name, row in trials.items():
        if "__probe__" in name:
            assert row["grid"] == []
            assert row["chosen"] is None
        else:
            assert row["grid"] == [1e-3, 1e-2]
            assert row["steps"] == 6
            best = max(range(2), key=lambda place: row["values"][place])
            if row["values"][0] != row["values"][1]:
                assert row["chosen"] == row["grid"][best]


def test_the_metric_of_a_run_is_that_of_its_predictions(finished: Path) -> None:
    from sklearn.metrics import roc_auc_score

    comparison = json.loads((finished / "comparison.json").read_text())
    for row in comparison["runs"]:
        frame = pd.read_parquet(finished / row["folder"] / "predictions.parquet")
        frame = frame[frame["split"] == "test"]
        expected = roc_auc_score(frame["target_0"], frame["score_0"])
        assert row["metrics"]["auroc"] == pytest.approx(expected, abs=1e-12)


def test_a_changed_setting_is_refused_and_an_added_seed_is_not(
    table: Table, finished: Path
) -> None:
    changed = _plan(table)
    changed["optimization"]["steps"] = 7
    with pytest.raises(RecipeError, match=r"optimization: was .*'steps': 5.*is now .*'steps': 7"):
        vg.compare(changed, finished)
    renamed = _plan(table)
    renamed["starts"][1] = {"name": "probe", "adapt": "frozen"}
    with pytest.raises(RecipeError, match="starts: 'probe' was"):
        vg.compare(renamed, finished)
    again = vg.compare(_plan(table) | {"title": "Another title"}, finished)
    assert again["title"] == "Another title"


def test_a_changed_table_is_refused(table: Table, finished: Path, tmp_path: Path) -> None:
    frame = table.frame.copy()
    frame["image"] = [str(table.image_path(case)) for case in frame["case_id"]]
    frame.loc[0, "radius_mm"] = 1.5
    frame.to_csv(tmp_path / "table.csv", index=False)
    plan = _plan(table) | {"table": str(tmp_path / "table.csv")}
    with pytest.raises(RecipeError, match="table"):
        vg.compare(plan, finished)


def test_a_run_predicts_as_it_did_when_it_was_tested(table: Table, finished: Path) -> None:
    run = vg.load_run(finished / "runs" / "plain_resnet10_3d__scratch__n8__s0")
    known = pd.read_parquet(run.folder / "predictions.parquet")
    known = known[known["split"] == "test"].iloc[:4]
    frame = vg.predict(run, [table.image_path(case) for case in known["case_id"]])
    np.testing.assert_allclose(frame["probability_box"], known["score_0"], atol=2e-3)
    np.testing.assert_allclose(frame["probability_ball"] + frame["probability_box"], 1.0)
    chosen = np.where(frame["probability_box"] > 0.5, "box", "ball")
    assert list(frame["predicted"]) == list(chosen)


def test_evaluation_is_by_site_and_equals_the_runs_own(table: Table, finished: Path) -> None:
    folder = finished / "runs" / "plain_resnet10_3d__scratch__n8__s0"
    cases = pd.read_csv(finished / "cases.csv", dtype=str)
    test = vg.read_table(finished / "cases.csv").split("test")
    result = vg.evaluate(folder, test)
    rows = result.metrics[
        (result.metrics["metric"] == "auroc") & (result.metrics["level"] == "case")
    ]
    assert list(rows["site"]) == ["all", "A", "B"]
    stored = json.loads((folder / "result.json").read_text())
    expected = stored["metrics"]["test"]["case"]["auroc"]["value"]
    assert rows["value"].iloc[0] == pytest.approx(expected, abs=0.02)
    assert rows["low"].iloc[0] <= rows["value"].iloc[0] <= rows["high"].iloc[0]
    assert rows["n_cases"].iloc[0] == (cases["split"] == "test").sum()


def test_the_examples_are_explained_by_a_run_of_the_shown_start(finished: Path) -> None:
    comparison = json.loads((finished / "comparison.json").read_text())
    for example in comparison["examples"]:
        heat = example["heat"]
        assert heat["run"] in {row["id"] for row in comparison["runs"]}
        assert heat["train_size"] == comparison["sizes"][-1]
        frame = pd.read_parquet(finished / "runs" / heat["run"] / "predictions.parquet")
        known = frame[frame["case_id"] == example["case_id"]]["score_0"].iloc[0]
        assert heat["score"] == pytest.approx(known, abs=2e-3)
        with np.load(finished / example["file"]) as content:
            assert content["planes"].tolist() == ["axial", "coronal", "sagittal"]
            for number in range(3):
                assert content[f"plane{number}"].shape == content[f"heat{number}"].shape == (8, 8)
            assert content["slice_heat"].max() in (0.0, 1.0)
    page = (finished / "report.html").read_text()
    assert "no proof of a cause" in page
    assert "shown without heat" not in page


def test_without_kept_weights_the_reason_is_told(finished: Path, tmp_path: Path) -> None:
    rows = json.loads((finished / "comparison.json").read_text())["runs"]
    image, affine = np.zeros((1, 8, 8, 8), np.float32), Affine.from_spacing((1, 1, 1))
    arrays, heat = Explainer(tmp_path, rows)(image, affine, pd.Series({"target_0": 0.0}))
    assert arrays == {}
    assert heat == {"reason": "no run of this start kept its weights"}


def test_broken_scans_are_named_together_and_nothing_is_predicted(
    finished: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(b"no scan")
    run = finished / "runs" / "plain_resnet10_3d__scratch__n8__s0"
    with pytest.raises(VolumeError, match="2 of 2 scans cannot be predicted") as caught:
        vg.predict(run, [tmp_path / "broken.nii.gz", tmp_path / "missing.nii.gz"])
    assert "broken.nii.gz" in str(caught.value)
    assert "missing.nii.gz" in str(caught.value)


def test_a_damaged_or_unfinished_run_is_refused_by_name(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run folder: it has no recipe\.yaml"):
        vg.load_run(tmp_path)
    source = finished / "runs" / "plain_resnet10_3d__scratch__n8__s0"
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("recipe.yaml", "card.json", "model.safetensors"):
        (copy / name).write_bytes((source / name).read_bytes())
    with pytest.raises(RunError, match="holds no finished run"):
        vg.load_run(copy)
    (copy / "result.json").write_bytes((source / "result.json").read_bytes())
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-5] ^= 0x10
    (copy / "model.safetensors").write_bytes(weights)
    with pytest.raises(RunError, match="not the file that its card describes"):
        vg.load_run(copy)


def test_a_run_is_a_source_again(finished: Path) -> None:
    source = finished / "runs" / "plain_resnet10_3d__scratch__n8__s0"
    grafted = vg.graft(str(source), "plain_resnet10_3d")
    trained = vg.load_run(source).network.encoder.state_dict()
    for name, tensor in grafted.encoder.state_dict().items():
        assert bool((tensor == trained[name]).all())
    assert grafted.report.coverage == 1.0


def test_two_processes_cannot_run_the_same_comparison(table: Table, finished: Path) -> None:
    import fcntl

    with (finished / ".lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process is running the comparison"):
            vg.compare(_plan(table), finished)
    assert os.access(finished, os.W_OK)
