"""Monotone curves, the patients that a start needs, and what it says where it is censored."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from voxgraft.errors import StatisticsError
from voxgraft.metrics import auroc, mae
from voxgraft.statistics import isotonic, label_savings, learning_curve

N = 40
TARGET, PATIENTS = np.zeros(N), np.arange(N)


def _runs(*errors, seeds=2):
    """Runs whose MAE is exactly the error, each patient's the same."""
    return {
        size: np.full((seeds, N), error)
        for size, error in zip((50, 100, 200, 400), errors, strict=False)
    }


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=8))
def test_isotonic_is_scikit_learns(values):
    expected = IsotonicRegression().fit_transform(np.arange(len(values)), values)
    assert isotonic(values) == pytest.approx(expected, abs=1e-9)


def test_isotonic_of_rows_and_weights():
    rows = np.random.default_rng(0).normal(size=(5, 6))
    weights = np.arange(1.0, 7.0)
    for row, ours in zip(rows, isotonic(rows, weights), strict=True):
        model = IsotonicRegression().fit(np.arange(6), row, sample_weight=weights)
        assert ours == pytest.approx(model.predict(np.arange(6)), abs=1e-9)


def test_curve_is_monotone_and_log_linear():
    curve = learning_curve(mae, TARGET, _runs(4, 2, 3, 1), PATIENTS, higher_is_better=False)
    assert curve.sizes == (50, 100, 200, 400)
    assert [item.estimate for item in curve.intervals] == [4, 2, 3, 1]
    assert curve.monotone == (4, 2.5, 2.5, 1)
    assert curve.value_at(math.sqrt(50 * 100)) == pytest.approx(3.25)
    assert math.isnan(curve.value_at(49))
    with pytest.raises(StatisticsError, match="has no training size"):
        learning_curve(mae, TARGET, {}, PATIENTS)
    with pytest.raises(StatisticsError, match=r"training size\(s\) 0"):
        learning_curve(mae, TARGET, {0: np.zeros((1, N))}, PATIENTS)


def _savings(start, reference, **options):
    return label_savings(
        mae, TARGET, start, reference, PATIENTS, higher_is_better=False, replicates=200, **options
    )


def test_needed_patients_by_hand():
    found = _savings(_runs(4, 2, 1, 1), _runs(9, 8, 5, 3))
    assert found.patients == pytest.approx(math.sqrt(50 * 100))
    assert found.saved == pytest.approx(1 - math.sqrt(50 * 100) / 400)
    assert found.status == "interpolated"
    assert (found.reference_patients, found.reference_value) == (400, 3)
    text = found.text("ImageNet", "scratch", "MAE")
    assert text.startswith(
        "ImageNet needs about 71 patients to reach what scratch reaches with all 400 (MAE 3.000)"
    )
    assert "82% fewer" in text


def test_already_at_the_smallest_size():
    found = _savings(_runs(3, 2, 1, 1), _runs(9, 8, 5, 3))
    assert (found.patients, found.status) == (0.0, "at the smallest size")
    assert found.saved == pytest.approx(1 - 50 / 400)
    assert "already with 50 patients, the fewest tried" in found.text("a", "b", "MAE")
    assert "at least 88% fewer" in found.text("a", "b", "MAE")


def test_not_reached():
    found = _savings(_runs(9, 8, 7, 6), _runs(9, 8, 5, 3))
    assert found.patients == math.inf
    assert math.isnan(found.saved)
    assert found.text("a", "b", "MAE").startswith(
        "a does not reach what b reaches with all 400 (MAE 3.000) with up to 400 patients"
    )


def test_interval_holds_both_ends_and_censors_them():
    rng = np.random.default_rng(1)
    n = 60
    target = np.r_[np.ones(30), np.zeros(30)]
    latent = rng.normal(size=n)

    def runs(*apart):
        return {
            size: d * target + latent + 0.5 * rng.normal(size=(3, n))
            for size, d in zip((50, 100, 200), apart, strict=True)
        }

    start, reference = runs(0.4, 0.9, 1.6), runs(0.1, 0.5, 1.0)
    found = label_savings(auroc, target, start, reference, np.arange(n), seed=1)
    again = label_savings(auroc, target, start, reference, np.arange(n), seed=1)
    assert found == again
    assert found.low <= found.patients <= found.high
    wide = label_savings(auroc, target, reference, start, np.arange(n))
    assert wide.high == math.inf
    assert math.isnan(wide.saved_low)
    assert "more than 200]" in wide.text("a", "b", "AUROC")


def test_a_start_that_needs_more_saves_nothing():
    found = _savings({**_runs(9, 9, 9, 8), 800: np.full((2, N), 2.0)}, _runs(9, 8, 5, 3))
    assert 400 < found.patients < 800
    assert "more patients, none saved" in found.text("a", "b", "MAE")


def test_undefined_and_one_seed():
    found = label_savings(
        auroc, np.ones(N), {10: np.zeros((1, N))}, {20: np.ones((1, N))}, PATIENTS
    )
    assert found.status == "undefined"
    assert found.text("a", "b", "AUROC").startswith("Label savings of a cannot be given")
    single = _savings(_runs(4, 2, seeds=1), _runs(9, 3, seeds=1))
    assert "one training seed" in single.note


def test_a_flat_reference_is_said_to_need_fewer_itself():
    found = _savings(_runs(4, 2, 1, 1), _runs(9, 3, 3, 3))
    assert "The reference itself is as good already with 100 patients" in found.text(
        "a", "b", "MAE"
    )
    rising = _savings(_runs(4, 2, 1, 1), _runs(9, 8, 5, 3))
    assert "itself" not in rising.text("a", "b", "MAE")
