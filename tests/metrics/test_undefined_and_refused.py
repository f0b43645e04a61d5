"""What cannot be scored is NaN with a reason, or an error that names the place."""

import numpy as np
import pytest

from voxgraft.errors import MetricError
from voxgraft.metrics import (
    METRICS,
    auroc,
    brier,
    by_patient,
    get_metric,
    multiclass_auroc,
    pearson,
    primary_metric,
    r2,
    score_all,
)

ONE_CLASS_UNDEFINED = {
    "auroc",
    "auprc",
    "balanced_accuracy",
    "sensitivity_at_specificity",
    "specificity_at_sensitivity",
}


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_is_nan_with_its_reason(label):
    scored = score_all("binary", np.full(5, label), np.linspace(0.1, 0.9, 5))
    undefined = {name for name, item in scored.items() if np.isnan(item.value)}
    assert undefined == ONE_CLASS_UNDEFINED | ({"f1"} if label == 0 else set())
    assert scored["auroc"].reason == f"all cases are of class {label}"
    assert all((item.reason != "") == np.isnan(item.value) for item in scored.values())


def test_constant_prediction():
    scored = score_all("regression", [1.0, 2.0, 3.0], [0.1 + 0.2] * 3)
    assert np.isnan(scored["pearson"].value)
    assert scored["pearson"].reason == "the prediction is the same for all cases"
    assert scored["mae"].value == pytest.approx(1.7)
    assert auroc([0, 1, 0, 1], [0.3] * 4) == 0.5


def test_one_case_and_no_case():
    scored = score_all("regression", [1.0], [2.0])
    assert scored["mae"].value == 1.0
    assert scored["r2"].reason == "there is one case only"
    empty = score_all("binary", [], [])
    assert all(np.isnan(item.value) for item in empty.values())
    assert empty["brier"].reason == "there is no case"


def test_equal_targets():
    scored = score_all("regression", [0.3, 0.3, 0.3], [1.0, 2.0, 3.0])
    assert scored["r2"].reason == "all targets are equal"


def test_a_missing_class_is_said():
    scores = np.full((4, 3), 1 / 3)
    scored = score_all("multiclass", [0, 1, 0, 1], scores)
    assert scored["auroc"].value == 0.5
    assert scored["auroc"].note == "left out of the mean: class 2 has no case"
    assert np.isnan(score_all("multiclass", [1, 1], scores[:2])["auroc"].value)
    labels = score_all("multilabel", [[0, 1], [1, 1]], [[0.1, 0.5], [0.9, 0.5]])
    assert labels["auroc"].value == 1.0
    assert labels["auroc"].note == "left out of the mean: label 1: all cases are of class 1"


def test_replicates_without_a_class_or_spread_are_nan():
    weights = np.array([[2, 0, 1], [0, 3, 0], [0, 0, 0]])
    assert np.isnan(auroc([0, 1, 0], [0.1, 0.2, 0.3], weights)).tolist() == [True, True, True]
    values = pearson([0.1, 0.2, 0.7], [1.1, 2.3, 3.1], weights)
    assert np.isnan(values).tolist() == [False, True, True]
    assert np.isnan(r2([0.1, 0.2, 0.7], [1.1, 2.3, 3.1], weights)).tolist() == [False, True, True]


def test_nan_scores_are_named():
    score = np.linspace(0, 1, 30)
    score[[3, 7]] = np.nan
    with pytest.raises(MetricError, match="score is NaN or infinite at positions 3, 7"):
        score_all("binary", np.arange(30) % 2, score)
    with pytest.raises(MetricError, match="positions 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 20 more"):
        auroc(np.arange(30) % 2, np.full(30, np.inf))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: auroc([0, 1], [0.1]), "target has 2 cases and score has 1"),
        (lambda: auroc([0, 2], [0.1, 0.2]), "must be 0 or 1; found 2 among positions 1"),
        (lambda: auroc([0, 1], ["a", "b"]), "does not hold numbers"),
        (lambda: auroc([0, 1], [[0.1, 0.2], [0.1, 0.2]]), "expected one column"),
        (lambda: brier([0, 1], [0.1, 1.2]), "found 1.2 among positions 1"),
        (lambda: auroc([0, 1], [0.1, 0.2], np.ones(2)), "expected \\(replicates, 2\\)"),
        (lambda: auroc([0, 1], [0.1, 0.2], -np.ones((1, 2))), "not negative"),
        (lambda: auroc([0, 1], [0.1, 0.2], np.full((1, 2), np.nan)), "must be finite"),
        (lambda: multiclass_auroc([0, 5], np.eye(2)), "class index from 0 to 1; found 5"),
        (lambda: multiclass_auroc([0, 1], [0.1, 0.2]), "two classes or more"),
        (lambda: score_all("multiclass", [0, 1], np.ones((2, 2))), "must sum to 1"),
        (lambda: score_all("multilabel", [0, 1], [0.1, 0.2]), "expects both as \\(cases, labels"),
        (lambda: METRICS["f1"].function("multilabel")(np.ones((2, 0)), np.ones((2, 0))), "labels"),
        (lambda: score_all("ordinal", [0], [0.1]), "expected one of binary"),
        (lambda: METRICS["mae"].function("binary"), "does not score 'binary' targets"),
        (lambda: get_metric("auc"), "no metric is called 'auc'"),
        (lambda: METRICS["ece"].function("binary")([0, 1], [0.1, 0.9], bins=0), "at least 1"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(MetricError, match=message):
        call()


def test_primary():
    assert primary_metric("multiclass").name == "auroc"
    assert not primary_metric("regression").higher_is_better


def test_patients_binary_and_regression():
    patients = ["b", "a", "b", "a", "c"]
    level = by_patient("binary", [0, 0, 1, 0, 1], [0.2, 0.4, 0.6, 0.0, 0.9], patients)
    assert level.patients.tolist() == ["a", "b", "c"]
    assert level.target[:, 0].tolist() == [0, 1, 1]
    assert level.scores[:, 0] == pytest.approx([0.2, 0.4, 0.9])
    highest = by_patient("binary", [0, 0, 1, 0, 1], [0.2, 0.4, 0.6, 0.0, 0.9], patients, "max")
    assert highest.scores[:, 0] == pytest.approx([0.4, 0.6, 0.9])
    mean = by_patient("regression", [1, 2, 3, 4, 5], [1, 2, 3, 4, 5], patients)
    assert mean.target[:, 0] == pytest.approx([3, 2, 5])


def test_patients_multiclass():
    scores = np.array([[0.6, 0.4], [0.2, 0.8], [0.5, 0.5]])
    level = by_patient("multiclass", [1, 1, 0], scores, [7, 7, 3], "max")
    assert level.patients.tolist() == [3, 7]
    assert level.scores == pytest.approx(np.array([[0.5, 0.5], [0.6 / 1.4, 0.8 / 1.4]]))
    with pytest.raises(MetricError, match="patient 7"):
        by_patient("multiclass", [0, 1, 0], scores, [7, 7, 3])


@pytest.mark.parametrize(
    ("kind", "aggregate", "patients", "message"),
    [
        ("regression", "max", [1, 2], "makes no sense"),
        ("binary", "median", [1, 2], "expected 'mean' or 'max'"),
        ("binary", "mean", [1], "one patient id a case"),
        ("other", "mean", [1, 2], "expected one of"),
    ],
)
def test_patient_refusals(kind, aggregate, patients, message):
    with pytest.raises(MetricError, match=message):
        by_patient(kind, [0, 1], [0.1, 0.2], patients, aggregate)
