"""Tasks: losses and scores against hand-computed cases, PyTorch and scikit-learn."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score
from sklearn.utils.class_weight import compute_class_weight

from voxgraft.datasets.target import Target
from voxgraft.errors import MetricError, TaskError
from voxgraft.tasks import Task, build_task

BINARY = Target(kind="binary", columns=("malignant",), classes=("no", "yes"))
THREE = Target(kind="multiclass", columns=("grade",), classes=("a", "b", "c"))
LABELS = Target(kind="multilabel", columns=("left", "right"), classes=("0", "1"))
AGE = Target(kind="regression", columns=("age",), unit="years")


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)[:, None]


def fitted(target: Target, targets: np.ndarray, **options: object) -> Task:
    return build_task(target, **options).fit(targets)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "outputs", "primary", "higher"),
    [(BINARY, 1, "auroc", True), (THREE, 3, "auroc", True), (LABELS, 2, "auroc", True),
     (AGE, 1, "mae", False)],
)  # fmt: skip
def test_outputs_and_primary_metric_follow_the_kind(target, outputs, primary, higher):
    task = build_task(target)
    assert (task.outputs, task.primary.name, task.higher_is_better) == (outputs, primary, higher)


def test_initial_bias_predicts_the_prior():
    task = fitted(BINARY, column(0, 0, 0, 1))
    # (1 + 1/2) / (3 + 1/2)
    assert task.decode(task.initial_bias()[None])[0, 0] == pytest.approx(1.5 / 5.0)
    task = fitted(THREE, column(0, 0, 1, 1))
    np.testing.assert_allclose(
        task.decode(task.initial_bias()[None])[0], np.array([2.5, 2.5, 0.5]) / 5.5, rtol=1e-6
    )
    task = fitted(AGE, column(10, 20, 60))
    assert task.decode(task.initial_bias()[None])[0, 0] == pytest.approx(30.0)


def test_balanced_classes_start_even_and_weigh_as_scikit_learn():
    targets = column(0, 0, 0, 1, 2, 2)
    task = fitted(THREE, targets, class_weights="balanced")
    expected = compute_class_weight("balanced", classes=np.arange(3), y=targets[:, 0])
    np.testing.assert_allclose(task.fitted.class_weight, expected)
    np.testing.assert_allclose(task.decode(task.initial_bias()[None])[0], 1 / 3, rtol=1e-6)


def test_balanced_binary_loss_is_least_at_even_odds():
    targets = column(*[0.0] * 30, *[1.0] * 10)
    task = fitted(BINARY, targets, class_weights="balanced")
    logit = torch.zeros(1, requires_grad=True)
    task.loss(logit.expand(40)[:, None], torch.from_numpy(targets)).backward()
    assert float(logit.grad) == pytest.approx(0.0, abs=1e-7)
    assert task.decode(task.initial_bias()[None])[0, 0] == 0.5


def test_binary_loss_by_hand_with_smoothing():
    task = fitted(BINARY, column(0, 1), label_smoothing=0.2)
    logits = torch.tensor([[0.5], [-1.0]])
    p = 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(1.0))
    expected = -(0.9 * math.log(p[0]) + 0.1 * math.log(1 - p[0])) / 2
    expected -= (0.1 * math.log(p[1]) + 0.9 * math.log(1 - p[1])) / 2
    assert task.loss(logits, torch.tensor([[1.0], [0.0]])).item() == pytest.approx(expected)


def test_multiclass_loss_by_hand():
    task = fitted(THREE, column(0, 1, 2))
    logits = torch.tensor([[1.0, 2.0, 3.0]])
    expected = math.log(sum(math.exp(v) for v in (1, 2, 3))) - 2.0
    assert task.loss(logits, torch.tensor([[1.0]])).item() == pytest.approx(expected)


@pytest.mark.parametrize(("name", "expected"), [("smooth_l1", 1.5), ("mse", 4.0)])
def test_regression_loss_is_in_training_standard_deviations(name, expected):
    task = fitted(AGE, column(40, 60), regression_loss=name)  # mean 50, sd 10
    assert task.loss(torch.zeros(1, 1), torch.tensor([[70.0]])).item() == pytest.approx(expected)


def test_regression_decodes_in_the_targets_unit():
    task = fitted(AGE, column(40, 60))
    np.testing.assert_allclose(task.decode(torch.tensor([[2.0], [-1.0]])), [[70.0], [40.0]])


@settings(max_examples=30, deadline=None)
@given(arrays(np.float64, (5, 3), elements=st.floats(-40, 40)))
def test_scores_are_probabilities(logits):
    rows = fitted(THREE, column(0, 1, 2)).decode(torch.from_numpy(logits))
    np.testing.assert_allclose(rows.sum(axis=1), 1.0)
    labels = fitted(LABELS, np.array([[0, 1], [1, 0]])).decode(torch.from_numpy(logits[:, :2]))
    assert ((labels >= 0) & (labels <= 1)).all()


def test_metrics_are_those_of_the_kind():
    task = fitted(BINARY, column(0, 1))
    target, score = column(0, 1, 0, 1, 1), column(0.1, 0.4, 0.5, 0.8, 0.3)
    assert task.metrics(target, score)["auroc"].value == roc_auc_score(target, score)
    one_class = task.metrics(column(1, 1), column(0.2, 0.3))["auroc"]
    assert math.isnan(one_class.value)
    assert one_class.reason == "all cases are of class 1"
    with pytest.raises(MetricError, match="NaN or infinite"):
        task.metrics(column(0, 1), column(0.1, math.nan))


def test_a_task_comes_back_from_its_record():
    task = fitted(THREE, column(0, 1, 1, 2), class_weights="balanced", primary="f1")
    again = Task.restore(THREE, json.loads(json.dumps(task.to_dict())))
    logits, targets = torch.randn(4, 3), torch.tensor([[0.0], [1.0], [2.0], [2.0]])
    assert again.loss(logits, targets) == task.loss(logits, targets)
    np.testing.assert_array_equal(again.decode(logits), task.decode(logits))
    assert again.primary.name == "f1"
    assert Task.restore(AGE, build_task(AGE).to_dict()).outputs == 1


def test_a_damaged_record_is_refused():
    record = fitted(BINARY, column(0, 1)).to_dict()
    del record["label_smoothing"]
    with pytest.raises(TaskError, match=r"record of a task is damaged.*found \['class_weights'"):
        Task.restore(BINARY, record)
    with pytest.raises(TaskError, match=r"record of a task is \[1\], expected a JSON object"):
        Task.restore(BINARY, [1])  # type: ignore[arg-type]
    with pytest.raises(TaskError, match="record of a task is damaged"):
        Task.restore(BINARY, {**build_task(BINARY).to_dict(), "fitted": {"nonsense": 1}})


def test_all_impossible_settings_are_named_at_once():
    with pytest.raises(TaskError) as caught:
        build_task(AGE, class_weights="balanced", label_smoothing=1.5, primary="auroc")
    text = str(caught.value)
    assert "label_smoothing is 1.5" in text
    assert "no meaning for a regression target" in text
    assert "primary is 'auroc', expected one of ['mae', 'rmse'" in text
    with pytest.raises(TaskError, match="class_weights is 'even', expected None or 'balanced'"):
        build_task(BINARY, class_weights="even")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "targets", "message"),
    [
        (BINARY, column(1, 1, 1), "all 3 training cases have the same target in malignant"),
        (BINARY, column(0, 2), r"they hold \[2.0\], expected \[0, 1\]"),
        (THREE, column(0, 1.5), r"they hold \[1.5\], expected \[0, 1, 2\]"),
        (LABELS, column(0, 1), r"their shape is \(2, 1\), expected \(n, 2\)"),
        (BINARY, np.zeros((0, 1)), r"their shape is \(0, 1\)"),
        (AGE, column(1, math.nan), "1 of them are not finite, the first at row 1"),
        (AGE, column(7, 7), "age is 7.0 in all 2 cases"),
    ],
)
def test_targets_that_cannot_be_trained_on(target, targets, message):
    with pytest.raises(TaskError, match=message):
        build_task(target).fit(targets)


def test_use_before_fit_and_wrong_heads_are_refused():
    task = build_task(BINARY)
    with pytest.raises(TaskError, match=r"the task of malignant was not fitted. Call task.fit"):
        task.decode(torch.zeros(1, 1))
    with pytest.raises(TaskError, match=r"shape \(4, 2\), expected \(batch, 1\)"):
        task.fit(column(0, 1)).loss(torch.zeros(4, 2), torch.zeros(4, 1))


def test_a_class_without_training_cases_keeps_loss_finite():
    task = fitted(THREE, column(0, 0, 1), class_weights="balanced")
    loss = task.loss(torch.zeros(3, 3), torch.tensor([[0.0], [1.0], [2.0]]))
    assert math.isfinite(loss.item())
