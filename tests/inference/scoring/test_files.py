"""Predictions of any tool: the same masks in every layout give the same scores."""

import json

import numpy as np
import pytest

from voxgraft.errors import InferenceError, TableError
from voxgraft.inference import SegmentedScan, write_segmented
from voxgraft.inference.scoring import (
    LesionQuestion,
    evaluate_predictions,
    evaluate_segmentation,
    match_names,
    parse_classes,
)
from voxgraft.volumes import Affine

PREDICTED = "abcd"
"""Case e annotates nothing that is predicted, and needs none."""
VALUES = "liver=1,spleen=2"


def write_maps(small, folder, name="{}.nii.gz", affine=None, step=1):
    for case in PREDICTED:
        labels = np.ascontiguousarray(small.guesses[case][::step])
        small.write_labels(labels, folder / name.format(case), affine or small.affine)
    return folder


@pytest.fixture(scope="module")
def wanted(small, tmp_path_factory):
    folder = write_maps(small, tmp_path_factory.mktemp("maps"))
    return evaluate_predictions(folder, small.table, classes=VALUES)


def test_files_are_scored_as_the_run_that_gives_them(small, make_run, wanted) -> None:
    assert wanted.cases.equals(evaluate_segmentation(make_run(), small.table).cases)


@pytest.mark.parametrize("layout", ["nnunet", "monai", "totalsegmentator", "suprem", "own"])
def test_layouts_of_tools(small, tmp_path, wanted, layout) -> None:
    classes = ""
    if layout == "nnunet":  # values in another order, names in other words
        for case in PREDICTED:
            labels = np.array([0, 2, 1], np.uint8)[small.guesses[case]]
            small.write_labels(labels, tmp_path / f"{case}.nii.gz")
        said = {"labels": {"background": 0, "Spleen": 1, "LIVER": 2}}
        (tmp_path / "dataset.json").write_text(json.dumps(said))
        (tmp_path / "plans.json").write_text("{}")
    elif layout == "monai":
        write_maps(small, tmp_path, "{0}_0000/{0}_0000_seg.nii.gz")
        classes = VALUES
    elif layout == "own":
        for case in PREDICTED:
            scan = SegmentedScan(("liver", "spleen"), small.affine, small.guesses[case])
            write_segmented(scan, tmp_path / f"{case}_0000", each=True)
    else:
        inner = "segmentations/" if layout == "suprem" else ""
        for case in PREDICTED:
            for value, name in ((1, "liver"), (2, "spleen"), (9, "lung_left")):
                mask = (small.guesses[case] == value).astype(np.uint8)
                small.write_labels(mask, tmp_path / f"{case}/{inner}{name}.nii.gz")
            if layout == "suprem":
                small.write_labels(small.guesses[case], tmp_path / case / "combined_labels.nii.gz")
    found = evaluate_predictions(tmp_path, small.table, classes=classes)
    assert found.cases.equals(wanted.cases)
    assert found.metrics.equals(wanted.metrics)
    if layout in ("totalsegmentator", "suprem"):
        assert "no masks of it: lung_left" in found.notes[0]


def test_a_map_of_names_and_unions(small, tmp_path, wanted) -> None:
    for case in PREDICTED:
        guess = small.guesses[case]
        upper = np.zeros_like(guess)
        upper[:6] = 1
        for name, mask in (
            ("lobe_1", (guess == 1) & (upper == 1)),
            ("lobe_2", (guess == 1) & (upper == 0)),
            ("milz", guess == 2),
        ):
            small.write_labels(mask.astype(np.uint8), tmp_path / "p" / case / f"{name}.nii.gz")
    names = tmp_path / "names.yaml"
    names.write_text("lobe_1: liver\nlobe_2: liver\nmilz: spleen\n")
    found = evaluate_predictions(tmp_path / "p", small.table, classes=str(names))
    assert found.cases.equals(wanted.cases)
    with pytest.raises(InferenceError, match="nothing is in both"):
        evaluate_predictions(tmp_path / "p", small.table)
    maps = write_maps(small, tmp_path / "maps")
    for text in (VALUES, json.dumps({"liver": 1, "spleen": [2]})):
        path = tmp_path / "values.yaml"
        path.write_text(text.replace("=", ": ").replace(",", "\n") if "=" in text else text)
        same = evaluate_predictions(maps, small.table, classes=str(path))
        assert same.cases.equals(wanted.cases)
    both = evaluate_predictions(maps, small.table, classes="liver=1+2,spleen=2")
    whole = both.cases.set_index(["case_id", "class"])
    assert whole.loc[("a", "liver"), "predicted_ml"] == pytest.approx(
        np.count_nonzero(small.guesses["a"]) * 3 / 1000
    )
    assert whole.loc[("a", "spleen"), "dice"] == wanted.cases["dice"][1]


def test_a_choice_and_values_without_a_class(small, tmp_path, wanted) -> None:
    write_maps(small, tmp_path)
    found = evaluate_predictions(tmp_path, small.table, classes="spleen=2")
    spleen = wanted.cases[wanted.cases["class"] == "spleen"].reset_index(drop=True)
    assert found.cases.equals(spleen)
    told = "cases a, b, c: values that are of no class, taken for background: 1"
    assert told in found.notes
    (tmp_path / "labels.json").write_text('{"labels": {"liver": 1, "spleen": 2}}')
    chosen = evaluate_predictions(tmp_path, small.table, classes="spleen")
    assert chosen.cases.equals(spleen)
    assert chosen.about["classes"] == ["spleen"]


def test_another_grid_is_brought_by_world_position(small, tmp_path, wanted) -> None:
    flipped = small.affine.matrix.copy()
    flipped[:3, 3] += flipped[:3, 0] * (small.guesses["a"].shape[0] - 1)
    flipped[:3, 0] *= -1
    for case in PREDICTED:
        turned = np.ascontiguousarray(small.guesses[case][::-1])
        small.write_labels(turned, tmp_path / "turned" / f"{case}.nii.gz", Affine(flipped))
    found = evaluate_predictions(tmp_path / "turned", small.table, classes=VALUES)
    assert found.cases.equals(wanted.cases)
    assert "cases a, b, c, d: predicted on another grid" in found.notes[-1]
    half = small.affine.matrix.copy()
    half[:3, 0] *= 2
    coarse = write_maps(small, tmp_path / "coarse", affine=Affine(half), step=2)
    near = evaluate_predictions(coarse, small.table, classes=VALUES)
    assert near.cases["dice"].mean() > 0.8 * wanted.cases["dice"].mean()
    away = Affine.from_spacing((2.0, 1.0, 1.5), (1000.0, 0.0, 0.0))
    write_maps(small, tmp_path / "away", affine=away)
    with pytest.raises(InferenceError, match="4 of 5 cases") as refused:
        evaluate_predictions(tmp_path / "away", small.table, classes=VALUES)
    assert "lies nowhere on the scan" in str(refused.value)
    aside = Affine.from_spacing((2.0, 1.0, 1.5), (30.0, -20.0, 30.0))
    write_maps(small, tmp_path / "aside", affine=aside)
    with pytest.raises(InferenceError, match="covers only 22% of it"):
        evaluate_predictions(tmp_path / "aside", small.table, classes=VALUES)


def test_what_is_missing_is_named_at_once(small, tmp_path) -> None:
    with pytest.raises(InferenceError, match="no such folder"):
        evaluate_predictions(tmp_path / "none", small.table)
    folder = tmp_path / "some"
    small.write_labels(small.guesses["a"], folder / "a.nii.gz")
    with pytest.raises(InferenceError, match="nothing says what its values mean"):
        evaluate_predictions(folder, small.table)
    small.write_labels(small.guesses["b"], folder / "b.nii.gz")
    small.write_labels(small.guesses["b"], folder / "b_seg.nii.gz")
    with pytest.raises(InferenceError, match="3 faults") as refused:
        evaluate_predictions(folder, small.table, classes=VALUES)
    for words in ("case 'c': has no prediction", "case 'd'", "b.nii.gz, b_seg.nii.gz", "a.nii.gz"):
        assert words in str(refused.value)
    masks = tmp_path / "masks"
    for case in PREDICTED:
        small.write_labels(small.guesses[case], masks / case / "liver.nii.gz")
    small.write_labels(small.guesses["a"], masks / "a" / "spleen.nii.gz")
    with pytest.raises(InferenceError, match="case 'b': no file of spleen") as refused:
        evaluate_predictions(masks, small.table)
    assert "'d'" not in str(refused.value)  # does not annotate it
    with pytest.raises(InferenceError, match="holds value 2") as refused:
        evaluate_predictions(masks, small.table, classes="liver")
    question = LesionQuestion(("liver",), patient_score="probability")
    with pytest.raises(InferenceError, match="have no probabilities"):
        evaluate_predictions(masks, small.table, lesions=question)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("liver=x", "liver=x"),
        ("liver=1,spleen", "mixed forms"),
        ("liver=0", "liver=0"),
        ("liver=1,liver=2", "twice"),
        ("gone.yaml", "no such file"),
    ],
)
def test_forms_of_classes_that_make_no_sense(text, words, tmp_path) -> None:
    with pytest.raises(InferenceError, match=words):
        parse_classes(text, tmp_path)


def test_classes_from_files(tmp_path) -> None:
    path = tmp_path / "s.json"
    path.write_text('{"kind": "label_map", "structures": {"kidney": [2, 3]}}')
    assert parse_classes(str(path), tmp_path).values == {"kidney": (2, 3)}
    path.write_text('{"kind": "binary_masks", "structures": {"liver": "organ1.nii.gz"}}')
    assert parse_classes(str(path), tmp_path).structures == {"organ1": ("liver",)}
    path.write_text("{")
    with pytest.raises(TableError, match="cannot be read"):
        parse_classes(str(path), tmp_path)
    assert parse_classes("", tmp_path).values is None
    drawn = ("kidney_left", "my_own")
    assert match_names(["Left Kidney", "my_own", "x"], drawn) == {
        "Left Kidney": ("kidney_left",),
        "my_own": ("my_own",),
    }
    with pytest.raises(InferenceError, match="'Left Kidney', 'kidney_left' would all be"):
        match_names(["Left Kidney", "kidney_left"], drawn)
