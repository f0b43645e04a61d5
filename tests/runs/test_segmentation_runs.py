"""Segmentations from table to result: scores counted again, saved networks, partial labels."""

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from monai.inferers import sliding_window_inference
from monai.metrics import compute_dice

from voxgraft.datasets import join_tables, write_table
from voxgraft.errors import RecipeError, RunError, TableError
from voxgraft.files import read_json
from voxgraft.inference.scoring import ALL_CLASSES, evaluate_segmentation
from voxgraft.metrics.segmentation import SCORES
from voxgraft.recipes import recipe_from_dict
from voxgraft.runs import begin_run, execute_run, load_segmentation, load_trained, segments
from voxgraft.synthesis import write_anatomies

CLASSES = ("lung_left", "liver")


def label_files(table, case_id):
    """Return scan, label map and spacing of a case, as another program reads them."""
    row = table.frame[table.frame["case_id"] == case_id].iloc[0]
    scan = nibabel.load(table.root / row["image"])
    labels = np.asarray(nibabel.load(table.root / row["masks"]).dataobj)
    return scan, labels


@pytest.fixture(scope="module")
def again(segmentation, bodies):
    """Each scored case segmented with MONAI's windows, from the files: masks and references."""
    network = load_segmentation(segmentation.folder).network
    found = {}
    for case_id, split in zip(bodies.case_ids, bodies.frame["split"], strict=True):
        if split == "train":
            continue
        scan, labels = label_files(bodies, case_id)
        hu = torch.from_numpy(np.asarray(scan.dataobj, np.float32).transpose(2, 1, 0).copy())
        image = ((hu + 1000.0) / 1300.0).clamp(0.0, 1.0)
        with torch.no_grad():
            logits = sliding_window_inference(
                image[None, None], (16, 16, 16), 2, network, overlap=0.5, mode="gaussian"
            )
        own = logits[0].argmax(0).numpy().transpose(2, 1, 0)
        pairs = [(own == k + 1, labels == n) for k, n in enumerate((2, 3))]
        found[case_id] = (split, pairs, scan.header.get_zooms()[:3])
    return found


def test_the_folder_has_what_a_run_has(segmentation):
    assert segmentation.result["status"] == "finished"
    names = {path.name for path in segmentation.folder.iterdir()}
    wanted = {"recipe.yaml", "result.json", "model.safetensors", "card.json", "segmentation.csv"}
    assert wanted | {"predictions.parquet", "metrics.jsonl", "environment.json"} <= names
    assert "checkpoint" not in names
    assert segments(segmentation.folder)
    card = read_json(segmentation.folder / "card.json")
    assert card["classes"] == ["background", *CLASSES]
    assert card["decoder"] == "native"
    with pytest.raises(RunError, match=r"is a segmentation"):
        load_trained(segmentation.folder)


def test_scores_are_those_that_monai_counts(segmentation, again):
    rows = pd.read_csv(segmentation.folder / "segmentation.csv").set_index(["case_id", "class"])
    assert len(rows) == 2 * len(again) == 6
    dice = {}
    for case_id, (split, pairs, spacing) in again.items():
        for name, (own, truth) in zip(CLASSES, pairs, strict=True):
            row = rows.loc[(case_id, name)]
            assert row["split"] == split
            ours, theirs = torch.tensor(own)[None, None], torch.tensor(truth)[None, None]
            expected = float(compute_dice(ours, theirs))
            counted = 2 * (own & truth).sum() / (own.sum() + truth.sum())
            assert expected == pytest.approx(counted)
            assert row["dice"] == pytest.approx(expected, abs=2e-3)
            volume = float(np.prod(spacing)) / 1000
            assert row["reference_ml"] == pytest.approx(truth.sum() * volume, rel=1e-5)
            assert row["predicted_ml"] == pytest.approx(own.sum() * volume, rel=5e-3)
            dice[split, name, case_id] = row["dice"]
    for split in ("validation", "test"):
        means = [
            np.mean([value for key, value in dice.items() if key[:2] == (split, name)])
            for name in CLASSES
        ]
        scored = segmentation.result["metrics"][split]["case"]["dice"]["value"]
        assert scored == pytest.approx(np.mean(means))
    assert max(dice.values()) > 0.02  # there is something to count


def test_validation_in_training_is_dice_of_whole_cases(segmentation, bodies, again):
    """No resampling and no unknown voxels: the stored grid is the scan's own."""
    history = segmentation.result["fit"]["history"]
    best = max(row["validation"]["dice"] for row in history)
    assert segmentation.result["fit"]["best_value"] == best
    network = load_segmentation(segmentation.folder).network
    case_id = bodies.case_ids[4]
    scan, _ = label_files(bodies, case_id)
    hu = torch.from_numpy(np.asarray(scan.dataobj, np.float32).transpose(2, 1, 0).copy())
    with torch.no_grad():
        logits = sliding_window_inference(
            ((hu + 1000.0) / 1300.0).clamp(0, 1)[None, None], (16, 16, 16), 2, network,
            overlap=0.25, mode="gaussian",
        )  # fmt: skip
    own = logits[0].argmax(0).numpy().transpose(2, 1, 0)
    means = []
    for place, (_, truth) in enumerate(again[case_id][1]):
        mask = own == place + 1
        means.append(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))
    assert best == pytest.approx(np.mean(means), abs=2e-3)


def test_a_saved_network_gives_what_it_gave_before(segmentation):
    loaded = load_segmentation(segmentation.folder)
    with torch.no_grad():
        logits = loaded.network(segmentation.image)
    torch.testing.assert_close(logits, segmentation.logits, rtol=0, atol=0)
    assert not loaded.network.training
    assert loaded.recipe.target.classes == CLASSES


def test_data_sets_that_each_annotate_one_class_are_trained_together(make_recipe, tmp_path):
    size = {"size_voxels": (24, 32, 32), "spacing_mm": 10.0}
    parts = []
    for name, seeds in (("lung_left", range(4)), ("liver", range(10, 14))):
        made = write_anatomies(tmp_path / name, seeds, annotated=(name,), name=name, **size)
        parts.append(made.with_column("split", ["train", "train", "validation", "test"]))
    joined = join_tables(parts, tmp_path / "all.csv")
    run = begin_run(tmp_path / "run", make_recipe(joined.path, steps=40))
    result = execute_run(run.path)
    losses = [row["train_loss"] for row in result["fit"]["history"]]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    rows = pd.read_csv(run.path / "segmentation.csv").set_index(["split", "class"])["dice"]
    for split in ("validation", "test"):
        for name in CLASSES:
            scored = rows.loc[(split, name)].dropna()
            assert len(scored) == 1  # the other set's case does not annotate it
            assert 0.0 <= scored.iloc[0] <= 1.0
    predictions = pd.read_parquet(run.path / "predictions.parquet")
    known = predictions[["target_0", "target_1"]].notna().to_numpy()
    assert known.tolist() == [[True, False], [False, True]] * 2


def test_a_class_that_no_training_case_annotates_is_refused(bodies, make_recipe, tmp_path):
    said = ["spleen"] * 4 + ["lung_left liver spleen"] * 3
    table = bodies.with_column("annotated", said)
    write_table(table, bodies.root / "partial.csv")
    run = begin_run(tmp_path / "run", make_recipe(bodies.root / "partial.csv"))
    store = Path(make_recipe(bodies.path).store)
    before = {path.name for path in store.iterdir()}
    refusal = r"(?s)partial\.csv \(split 'train'\): 2 of 2 classes.*'lung_left'.*none of 4.*'liver'"
    with pytest.raises(TableError, match=refusal):
        execute_run(run.path)
    assert {path.name for path in store.iterdir()} == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_size_voxels": None}, "crop_size_voxels: missing"),
        ({"metric": "auroc"}, r"metric: is 'auroc', expected one of .*dice"),
        ({"start": {"name": "scratch", "adapt": "probe"}}, "probe fits features of whole cases"),
        ({"task": {"label_smoothing": 0.1}}, "is for whole cases"),
    ],
)
def test_impossible_recipes_are_refused(bodies, make_recipe, changes, message):
    with pytest.raises(RecipeError, match=message):
        make_recipe(bodies.path, **changes)


def test_tables_that_cannot_be_segmented_are_refused(bodies, make_recipe, tmp_path):
    recipe = make_recipe(bodies.path).to_dict()
    without = bodies.root / "without.csv"
    write_table(type(bodies)(bodies.frame.drop(columns="masks"), bodies.root), without)
    absent = dict(recipe, target=recipe["target"] | {"classes": ["liver", "brain"]})
    for number, (data, message) in enumerate(
        (
            (dict(recipe, table=str(without)), "has no column 'masks'"),
            (absent, "'brain' is annotated by none of 4 training cases: no structure"),
        )
    ):
        run = begin_run(tmp_path / str(number), recipe_from_dict(data, "the test"))
        with pytest.raises(TableError, match=message):
            execute_run(run.path)
        assert not run.result_path.exists()


def test_an_evaluation_of_its_own_table_gives_its_own_scores(segmentation, bodies):
    own = pd.read_csv(segmentation.folder / "segmentation.csv").set_index(["case_id", "class"])
    found = evaluate_segmentation(load_segmentation(segmentation.folder), bodies.split("test"))
    assert len(found.cases) == 2 * len(CLASSES)
    for row in found.cases.to_dict(orient="records"):
        wanted = own.loc[(row["case_id"], row["class"])]
        assert row["presence"] == wanted["presence"]
        for name in SCORES:
            assert row[name] == pytest.approx(wanted[name], rel=1e-6, nan_ok=True)
    metrics = pd.DataFrame(segmentation.result["metrics"]["test"]["case"]).T
    means = found.metrics[found.metrics["class"] == ALL_CLASSES].set_index("metric")["value"]
    for name in means.index:
        assert means[name] == pytest.approx(metrics["value"][name], nan_ok=True)
