"""Trainings on windows of studies, end to end: labels by slice, pooled scores, prediction."""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voxgraft.datasets import Target, Windows, read_table, write_slice_labels
from voxgraft.inference import evaluate, load_trained, predict
from voxgraft.recipes import ModelSettings, Recipe, StartSettings, recipe_from_dict
from voxgraft.runs import begin_run, execute_run
from voxgraft.training import Optimization
from voxgraft.transforms import Augmentation, Preprocessing, Window
from voxgraft.volumes import Affine, Volume, write_volume

TARGET = Target(kind="binary", columns=("pe",), classes=("no", "yes"))


@pytest.fixture(scope="module")
def table_path(tmp_path_factory) -> Path:
    """24 studies of 20 to 36 slices; half of them have a bright clot on five slices."""
    folder = tmp_path_factory.mktemp("studies")
    rng = np.random.default_rng(0)
    rows, labels = [], {}
    for number in range(24):
        depth, positive = int(rng.integers(20, 37)), number % 2
        voxels = rng.normal(40.0, 30.0, (depth, 24, 24))
        first = int(rng.integers(0, depth - 5))
        if positive:
            voxels[first : first + 5, 8:16, 8:16] = 500.0
        case = f"s{number:02d}"
        affine = Affine(np.eye(4)[[2, 1, 0, 3]])
        write_volume(Volume(voxels[None].astype(np.float32), affine), folder / f"{case}.nii.gz")
        labels[case] = np.zeros((depth, 1), dtype=bool)
        labels[case][first : first + 5] = bool(positive)
        split = "train" if number < 12 else "validation" if number < 18 else "test"
        rows.append(
            {
                "case_id": case,
                "patient_id": f"p{number:02d}",
                "image": f"{case}.nii.gz",
                "pe": "yes" if positive else "no",
                "split": split,
                "slice_labels": "slices.csv",
            }
        )
    write_slice_labels(folder / "slices.csv", ("pe",), labels)
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def recipe(table: Path, **changes) -> Recipe:
    plain = Recipe(
        table=str(table),
        target=TARGET,
        metric="auroc",
        preprocessing=Preprocessing(intensity=Window.named("pe")),
        augmentation=Augmentation(),
        model=ModelSettings(name="plain_resnet10_3d"),
        start=StartSettings(name="scratch"),
        optimization=Optimization(
            steps=14, batch_size=6, eval_every=7, learning_rate=3e-3, threads=1
        ),
        windows=Windows(size_voxels=(8, 20, 20), min_positive_slices=2),
        memory_format="contiguous",
        store=str(table.parent / "store"),
    )
    return dataclasses.replace(plain, **changes)


@pytest.mark.parametrize("aggregate", ["max", "attention"])
def test_a_training_on_windows(table_path, tmp_path, aggregate):
    windows = Windows(size_voxels=(8, 20, 20), min_positive_slices=2, aggregate=aggregate)
    chosen = recipe(table_path, windows=windows)
    assert recipe_from_dict(chosen.to_dict(), "again") == chosen
    begin_run(tmp_path, chosen)
    result = execute_run(tmp_path)
    assert result["train_cases"] == 12
    assert result["metrics"]["test"]["case"]["auroc"]["value"] >= 0.75
    predictions = pd.read_parquet(tmp_path / "predictions.parquet")
    assert len(predictions) == 12  # studies, not windows
    run = load_trained(tmp_path)
    test = read_table(table_path).split("test")
    scans = [test.image_path(case) for case in test.frame["case_id"]]
    found = predict(run, scans)["probability_yes"]
    stored = predictions[predictions["split"] == "test"]["score_0"]
    np.testing.assert_allclose(found, stored, atol=2e-3)  # the store keeps float16
    again = evaluate(run, test).predictions["score_0"]
    np.testing.assert_allclose(again, found, rtol=1e-6)
    if aggregate == "max":
        assert result["train_items"] > 24
        windows_of = pd.read_parquet(tmp_path / "windows.parquet")
        pooled = windows_of.groupby("case_id")["score_0"].max()
        expected = predictions.set_index("case_id")["score_0"]
        np.testing.assert_allclose(pooled.loc[expected.index], expected)
    else:
        assert result["train_items"] == 12


def test_a_study_alone_scores_as_among_others(table_path, tmp_path):
    windows = Windows(size_voxels=(8, 20, 20), min_positive_slices=2, aggregate="attention")
    begin_run(tmp_path, recipe(table_path, windows=windows))
    execute_run(tmp_path)
    run = load_trained(tmp_path)
    rows = pd.read_parquet(tmp_path / "predictions.parquet").set_index("case_id")
    table = read_table(table_path)
    for case in ("s18", "s23"):
        alone = predict(run, [table.image_path(case)])["probability_yes"][0]
        assert alone == pytest.approx(rows.loc[case, "score_0"], abs=2e-3)


def test_a_network_may_have_windows_of_its_own(table_path, tmp_path):
    own = Windows(size_voxels=(4, 20, 20), min_positive_slices=1, neighbors=1, aggregate="mean")
    model = ModelSettings(name="plain_resnet10_3d", windows=own, batch_size=4)
    chosen = recipe(table_path, model=model)
    assert recipe_from_dict(chosen.to_dict(), "again") == chosen
    begin_run(tmp_path, chosen)
    execute_run(tmp_path)
    run = load_trained(tmp_path)
    assert (run.in_channels, run.volume_channels) == (3, 1)
    scan = read_table(table_path).image_path("s18")
    assert 0.0 <= predict(run, [scan])["probability_yes"][0] <= 1.0
