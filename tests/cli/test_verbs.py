"""The command line as a stranger meets it: messages, exit codes, stdout and stderr."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from voxgraft.cli import main as cli
from voxgraft.cli.one_run import folder_for
from voxgraft.datasets import Table
from voxgraft.runs.folder import locked

Verb = Callable[..., tuple[int, str, str]]


def test_help_imports_no_torch() -> None:
    code = (
        "import sys\n"
        "from voxgraft.cli.main import app\n"
        "try:\n    app(['compare', '--help'])\n"
        "except SystemExit:\n    pass\n"
        "loaded = [m for m in ('torch', 'timm', 'pandas', 'numpy') if m in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--dry-run" in done.stdout


def test_a_users_mistake_is_one_message_and_exit_2(voxgraft: Verb, tmp_path: Path) -> None:
    code, out, err = voxgraft("compare", str(tmp_path / "none.yaml"))
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert "none.yaml is not a file" in err
    assert "Traceback" not in err


def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from voxgraft.errors import RecipeError

    monkeypatch.setattr(sys, "argv", ["voxgraft", "compare", str(tmp_path / "x.yaml"), "--debug"])
    with pytest.raises(RecipeError):
        cli.run()


def test_all_faults_of_a_plan_are_named_at_once(voxgraft: Verb, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "table: t.csv\ntarget: y\nmodels: [a]\n"
        "starts: [scratch, {name: x, sorce: y}, {name: x/y}]\n"
        "sizes: [0, many]\nseeds: [1, 1]\noptimization: {stepz: 3}\n"
        "preprocessing: {spacing_mm: [1, 1, 0]}\nlevel: hospital\n"
    )
    code, _, err = voxgraft("compare", str(plan))
    assert code == 2
    for told in (
        "starts.1.sorce: unknown key; did you mean 'source'?",
        "sizes.1",
        "seeds: expected different numbers",
        "optimization.stepz: unknown key; did you mean 'steps'?",
        "spacing_mm",
        "level",
    ):
        assert told in err


def test_compare_without_plan_or_flags_says_what_is_missing(voxgraft: Verb) -> None:
    code, _, err = voxgraft("compare", "--table", "t.csv")
    assert code == 2
    assert "--target, --start" in err


def test_a_good_table_passes_and_a_faulty_one_ends_with_1(
    voxgraft: Verb, make_shapes: Callable[..., Table], tmp_path: Path
) -> None:
    table = make_shapes(24, size=6)
    code, out, err = voxgraft("data", "check", str(table.path), "--target", "shape")
    assert (code, out) == (0, "")
    assert "24 cases of 24 patients: 0 fault(s)" in err
    frame = table.frame.copy()
    frame["image"] = [str(table.image_path(case)) for case in frame["case_id"]]
    frame.loc[2, "image"] = str(tmp_path / "gone.nii.gz")
    frame.to_csv(tmp_path / "faulty.csv", index=False)
    code, out, _ = voxgraft("data", "check", str(tmp_path / "faulty.csv"), "--json")
    assert code == 1
    findings = json.loads(out)["findings"]
    assert any("gone.nii.gz" in finding["message"] for finding in findings)


def test_split_writes_a_table_with_whole_patients(
    voxgraft: Verb, make_shapes: Callable[..., Table], tmp_path: Path
) -> None:
    from voxgraft.datasets import read_table

    table = make_shapes(40, size=4, per_patient=2)
    out = tmp_path / "split.csv"
    arguments = ["data", "split", str(table.path), "--out", str(out), "--target", "shape"]
    code, _, _ = voxgraft(*arguments)
    assert code == 0
    frame = read_table(out).frame
    assert set(frame["split"]) == {"train", "validation", "test"}
    assert (frame.groupby("patient_id")["split"].nunique() == 1).all()


def test_masks_are_no_target_of_a_split_or_a_check(voxgraft: Verb, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("case_id,patient_id,image,masks\na,a,a.nii,b.nii\n")
    for verb, more in (("check", ()), ("split", ("--out", tmp_path / "new.csv"))):
        code, _, err = voxgraft("data", verb, table, "--target", "masks", *more)
        assert code == 2
        assert "Leave out --target" in err


def test_listings_show_all_and_one(voxgraft: Verb) -> None:
    code, out, _ = voxgraft("models", "--json")
    assert code == 0
    names = [entry["name"] for entry in json.loads(out)]
    assert {"resnet50_3d", "densenet121_3d", "convnext_tiny_3d"} <= set(names)
    code, out, _ = voxgraft("sources", "efficientnet_lite0.tf_in1k", "--json")
    assert code == 0
    entry = json.loads(out)
    assert entry["layout"] == "image"
    assert entry["licence"]
    code, out, _ = voxgraft("sources", "SuPreM")  # a word in their ids
    ids = [line.split("\t")[0] for line in out.splitlines()[1:]]
    assert code == 0
    assert len(ids) >= 3
    assert all("suprem" in one for one in ids)
    code, out, _ = voxgraft("sources", ids[0])
    assert "input.spacing_mm\t1.5, 1.5, 1.5" in out.splitlines()
    code, out, _ = voxgraft("models", "segresnet_")
    assert len(out.splitlines()) > 3
    code, _, err = voxgraft("models", "resnet5_3d")
    assert code == 2
    assert "Did you mean" in err


def test_report_of_no_comparison_is_refused(voxgraft: Verb, tmp_path: Path) -> None:
    code, _, err = voxgraft("report", str(tmp_path))
    assert code == 2
    assert "comparison.json" in err


def test_doctor_names_what_it_found(voxgraft: Verb) -> None:
    code, out, _ = voxgraft("doctor", "--json")
    found = json.loads(out)
    assert code == (1 if found["problems"] else 0)
    assert {"torch", "timm", "cores", "memory (GiB)"} <= set(found["findings"])


def test_what_the_system_refuses_is_told_without_a_traceback(
    voxgraft: Verb, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A folder that may not be written cannot be made as root, so the writer says so itself.
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "x"))

    monkeypatch.setattr(cli, "app", refused)
    code, out, err = voxgraft("report", str(tmp_path))
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path / 'x'}: Permission denied.")
    assert "Traceback" not in err


def test_a_recipe_trains_in_a_new_folder_and_resumes_in_its_own(tmp_path: Path) -> None:
    planned = tmp_path / "recipe.yaml"
    planned.write_text("table: t.csv\n")
    assert folder_for(planned, None) == Path("runs") / "recipe"
    assert folder_for(planned, tmp_path / "here") == tmp_path / "here"
    with locked(tmp_path):  # as a training holds its folder
        pass
    assert folder_for(planned, None) == tmp_path
    assert folder_for(tmp_path / "other.yaml", None) == Path("runs") / "other"


def test_a_run_of_another_recipe_is_told_by_what_differs(tmp_path: Path) -> None:
    from voxgraft.errors import RunError
    from voxgraft.recipes import recipe_from_dict
    from voxgraft.runs import begin_run

    first = {
        "table": "t.csv",
        "target": {"kind": "binary", "columns": ["y"], "classes": ["no", "yes"]},
        "metric": "auroc",
        "preprocessing": {"size_voxels": [16, 16, 16]},
        "model": "plain_resnet10_3d",
        "start": "scratch",
        "optimization": {"learning_rate": 0.1},
    }
    begin_run(tmp_path, recipe_from_dict(first, "here"))
    second = {**first, "optimization": {"learning_rate": 0.5}}
    with pytest.raises(RunError) as caught:
        begin_run(tmp_path, recipe_from_dict(second, "here"))
    told = str(caught.value)
    assert "optimization.learning_rate was 0.1, is now 0.5." in told
    assert "batch_size" not in told  # only what differs


def test_a_recipe_that_cannot_be_planned_takes_no_folder(voxgraft: Verb, tmp_path: Path) -> None:
    table, recipe, out = tmp_path / "t.csv", tmp_path / "r.yaml", tmp_path / "out"
    table.write_text("case_id,patient_id,image,y\na,a,a.nii,no\nb,b,b.nii,yes\n")
    recipe.write_text(
        "table: t.csv\ntarget: {kind: binary, columns: [y], classes: ['no', 'yes']}\n"
        "metric: auroc\nmodel: plain_resnet10_3d\nstart: scratch\noptimization: {epochs: 2}\n"
    )
    code, _, err = voxgraft("finetune", recipe, "--out", out)
    assert code == 2
    assert "has no column 'split'" in err
    assert not out.exists()
    code, _, err = voxgraft("finetune", recipe, "--out", table)
    assert (code, "is a file; expected a folder" in err) == (2, True)
