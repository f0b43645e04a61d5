"""Linear probing against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from voxgraft.errors import RecipeError
from voxgraft.tasks import build_task
from voxgraft.training import Adapt, compute_features, predict_scores
from voxgraft.training.probe import fit_linear_head


def features(cases, width, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.standard_normal((cases, width)) * generator.uniform(0.1, 9, width) + 5.0
    x[:, -1] = 3.0  # a dead feature
    return x


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_classification_equals_scikit_learns_logistic_regression(tiny, strength, classes):
    x = features(60, 8)
    y = (np.arange(60) % classes).astype(np.float64)
    x[:, 0] += y
    task = build_task(tiny.BINARY if classes == 2 else tiny.THREE).fit(y[:, None])
    head = fit_linear_head(torch.from_numpy(x), torch.from_numpy(y[:, None]), task, strength)
    scaler = StandardScaler().fit(x)
    # scikit-learn: C * sum of losses + |W|^2 / 2
    reference = LogisticRegression(C=1 / (60 * strength), tol=1e-10, max_iter=10000)
    expected = reference.fit(scaler.transform(x), y).predict_proba(scaler.transform(x))
    found = task.decode(head(torch.from_numpy(x)))
    np.testing.assert_allclose(found, expected[:, 1:] if classes == 2 else expected, atol=2e-5)
    assert (head.weight[:, -1] == 0).all()


@pytest.mark.parametrize("cases", [50, 6])
def test_regression_equals_scikit_learns_ridge(tiny, cases):
    x = features(cases, 10)
    y = 40.0 + 3.0 * x[:, 0] + np.random.default_rng(1).standard_normal(cases)
    task = build_task(tiny.AGE).fit(y[:, None])
    head = fit_linear_head(torch.from_numpy(x), torch.from_numpy(y[:, None]), task, 0.3)
    scaler = StandardScaler().fit(x)
    reference = Ridge(alpha=0.3 * cases).fit(scaler.transform(x), y)
    found = task.decode(head(torch.from_numpy(x)))[:, 0]
    np.testing.assert_allclose(found, reference.predict(scaler.transform(x)), rtol=1e-8)


def test_the_probe_moves_the_head_alone_and_predict_uses_it(tiny, tmp_path):
    network, task, result = tiny.train(
        tmp_path, adapt=Adapt(method="probe"), changes={"batchnorm": "never"}
    )
    start = tiny.tiny_network().state_dict()
    moved = {n for n, value in network.state_dict().items() if not torch.equal(value, start[n])}
    assert moved == {"head.weight", "head.bias"}
    feed = tiny.tiny_feed(tiny.BINARY, 9, seed=1)
    logits = network.head(compute_features(network, feed))
    np.testing.assert_allclose(predict_scores(network, task, feed), task.decode(logits), rtol=1e-5)
    scored = task.metrics(feed.targets.double().numpy(), predict_scores(network, task, feed))
    assert scored["auroc"].value == pytest.approx(result.best_value)
    assert result.learning_rate is None


def test_the_strength_is_the_best_on_validation_and_the_strongest_of_equals(tiny, tmp_path):
    reports = []
    _, _, result = tiny.train(tmp_path, adapt=Adapt(method="probe"), on_step=reports.append)
    values = {row["strength"]: row["validation"]["auroc"] for row in result.history}
    assert result.best_value == max(values.values())
    assert result.strength == max(s for s, value in values.items() if value == result.best_value)
    assert [report.step for report in reports] == list(range(1, 8))
    assert result.batchnorm["start"]["done"]


def test_the_probe_is_the_same_twice(tiny, tmp_path):
    feed = tiny.tiny_feed(tiny.THREE, 9, seed=1)
    outcomes = []
    for name in ("a", "b"):
        network, task, _ = tiny.train(
            tmp_path / name, target=tiny.THREE, adapt=Adapt(method="probe")
        )
        outcomes.append(tiny.outcome(network, task, feed))
    assert outcomes[0] == outcomes[1]


def test_a_probe_without_validation_cases_takes_one_strength_only(tiny, tmp_path):
    task, network = build_task(tiny.BINARY), tiny.tiny_network()
    arguments = (network, task, tiny.tiny_feed(tiny.BINARY, 20), None, tiny.settings())
    options = {"folder": tmp_path, "seed": 1, "device": "cpu"}
    with pytest.raises(RecipeError, match="a probe chooses its L2 strength on validation cases"):
        tiny.fit(*arguments, Adapt(method="probe"), None, **options)
    result = tiny.fit(*arguments, Adapt(method="probe", strengths=(0.1,)), None, **options)
    assert (result.strength, result.best_value) == (0.1, None)
