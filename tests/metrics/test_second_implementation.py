"""Every metric equals scikit-learn's, on all cases and on each bootstrap replicate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from voxgraft.metrics import METRICS, auroc, score_all

RNG_SEEDS = st.integers(0, 2**32 - 1)


def _ece(target, score, bins=10):
    total = 0.0
    for index in range(bins):
        low, high = index / bins, (index + 1) / bins
        inside = (score > low) & (score <= high) if index else (score <= high)
        if inside.any():
            total += inside.sum() * abs(score[inside].mean() - target[inside].mean())
    return total / len(score)


def _sens_at_spec(target, score):
    fpr, tpr, _ = sk.roc_curve(target, score, drop_intermediate=False)
    return tpr[1 - fpr >= 0.9 - 1e-9].max()


def _spec_at_sens(target, score):
    fpr, tpr, _ = sk.roc_curve(target, score, drop_intermediate=False)
    return (1 - fpr)[tpr >= 0.9 - 1e-9].max()


BINARY = {
    "auroc": sk.roc_auc_score,
    "auprc": sk.average_precision_score,
    "balanced_accuracy": lambda t, s: sk.balanced_accuracy_score(t, s >= 0.5),
    "accuracy": lambda t, s: sk.accuracy_score(t, s >= 0.5),
    "f1": lambda t, s: sk.f1_score(t, s >= 0.5),
    "sensitivity_at_specificity": _sens_at_spec,
    "specificity_at_sensitivity": _spec_at_sens,
    "brier": lambda t, s: np.mean((t - s) ** 2),
    "log_loss": lambda t, s: sk.log_loss(t, s, labels=[0, 1]),
    "ece": _ece,
}


def _one_hot(target, classes):
    return np.eye(classes)[target]


def _top_label_ece(target, score):
    return _ece((score.argmax(1) == target).astype(float), score.max(1))


MULTICLASS = {
    "auroc": lambda t, s: sk.roc_auc_score(t, s, multi_class="ovr", average="macro"),
    "auprc": lambda t, s: sk.average_precision_score(_one_hot(t, s.shape[1]), s, average="macro"),
    "balanced_accuracy": lambda t, s: sk.balanced_accuracy_score(t, s.argmax(1)),
    "accuracy": lambda t, s: sk.accuracy_score(t, s.argmax(1)),
    "f1": lambda t, s: sk.f1_score(t, s.argmax(1), average="macro"),
    "brier": lambda t, s: ((s - _one_hot(t, s.shape[1])) ** 2).sum(1).mean(),
    "log_loss": lambda t, s: sk.log_loss(t, s, labels=range(s.shape[1])),
    "ece": _top_label_ece,
}

REGRESSION = {
    "mae": sk.mean_absolute_error,
    "rmse": sk.root_mean_squared_error,
    "r2": sk.r2_score,
    "pearson": lambda t, s: stats.pearsonr(t, s).statistic,
    "spearman": lambda t, s: stats.spearmanr(t, s).statistic,
}


def _check(kind, reference, target, score, weights):
    for name, second in reference.items():
        ours = METRICS[name].function(kind)
        assert ours(target, score) == pytest.approx(second(target, score), abs=1e-11), name
        repeated = [
            second(np.repeat(target, w, axis=0), np.repeat(score, w, axis=0)) for w in weights
        ]
        for dtype in (np.uint8, np.int64, np.float64):
            values = ours(target, score, weights.astype(dtype))
            assert values == pytest.approx(np.array(repeated), abs=1e-11), (name, dtype)


@settings(max_examples=15, deadline=None)
@given(seed=RNG_SEEDS, digits=st.integers(1, 8))
def test_binary(seed, digits):
    rng = np.random.default_rng(seed)
    target = np.r_[0, 0, 1, 1, (rng.random(40) < 0.4)].astype(int)
    score = np.round(1 / (1 + np.exp(-rng.normal(size=44) - target)), digits)
    weights = 1 + rng.integers(0, 3, (3, 44))
    _check("binary", BINARY, target, score, weights)


@settings(max_examples=8, deadline=None)
@given(seed=RNG_SEEDS)
def test_multiclass(seed):
    rng = np.random.default_rng(seed)
    target = np.r_[0, 1, 2, 3, rng.integers(0, 4, 40)]
    logits = rng.normal(size=(44, 4)) + _one_hot(target, 4)
    score = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    weights = 1 + rng.integers(0, 3, (3, 44))
    _check("multiclass", MULTICLASS, target, score, weights)


@settings(max_examples=8, deadline=None)
@given(seed=RNG_SEEDS)
def test_multilabel_is_the_mean_over_labels(seed):
    rng = np.random.default_rng(seed)
    target = np.r_[[[0, 0, 0], [1, 1, 1]], rng.integers(0, 2, (30, 3))]
    score = np.round(rng.random((32, 3)), 2)
    weights = 1 + rng.integers(0, 3, (3, 32))
    means = {
        name: lambda t, s, second=second: np.mean([second(t[:, k], s[:, k]) for k in range(3)])
        for name, second in BINARY.items()
    }
    _check("multilabel", means, target, score, weights)


@settings(max_examples=15, deadline=None)
@given(seed=RNG_SEEDS, offset=st.sampled_from([0.0, 1e6, -1e4]))
def test_regression(seed, offset):
    rng = np.random.default_rng(seed)
    target = np.round(rng.normal(size=40), 1)
    score = np.round(target + rng.normal(size=40), 1)
    weights = rng.integers(0, 3, (3, 40))
    weights[:, :5] = 1
    _check("regression", REGRESSION, target + offset, score + offset, weights)


def test_more_cases_than_32_bit_products_hold():
    rng = np.random.default_rng(0)
    target = (rng.random(60_000) < 0.3).astype(int)
    score = rng.normal(size=60_000) + target
    weights = np.ones((1, 60_000), np.uint16)
    weights[0, :1000] = 50
    expected = sk.roc_auc_score(np.repeat(target, weights[0]), np.repeat(score, weights[0]))
    assert auroc(target, score) == pytest.approx(sk.roc_auc_score(target, score), abs=1e-12)
    assert auroc(target, score, weights)[0] == pytest.approx(expected, abs=1e-12)


def test_one_heavy_row_among_light_ones():
    """The width of integers is chosen for the heaviest replicate, not for the first."""
    target, score = np.array([0, 1, 0, 1]), np.array([0.1, 0.4, 0.6, 0.9])
    weights = np.array([[1, 1, 1, 1], [40_000, 30_000, 20_000, 50_000]])
    by_hand = (30_000 * 40_000 + 50_000 * 60_000) / (80_000 * 60_000)
    assert auroc(target, score, weights) == pytest.approx([0.75, by_hand], abs=1e-12)


def test_equal_mass_calibration_by_hand():
    target = np.array([0, 0, 1, 1, 1, 0, 1, 1, 1, 1])
    score = np.linspace(0.05, 0.95, 10)
    gaps = [abs(score[k : k + 2].mean() - target[k : k + 2].mean()) for k in range(0, 10, 2)]
    ours = METRICS["ece_equal_mass"].function("binary")(target, score, bins=5)
    assert ours == pytest.approx(np.mean(gaps), abs=1e-12)


def test_score_all_has_each_metric_of_the_kind():
    rng = np.random.default_rng(1)
    scored = score_all("regression", rng.normal(size=(20, 1)), rng.normal(size=(20, 1)))
    assert list(scored) == ["mae", "rmse", "r2", "pearson", "spearman"]
    assert all(np.isfinite(item.value) and item.reason == "" for item in scored.values())
