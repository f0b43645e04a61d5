"""A run on labelled cases: equal to its scores case by case, kept when killed, by site."""

import json

import numpy as np
import pytest

from voxgraft.errors import InferenceError, TableError
from voxgraft.inference.scoring import ALL_CLASSES, LesionQuestion, evaluate_segmentation
from voxgraft.metrics.segmentation import SCORES, score_case

CLASSES = {"liver": 1, "spleen": 2}


def cell(found, name: str, metric: str, site: str = "all", column: str = "value"):
    own = found.metrics
    own = own[(own["site"] == site) & (own["class"] == name) & (own["metric"] == metric)]
    (value,) = own[column]
    return value


def test_cases_are_scored_on_their_own_grids(small, make_run) -> None:
    found = evaluate_segmentation(make_run(), small.table, tolerance_mm=1.0)
    assert list(found.cases["case_id"]) == [case for case in "abcde" for _ in CLASSES]
    spacing = small.affine.spacing_mm
    annotated = {"d": ["liver"], "e": []}
    for case, own in found.cases.groupby("case_id"):
        known = annotated.get(case, list(CLASSES))
        wanted = score_case(small.guesses[case], small.truth[case], CLASSES, spacing, known, 1.0)
        for row, (_, line) in zip(wanted, own.iterrows(), strict=True):
            assert (line["class"], line["presence"]) == (row.class_name, row.scores.presence)
            for name in SCORES:
                assert line[name] == pytest.approx(row.scores[name], nan_ok=True)
    # A mean is over the cases that define it: of the spleen a and c, of which c invents it.
    spleen = [score["dice"] for _, score in _of(found, "spleen") if score["dice"] >= 0]
    assert cell(found, "spleen", "dice") == pytest.approx(np.mean(spleen))
    assert len(spleen) == 3
    assert cell(found, "spleen", "dice", column="n_cases") == 3
    assert cell(found, "spleen", "hausdorff95_mm", column="undefined") == 2
    why = cell(found, "spleen", "hausdorff95_mm", column="reason")
    assert why == "1 class not predicted; 1 class absent in the reference"
    note = cell(found, "spleen", "hausdorff95_mm", column="note")
    assert note == "one patient: no interval can be given"
    both = [cell(found, name, "dice") for name in CLASSES]
    assert cell(found, ALL_CLASSES, "dice") == pytest.approx(np.mean(both))
    assert cell(found, "liver", "dice", "A") == pytest.approx(
        np.mean([score["dice"] for case, score in _of(found, "liver") if case in "ab"])
    )
    low, high = (cell(found, "liver", "dice", column=end) for end in ("low", "high"))
    assert 0 <= low < cell(found, "liver", "dice") < high <= 1
    assert cell(found, "liver", "dice", column="n_patients") == 3
    assert found.notes == ("not scored, as it is not predicted by the run: aorta",)


def _of(found, name):
    own = found.cases[found.cases["class"] == name]
    return [(line["case_id"], line) for _, line in own.iterrows()]


def test_a_killed_evaluation_goes_on(small, make_run, only, tmp_path) -> None:
    out = tmp_path / "out"
    run = make_run()
    first = evaluate_segmentation(run, only(small.table, "ab"), out=out)
    assert (first.kept, run.network.shown) == (0, 2)
    with (out / "scored.jsonl").open("ab") as file:
        file.write(b'{"case_id": "c", "key"')  # killed in a line
    told: list[str] = []
    whole = evaluate_segmentation(run, small.table, out=out, on_case=told.append)
    assert (whole.kept, run.network.shown) == (2, 4)  # e annotates nothing that is predicted
    assert told == list("abcde")
    again = evaluate_segmentation(run, small.table, out=out)
    assert (again.kept, run.network.shown) == (4, 4)
    assert again.metrics.equals(whole.metrics)
    assert evaluate_segmentation(run, small.table, tolerance_mm=3.0, out=out).kept == 0
    (run.folder / "model.safetensors").write_bytes(b"others")
    assert evaluate_segmentation(make_run(), small.table, tolerance_mm=3.0, out=out).kept == 4
    again.write(out)
    said = json.loads((out / "summary.json").read_text())
    assert said["classes"] == list(CLASSES)
    assert len(said["metrics"]) == 3 * (4 + 2 * 13)
    (out / "scored.jsonl").write_text("no json\n")
    with pytest.raises(InferenceError, match="line 1: is no scored case"):
        evaluate_segmentation(run, small.table, out=out)


def test_masks_that_overlap(small, make_run, only) -> None:
    found = evaluate_segmentation(make_run(overlapping=True), only(small.table, "a"))
    rows = dict(_of(found, "liver"))
    guess, drawn = small.guesses["a"] >= 1, small.truth["a"] == 1
    wanted = 2 * (guess & drawn).sum() / (guess.sum() + drawn.sum())
    assert rows["a"]["dice"] == pytest.approx(wanted)
    assert dict(_of(found, "spleen"))["a"]["dice"] < 1
    # Another order of classes, and one that the table has not.
    turned = evaluate_segmentation(
        make_run(("ghost", "spleen"), overlapping=True), only(small.table, "a")
    )
    assert turned.about["classes"] == ["spleen"]
    assert dict(_of(turned, "spleen"))["a"]["dice"] == dict(_of(found, "spleen"))["a"]["dice"]
    assert turned.notes[0] == "not scored, as the table has no masks of it: ghost"


def test_probabilities_rank_patients_and_change_nothing_else(small, make_run) -> None:
    for overlapping in (False, True):
        run = make_run(overlapping=overlapping, spacing_mm=(1.0, 1.0, 1.0))
        plain = evaluate_segmentation(run, small.table, lesions=LesionQuestion(("spleen",)))
        ranked = evaluate_segmentation(
            run, small.table, lesions=LesionQuestion(("spleen",), patient_score="probability")
        )
        assert ranked.metrics.equals(plain.metrics)
        assert ranked.lesions.equals(plain.lesions)
        scores = dict(zip(ranked.patients["patient_id"], ranked.patients["score"], strict=True))
        one = 1 / (1 + np.exp(-0.5)) if overlapping else 1 / np.exp([-4.0, -1.0, 0.0]).sum()
        assert scores["p1"] == pytest.approx(one, abs=2e-3)
        assert set(scores) == {"p1", "p2"}


def test_what_is_refused(small, make_run, only, tmp_path) -> None:
    with pytest.raises(InferenceError, match="nothing is in both"):
        evaluate_segmentation(make_run(("ghost", "other")), small.table)
    bare = small.table.with_column("masks", [""] * 5)
    with pytest.raises(TableError, match="5 faults"):
        evaluate_segmentation(make_run(), bare)
    with pytest.raises(InferenceError, match="aorta cannot be counted; scored are liver, spleen"):
        evaluate_segmentation(make_run(), small.table, lesions=LesionQuestion(("aorta",)))
    images = list(small.table.frame["image"])
    lost = small.table.with_column("image", ["gone.nii.gz", "gone2.nii.gz", *images[2:]])
    with pytest.raises(InferenceError, match="2 of 5 cases cannot be scored") as refused:
        evaluate_segmentation(make_run(), lost, out=tmp_path / "kept")
    told = str(refused.value)
    assert "case 'b': " in told
    assert "gone2.nii.gz: No such file or directory. Check the path" in told
    assert "Errno" not in told
    assert told.count("case 'b'") == 1
    assert evaluate_segmentation(make_run(), small.table, out=tmp_path / "kept").kept == 2
