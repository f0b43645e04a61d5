"""Runs that must not be averaged in silence, and what needs no image."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from voxgraft.errors import StatisticsError
from voxgraft.metrics import auroc
from voxgraft.statistics import (
    covariate_baseline,
    describe_flags,
    flag_run,
    majority_baseline,
    usable,
)


@pytest.mark.parametrize(
    ("scores", "options", "flags"),
    [
        ([0.1, 0.5, 0.9], {}, []),
        ([0.3, 0.3, 0.3], {}, ["constant"]),
        ([0.3, 0.3 + 1e-9, 0.3], {}, ["constant"]),
        ([1e-9, 3e-9, 9e-9], {}, []),
        ([0.3], {}, []),
        ([], {}, []),
        (0.5, {}, []),
        ([[0.2, 0.8], [0.2, 0.8]], {}, ["constant"]),
        ([[0.2, 0.8], [0.3, 0.7]], {}, []),
        ([0.1, np.nan, 0.9], {}, ["diverged"]),
        ([0.1, 0.5, 0.9], {"losses": [0.7, np.inf]}, ["diverged"]),
        ([0.3, 0.3, 0.3], {"losses": [np.nan]}, ["diverged", "constant"]),
        ([0.1, 0.5], {"value": 0.4, "chance": 0.5}, ["worse than chance"]),
        ([0.1, 0.5], {"value": 0.4, "chance": 0.5, "higher_is_better": False}, []),
        ([0.1, 0.5], {"value": np.nan, "chance": 0.5}, []),
    ],
)
def test_flags(scores, options, flags):
    assert flag_run(scores, **options) == flags
    assert usable(flags) == ("diverged" not in flags)


def test_flags_in_words():
    told = describe_flags([("a", []), ("b", ["constant"]), ("c", ["diverged", "constant"])])
    assert told == ["b: constant; counted as it is.", "c: diverged, constant; left out."]
    with pytest.raises(StatisticsError, match="must be numbers"):
        flag_run(["x"])


def test_majority():
    assert majority_baseline("binary", [0, 1, 1, 1], 2).tolist() == [[0.75], [0.75]]
    assert majority_baseline("regression", [1.0, 3.0], 2).tolist() == [[2.0], [2.0]]
    assert majority_baseline("multilabel", [[0, 1], [0, 0]], 1).tolist() == [[0, 0.5]]
    assert majority_baseline("multiclass", [0, 2, 2, 2], 1, classes=4).tolist() == [
        [0.25, 0, 0.75, 0]
    ]
    with pytest.raises(StatisticsError, match="no training case"):
        majority_baseline("binary", [], 3)
    with pytest.raises(StatisticsError, match="expected one of"):
        majority_baseline("ordinal", [1], 3)


def test_covariate_is_turned_as_training_says():
    rng = np.random.default_rng(0)
    diameter = rng.normal(10, 3, 200)
    benign = (diameter + rng.normal(size=200) * 3 < 10).astype(int)
    scores = covariate_baseline("binary", diameter[:100], benign[:100], diameter[100:])
    assert auroc(benign[100:], scores) == pytest.approx(1 - auroc(benign[100:], diameter[100:]))
    x = ((diameter - diameter[:100].mean()) / diameter[:100].std())[:, None]
    second = LogisticRegression(C=1e3).fit(x[:100], benign[:100]).predict_proba(x[100:])[:, 1]
    assert scores[:, 0] == pytest.approx(second, abs=1e-3)


def test_covariate_line():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 50))
    second = LinearRegression().fit(x[:30, None], y[:30]).predict(x[30:, None])
    assert covariate_baseline("regression", x[:30], y[:30], x[30:])[:, 0] == pytest.approx(second)


def test_separable_and_constant_covariates():
    apart = covariate_baseline("binary", [1, 2, 3, 4], [0, 0, 1, 1], [0, 2.5, 9])[:, 0]
    assert (np.diff(apart) > 0).all()
    assert np.isfinite(apart).all()
    assert covariate_baseline("binary", [2, 2], [0, 1], [5, 6])[:, 0].tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: covariate_baseline("multiclass", [1], [1], [1]), "not 'multiclass'"),
        (lambda: covariate_baseline("binary", [1, np.nan], [0, 1], [1]), "NaN or infinity"),
        (lambda: covariate_baseline("binary", [1, 2], [0], [1]), "same cases"),
        (lambda: covariate_baseline("binary", [1], [0], [1]), "two training cases"),
        (lambda: covariate_baseline("binary", [1, 2], [0, 3], [1]), "must be 0 or 1"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(StatisticsError, match=message):
        call()
