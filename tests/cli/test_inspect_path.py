"""What a path is that is no checkpoint: a run, a comparison, a scan, a table, or a clear no."""

import json
from pathlib import Path

import numpy as np
import pytest

from voxgraft.cli.inspect_path import inspect_path
from voxgraft.cli.inspect_run import inspect_comparison
from voxgraft.datasets import Target
from voxgraft.errors import UsageError, VoxgraftError
from voxgraft.files import write_json
from voxgraft.models import build_encoder, build_segmentation
from voxgraft.recipes import ModelSettings, Recipe, SegmentationSettings, StartSettings, write_yaml
from voxgraft.runs import RunFolder
from voxgraft.runs.saved import save_network
from voxgraft.training import Optimization
from voxgraft.transforms import Augmentation, Preprocessing
from voxgraft.volumes import Affine, Volume, write_volume

DICE = {"value": 0.75, "reason": "", "note": "1 left out"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return the folder of a training of a segmentation that has just begun."""
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    recipe = Recipe(
        table="bodies.csv",
        target=Target(kind="segmentation", columns=("masks",), classes=("liver", "spleen")),
        metric="dice",
        preprocessing=Preprocessing(spacing_mm=(3.0, 1.5, 1.5)),
        augmentation=Augmentation(),
        model=ModelSettings(name="plain_resnet10_3d"),
        start=StartSettings(name="scratch"),
        optimization=Optimization(steps=40),
        train_size=8,
        crop_size_voxels=(16, 32, 32),
        segmentation=SegmentationSettings(decoder_width=4, mirror=(2,)),
    )
    write_yaml(folder.recipe_path, recipe.to_dict())
    return folder.path


def finish(folder: Path) -> None:
    from voxgraft.recipes import read_recipe

    recipe = read_recipe(folder / "recipe.yaml")
    task = recipe.build_task().fit(np.ones((2, 2)))
    encoder = build_encoder("plain_resnet10_3d", seed=0)
    network = build_segmentation(encoder, task.outputs, decoder="unet", decoder_width=4)
    save_network(RunFolder(folder), network, recipe, task, None)
    write_json(
        folder / "result.json",
        {
            "status": "finished",
            "train_patients": 8,
            "train_cases": 9,
            "scored_cases": {"test": 2},
            "metrics": {"test": {"case": {"dice": DICE}}},
            "fit": {"best_step": 20, "steps_done": 40, "best_value": 0.7, "metric": "dice"},
        },
    )
    (folder / "segmentation.csv").write_text(
        "split,case_id,class,dice\ntest,a,liver,0.8\ntest,b,liver,0.6\ntest,a,spleen,\n"
    )


def test_a_training_is_told_from_its_beginning(run: Path) -> None:
    found = inspect_path(run)
    assert found is not None
    assert found.facts["kind"] == "a training that has not come to its end"
    assert found.facts["status"] == "begun"
    assert found.facts["trained on"] == "8 training patients of bodies.csv"
    assert found.facts["weights"] == "none yet"
    assert "finetune" in found.hint
    (run / "metrics.jsonl").write_text('{"step": 10}\n{"step": 20}\n{"st')
    found = inspect_path(run)
    assert found is not None
    assert found.facts["status"] == "step 20 of 40"


def test_a_finished_training_has_scores_classes_and_decoder(run: Path) -> None:
    finish(run)
    found = inspect_path(run)
    assert found is not None
    facts = found.to_dict()
    assert facts["kind"] == "a training"
    assert facts["task"] == "segmentation of liver, spleen"
    assert facts["network"] == "plain_resnet10_3d"
    assert facts["start"] == "scratch"
    assert facts["trained on"] == "8 patients (9 cases) of bodies.csv"
    assert facts["seen as"] == "crops of 16 × 32 × 32 voxels"
    assert facts["best step"] == "20 of 40 (validation dice 0.7000)"
    assert facts["segmentation"]["decoder"] == "unet"
    assert facts["segmentation"]["outputs"] == ["background", "liver", "spleen"]
    assert facts["segmentation"]["spacing_mm"] == "3 × 1.5 × 1.5"
    assert facts["segmentation"]["mirrored along"] == [2]
    assert facts["scores"] == [
        {
            "split": "test",
            "cases": 2,
            "per": "case",
            "metric": "dice",
            "value": 0.75,
            "what": "Dice",
            "note": "1 left out",
        }
    ]
    assert "licence of the start" not in facts  # there is none from scratch
    assert found.hint == f"`voxgraft predict {run} SCAN --out FOLDER` segments scans"
    liver, spleen = facts["structures"]
    assert (liver["structure"], liver["cases with a Dice"]) == ("liver", 2)
    assert liver["mean Dice"] == pytest.approx(0.7)
    assert spleen["cases with a Dice"] == 0
    assert json.dumps(facts["files"]).count("model.safetensors") == 1
    several = inspect_path(run.parent)
    assert several is not None
    assert several.to_dict()["runs"] == [{"folder": "run", "finished": True}]
    # A network saved without its training is a checkpoint.
    (run / "recipe.yaml").unlink()
    assert inspect_path(run) is None
    assert inspect_path(run / "model.safetensors") is None


def test_a_comparison(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cmp"
    (folder / "runs").mkdir(parents=True)
    (folder / "plan.yaml").write_text("starts: []\n")
    run.rename(folder / "runs" / "one")
    found = inspect_path(folder)
    assert found is not None
    assert found.facts["runs"] == "0 finished, 1 begun"
    assert "compare" in found.hint
    curve = {"start": "scratch", "model": "net"}
    point = {"train_size": 4, "n_seeds": 2, "estimate": 0.5, "low": 0.4, "high": 0.6}
    counts = {"train": {"patients": 8, "cases": 9}}
    task = {"kind": "binary", "columns": ["pe"], "classes": ["no", "yes"], "metric": "auroc"}
    written = {
        "title": "Which?",
        "answer": "None.",
        "task": task | {"metric_label": "AUROC", "level": "patient"},
        "data": {"table": "t.csv", "splits": counts, "preprocessing": ["orient"]},
        "models": ["net"],
        "starts": [{"name": "scratch"}],
        "sizes": [4],
        "seeds": [0, 1],
        "runs": [{}, {}],
        "curves": [curve | {"points": [point]}],
        "created": "today",
        "voxgraft": "0",
        "command": "voxgraft compare plan.yaml",
    }
    write_json(folder / "comparison.json", written)
    facts = inspect_comparison(folder).to_dict()
    assert facts["task"] == "binary pe: no, yes"
    assert facts["table"] == "t.csv: train 8 patients (9 cases)"
    assert facts["runs"] == "0 finished, of 2 in the matrix"
    assert facts["scores"][0]["auroc"] == 0.5
    write_json(folder / "comparison.json", {"title": "mine"})
    with pytest.raises(VoxgraftError, match="not what a comparison writes"):
        inspect_path(folder)


def test_scans_tables_and_settings(run: Path, tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    write_volume(Volume(np.zeros((1, 3, 4, 5), np.int16), Affine.from_spacing((2, 1, 1))), scan)
    found = inspect_path(scan)
    assert found is not None
    assert found.facts["voxels"] == "3 × 4 × 5 (depth × height × width)"
    assert found.facts["orientation"] == "RAS"
    table = tmp_path / "cases.csv"
    table.write_text(
        "case_id,patient_id,image,split\na,p,scan.nii.gz,train\nb,p,scan.nii.gz,train\n"
    )
    found = inspect_path(table)
    assert found is not None
    assert found.to_dict()["splits"] == [{"split": "train", "cases": 2, "patients": 1}]
    found = inspect_path(run / "recipe.yaml")
    assert found is not None
    assert found.facts["kind"] == "the recipe of a training"


def test_what_is_nothing_of_ours_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("hello")
    (tmp_path / "scores.csv").write_text("case_id,dice\na,0.5\n")
    (tmp_path / "mine.yaml").write_text("a: 1\n")
    for name, words in (
        ("none", "does not exist"),
        ("empty", "an empty folder: no run, comparison or scan"),
        ("notes", "a folder with a.txt: no run"),
        ("scores.csv", "no table of cases: .*patient_id"),
        ("mine.yaml", "neither recipe nor plan"),
        ("x.dcm", "does not exist"),
    ):
        with pytest.raises(UsageError, match=words):
            inspect_path(tmp_path / name)
