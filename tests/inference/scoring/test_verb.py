"""``voxgraft evaluate`` with segmentations: what it prints, writes and refuses."""

import json

import pandas as pd
import pytest

import voxgraft as vg
from voxgraft.datasets import Target
from voxgraft.errors import RunError
from voxgraft.inference.scoring import SegmentationEvaluation
from voxgraft.recipes import ModelSettings, Recipe, StartSettings, write_yaml
from voxgraft.runs import RunFolder
from voxgraft.training import Optimization
from voxgraft.transforms import Augmentation, Keep, Preprocessing


@pytest.fixture
def maps(small, tmp_path):
    for case in "abcd":
        small.write_labels(small.guesses[case], tmp_path / "maps" / f"{case}.nii.gz")
    return tmp_path / "maps"


def test_scores_of_files(small, maps, voxgraft, tmp_path) -> None:
    classes = ("--classes", "liver=1,spleen=2")
    given = ("evaluate", "--predictions", maps, small.path, *classes, "--lesions", "spleen")
    out = tmp_path / "out"
    code, said, errors = voxgraft(*given, "--out", out)
    assert code == 0, errors
    lines = [line.split("\t") for line in said.splitlines()]
    assert lines[0][:5] == ["site", "class", "cases", "patients", "present"]
    assert [line[:2] for line in lines[1:6]] == [
        ["all", "liver"],
        ["all", "spleen"],
        ["all", "mean of classes"],
        ["A", "mean of classes"],
        ["B", "mean of classes"],
    ]
    assert lines[2][2:5] == ["3", "2", "2"]
    for words in (
        "not predicted by the tool: aorta",
        "hausdorff95_mm: spleen 2 of 3 (1 class not predicted; 1 class absent in the reference)",
        "a lesion is found if a predicted component shares a voxel with it",
        "patients, ranked by: volume of the largest predicted lesion",
    ):
        assert words in errors
    cases = pd.read_csv(out / "cases.csv")
    assert len(cases) == 10
    assert {"roc.csv", "lesions.csv", "patients.csv", "summary.json"} <= {
        path.name for path in out.iterdir()
    }
    code, said, errors = voxgraft(*given[:-2], "--out", out, "--json", "--split", "test")
    assert code == 2
    assert "no column 'split'" in errors
    code, said, errors = voxgraft(*given[:-2], "--out", out, "--json")
    assert code == 0
    told = json.loads(said)
    assert told["tolerance_mm"] == 2.0
    assert "unknown" in told["empty_masks"]
    assert "lesions" not in told
    assert not (out / "roc.csv").exists()  # of the evaluation before


def test_mistakes_are_named(small, maps, voxgraft, tmp_path) -> None:
    table = small.path
    files = ("--predictions", maps, table, "--classes", "liver=1,spleen=2")
    for words, given in (
        ("without a run", ("--predictions", maps, maps, table)),
        ("expected RUN TABLE", (table,)),
        ("expected one of any, iou, pancreas", (*files, "--lesion-rules", "best")),
        ("lesions of which class", (*files, "--lesion-rules", "iou")),
        ("lesions of which class", (*files, "--min-lesion-mm3", "5")),
        ("needs --lesions", (*files, "--patient-score", "volume")),
        ("expected volume or probability", (*files, "--patient-score", "size")),
        ("have no probabilities", (*files, "--lesions", "liver", "--patient-score", "probability")),
        ("Say it, as liver=30", (*files, "--lesion-rules", "pancreas", "--lesions", "liver")),
        ("expected CLASS=VOXELS", (*files, "--lesion-rules", "pancreas", "--lesions", "liver=a")),
        (
            "pancreas cannot be counted",
            (*files, "--lesion-rules", "pancreas", "--lesions", "liver=9"),
        ),
        ("own smallest sizes", (*files, "--lesion-rules", "pancreas", "--min-iou", "0.5")),
        ("is a file", (*files, "--out", table)),
        ("--device is for a RUN", (*files, "--device", "cpu")),
        ("tolerance_mm is -1", (*files, "--tolerance-mm", "-1")),
        ("is no run folder", (tmp_path, table)),
    ):
        code, _, said = voxgraft("evaluate", *given)
        assert code == 2, said
        assert words in " ".join(said.split())


def test_options_of_segmentations_are_refused_elsewhere(small, voxgraft, tmp_path) -> None:
    recipe = Recipe(
        table="table.csv",
        target=Target(kind="binary", columns=("pe",), classes=("no", "yes")),
        metric="auroc",
        preprocessing=Preprocessing(intensity=Keep(), background=0.0),
        augmentation=Augmentation(),
        model=ModelSettings(name="plain_resnet10_3d"),
        start=StartSettings(name="scratch"),
        optimization=Optimization(),
    )
    write_yaml(RunFolder(tmp_path).recipe_path, recipe.to_dict())
    given = ("evaluate", tmp_path, small.path)
    code, _, said = voxgraft(*given, "--lesions", "liver", "--device", "cpu")
    assert code == 2
    assert "--lesions, --device: for segmentations" in said
    code, _, said = voxgraft(*given, "--classes", "liver")
    assert code == 2
    assert "--classes" in said
    with pytest.raises(RunError):
        vg.evaluate(tmp_path, small.path)  # not finished


def test_the_python_functions(small, maps, make_run) -> None:
    classes = "liver=1,spleen=2"
    files = vg.evaluate_predictions(maps, small.path, classes=classes, lesions=["spleen"])
    run = vg.evaluate(make_run(), small.table, lesions=["spleen"])
    assert isinstance(run, SegmentationEvaluation)
    assert run.cases.equals(files.cases)
    assert run.lesions.equals(files.lesions)
