"""Lesions and patients: counts by hand, rates with intervals, and the pancreas preset."""

import math

import numpy as np
import pandas as pd
import pytest

from voxgraft.datasets import Masks, Structures, write_structures
from voxgraft.errors import InferenceError
from voxgraft.inference import SegmentedScan
from voxgraft.inference.probabilities import FULL
from voxgraft.inference.scoring import PANCREAS, LesionQuestion, evaluate_predictions
from voxgraft.inference.scoring.lesion_summary import (
    patients_of,
    summarize_lesions,
    summarize_patients,
)
from voxgraft.inference.scoring.lesions import score_lesions
from voxgraft.inference.scoring.predicted import Predicted
from voxgraft.inference.scoring.probabilities import SeenProbabilities
from voxgraft.metrics import auroc
from voxgraft.metrics.segmentation import LesionRules, PancreasRules, judge_scan
from voxgraft.statistics import delong
from voxgraft.volumes import Affine

AFFINE = Affine.from_spacing((1.0, 1.0, 1.0))
TUMORS = ("pdac", "cyst", "pnet")
NAMES = ("pancreas", *TUMORS)


def drawn(labels: np.ndarray, names, annotated=None, ignored=None) -> Masks:
    known = tuple(names if annotated is None else annotated)
    places = {name: (0, k) for k, name in enumerate(names, 1) if name in known}
    return Masks("case", known, labels[None], places, ignored, AFFINE)


def test_lesions_of_a_table(small, tmp_path) -> None:
    for case in "abcd":
        small.write_labels(small.guesses[case], tmp_path / f"{case}.nii.gz")
    question = LesionQuestion(("spleen", "liver"), LesionRules(min_volume_mm3=50.0))
    found = evaluate_predictions(
        tmp_path, small.table, classes="liver=1,spleen=2", lesions=question
    )
    lesions = found.lesions.set_index(["class", "case_id"])
    counted = lesions[["lesions", "found", "false_positives"]]
    assert counted.loc["spleen"].to_numpy().tolist() == [[1, 1, 0], [1, 0, 0], [0, 0, 1]]
    assert lesions.loc[("spleen", "c"), "largest_predicted_ml"] == pytest.approx(18 * 3 / 1000)
    metrics = found.lesion_metrics.set_index(["site", "class"])
    spleen = metrics.loc[("all", "spleen")]
    assert (spleen["scans"], spleen["lesions"], spleen["patients"]) == (3, 2, 2)
    assert spleen["sensitivity"] == 0.5
    assert spleen["false_positives_per_scan"] == pytest.approx(1 / 3)
    assert metrics.loc[("all", "liver"), "scans"] == 4
    assert metrics.loc[("A", "spleen"), "false_positives_per_scan"] == 0
    assert metrics.loc[("A", "spleen"), "false_positives_per_scan_high"] == pytest.approx(
        -math.log(0.025) / 2
    )
    patients = found.patients.set_index(["judged_for", "patient_id"])
    assert patients.loc[("spleen", "p1"), "positive"]
    assert patients.loc[("spleen", "p1"), "n_scans"] == 2
    assert not patients.loc[("spleen", "p2"), "positive"]
    own = found.patient_metrics.set_index(["site", "judged_for"]).loc[("all", "spleen")]
    assert (own["sensitivity"], own["specificity"]) == (1.0, 0.0)
    assert own["auroc"] == 1.0  # p1's spleen is larger than what p2 has none of
    points = found.roc[(found.roc["site"] == "all") & (found.roc["judged_for"] == "spleen")]
    assert list(points["sensitivity"]) == [0.0, 1.0, 1.0]
    assert "below 50 mm3" in found.to_dict()["lesion_rules"]["found"]


def test_rates_have_the_intervals_of_their_statistics() -> None:
    rng = np.random.default_rng(0)
    n = 40
    judged = pd.DataFrame(
        {
            "judged_for": "tumor",
            "patient_id": [f"p{k // 2}" for k in range(n)],
            "positive": np.repeat(np.arange(n // 2) % 3 == 0, 2),
            "called": rng.random(n) < 0.4,
            "score": rng.random(n).round(2),
        }
    )
    patients = patients_of(judged)
    assert len(patients) == n // 2
    metrics, points = summarize_patients(patients)
    (row,) = metrics.to_dict(orient="records")
    target, score = patients["positive"].to_numpy(float), patients["score"].to_numpy()
    assert row["auroc"] == pytest.approx(auroc(target, score))
    other = delong(target, score)
    assert row["auroc_low"] == pytest.approx(other.low, abs=0.04)
    assert row["auroc_high"] == pytest.approx(other.high, abs=0.04)
    assert row["sensitivity"] == patients["called"][patients["positive"]].mean()
    assert row["sensitivity_low"] < row["sensitivity"] < row["sensitivity_high"]
    assert points["threshold"].tolist()[0] == ""
    assert summarize_patients(patients[patients["positive"]])[0]["reason"][0] == (
        "every patient is positive"
    )
    assert summarize_patients(patients_of(pd.DataFrame()))[0].empty
    assert summarize_lesions(pd.DataFrame()).empty


def test_what_is_unknown_or_ignored_is_not_judged() -> None:
    labels = np.zeros((4, 4, 12), np.uint8)
    labels[1, 1, 1] = 1
    guess = SegmentedScan(("tumor",), AFFINE, np.roll(labels, 6, axis=2))
    question = LesionQuestion(("tumor",), LesionRules(min_volume_mm3=2.0))
    given = {"patient_id": "p"}
    counted, judged = score_lesions(question, Predicted(guess), drawn(labels, ["tumor"]), **given)
    assert (counted[0]["lesions"], counted[0]["ignored"]) == (0, 1)
    assert judged == []  # neither positive nor negative
    assert score_lesions(question, Predicted(guess), None, **given) == ([], [])
    unknown = drawn(labels, ["tumor", "other"], ["other"])
    assert score_lesions(question, Predicted(guess), unknown, **given) == ([], [])
    somewhere = np.zeros(labels.shape, bool)
    somewhere[..., 6:] = True
    plain = LesionQuestion(("tumor",))
    counted, judged = score_lesions(
        plain, Predicted(guess), drawn(labels, ["tumor"], ignored=somewhere), **given
    )
    assert (counted[0]["lesions"], counted[0]["predicted"]) == (1, 0)
    assert (judged[0]["positive"], judged[0]["called"]) == (True, False)


@pytest.fixture
def pancreas():
    """A scan with a pancreas, a PDAC beside it, one far away, and probabilities."""
    labels = np.zeros((20, 20, 40), np.uint8)
    labels[5:15, 5:15, 0:10] = 1
    labels[5:10, 5:10, 10:13] = 2
    labels[5:10, 5:10, 30:33] = 2
    reference = np.zeros_like(labels)
    reference[5:9, 5:9, 10:13] = 2
    rng = np.random.default_rng(1)
    maps = {name: rng.integers(0, FULL + 1, labels.shape, np.uint16) for name in TUMORS}
    return labels, reference, maps


def test_the_pancreas_preset_is_the_metrics_own(pancreas) -> None:
    labels, reference, maps = pancreas
    scan = SegmentedScan(NAMES, AFFINE, labels)
    question = LesionQuestion(TUMORS, PancreasRules(), "probability")
    seen = Predicted(scan, SeenProbabilities(AFFINE, maps))
    classes = {name: k for k, name in enumerate(NAMES, 1)}
    for phase, judged_for in (("", TUMORS), ("Venous", TUMORS[:2]), ("arterial", TUMORS[2:])):
        counted, (own,) = score_lesions(
            question, seen, drawn(reference, NAMES), patient_id="p", phase=phase
        )
        wanted = judge_scan(
            labels,
            reference,
            {name: (maps[name] / FULL).astype(np.float32) for name in judged_for},
            classes,
            patient_id="p",
            judged=judged_for,
        )
        assert own["judged_for"] == PANCREAS
        assert (own["positive"], own["called"]) == (wanted.tumor, wanted.called)
        assert own["score"] == pytest.approx(wanted.score, abs=1e-6)
        assert [row["predicted"] for row in counted] == [1, 0, 0]  # the far one fell
        assert counted[0]["found"] == 1
    # By volume, and a case that annotates the pancreas and one tumor only.
    by_volume = LesionQuestion(TUMORS, PancreasRules())
    _, (own,) = score_lesions(by_volume, Predicted(scan), drawn(reference, NAMES), patient_id="p")
    assert own["score"] == pytest.approx(75 / 1000)
    part = drawn(reference, NAMES, ["pancreas", "cyst"])
    counted, judged = score_lesions(by_volume, Predicted(scan), part, patient_id="p")
    assert [row["class"] for row in counted] == ["cyst"]
    assert judged == []


def test_questions_that_make_no_sense() -> None:
    with pytest.raises(InferenceError, match="2 faults"):
        LesionQuestion(("a", "a"), patient_score="size")  # type: ignore[arg-type]
    with pytest.raises(InferenceError, match="liver has no smallest size"):
        LesionQuestion(("liver",), PancreasRules())
    with pytest.raises(InferenceError, match="pancreas, cyst, pnet cannot be counted"):
        LesionQuestion(("pdac",), PancreasRules()).check(["pdac", "liver"])
    text = LesionQuestion(("a",), LesionRules(matching="iou", min_iou=0.3)).describe()
    assert "IoU of at least 0.3" in text


def test_patients_are_judged_by_the_phases_of_their_scans(small, voxgraft, tmp_path) -> None:
    lines = ["case_id,patient_id,image,masks,phase"]
    # Patient, phase, tumor drawn, tumor predicted (4 x 3 x 4 = 48 voxels beside the pancreas).
    scans = (
        ("p1", "venous", 2, 2),
        ("p1", "arterial", 2, 0),
        ("p2", "arterial", 4, 4),
        ("p3", "venous", 0, 3),
        ("p4", "arterial", 2, 0),  # a PDAC is not looked for in this phase
    )
    for number, (patient, phase, real, guess) in enumerate(scans):
        case = f"s{number}"
        labels = []
        for tumor in (real, guess):
            one = np.zeros((12, 14, 16), np.uint8)
            one[2:8, 2:8, 2:8] = 1
            one[3:7, 3:6, 8:12] = tumor
            labels.append(one)
        small.write_labels(labels[0], tmp_path / "drawn" / f"{case}.nii.gz")
        small.write_labels(labels[1], tmp_path / "found" / f"{case}.nii.gz")
        lines.append(f"{case},{patient},drawn/{case}.nii.gz,drawn/{case}.nii.gz,{phase}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    structures = {name: (k,) for k, name in enumerate(NAMES, 1)}
    for folder in (tmp_path, tmp_path / "found"):
        write_structures(Structures("label_map", structures), folder / "structures.json")
    given = ("--predictions", tmp_path / "found", tmp_path / "t.csv", "--lesion-rules", "pancreas")
    code, said, errors = voxgraft("evaluate", *given, "--out", tmp_path / "out")
    assert code == 0, errors
    assert "pdac 30, cyst 40, pnet 35" in errors
    patients = pd.read_csv(tmp_path / "out" / "patients.csv").set_index("patient_id")
    assert list(patients["positive"]) == [True, True, False, False]
    assert list(patients["called"]) == [True, True, True, False]
    assert patients["score"].tolist() == pytest.approx([48 * 3 / 1000] * 3 + [0])
    lesions = pd.read_csv(tmp_path / "out" / "lesion_metrics.csv").set_index("class")
    assert lesions.loc["pdac", ["lesions", "found"]].tolist() == [3, 1]
    assert lesions.loc["cyst", "false_positives"] == 1
    (row,) = [line for line in said.splitlines() if line.startswith(PANCREAS)]
    assert row.split("\t")[1:3] == ["4", "2"]
    assert row.split("\t")[3].startswith("1.000")
    assert row.split("\t")[4].startswith("0.500")
    assert row.split("\t")[5].startswith("0.750")
