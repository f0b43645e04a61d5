import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from voxgraft.errors import PreprocessingError
from voxgraft.transforms import Keep, MinMax, Scale, Window, ZScore, parse_intensity
from voxgraft.transforms.intensity import intensity_to_dict


def volume(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float32).reshape(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ({"kind": "window", "low": -100, "high": 900}, Window(-100, 900)),
        ({"kind": "window", "center": 400, "width": 1000}, Window(-100, 900)),
        ({"center": 400, "width": 1000}, Window(-100, 900)),
        ({"low": -100, "high": 900.0}, Window(-100, 900)),
        ({"kind": "window", "name": "lung"}, Window(-1350, 150)),
        ({"name": "lung"}, Window(-1350, 150)),
        ("lung", Window(-1350, 150)),
        ({"kind": "min_max"}, MinMax()),
        ("z_score", ZScore()),
        ({"kind": "z_score", "foreground_only": True}, ZScore(foreground_only=True)),
        ({"kind": "scale", "low": 0, "high": 255}, Scale(0, 255)),
        ("keep", Keep()),
        (Keep(), Keep()),
    ],
)
def test_settings_are_read_at_the_door_and_come_back(setting: object, expected: object) -> None:
    intensity = parse_intensity(setting)
    assert intensity == expected
    assert parse_intensity(intensity_to_dict(intensity)) == intensity


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"kind": "window", "low": 150, "high": -1350}, "low 150 is not below high -1350"),
        ({"kind": "window", "low": 400, "high": 400}, r"bounds are \[200, 600\]"),
        ({"center": 400, "width": -3}, r"window.width is -3\. Expected a positive"),
        ({"center": 400, "width": float("nan")}, "window.width is nan. Expected a finite"),
        ({"low": True, "high": 3}, "window.low is True"),
        ({"low": "0", "high": 3}, "window.low is '0'"),
        ({"low": 10**400, "high": 3}, "Expected a finite number"),
        ({"kind": "window", "low": 1}, "missing setting 'high'"),
        ({"kind": "window", "low": 1, "width": 3}, "unknown setting 'width'"),
        (
            {"kind": "windows"},
            "intensity.kind is 'windows'. Expected kind: window, window_channels, min_max",
        ),
        ({"kind": "window", "name": "lungs"}, "no window is called 'lungs'. Known are lung, pe"),
        ({"kind": "min_max", "low_percentile": 60, "high_percentile": 40}, "percentiles 60 and 40"),
        ({"kind": "z_score", "high_percentile": 101}, "Expected 0 <= low < high <= 100"),
        ({"kind": "z_score", "foreground_only": 1}, "foreground_only is 1. Expected true or"),
        ({"kind": "keep", "low": 3}, "unknown setting 'low'"),
        ({}, "intensity.kind is None"),
        ("lungs", "or the name of a window: lung, pe"),
        ([400, 1000], "not a mapping"),
        (None, "not a mapping"),
    ],
)
def test_impossible_settings_are_refused(setting: object, message: str) -> None:
    with pytest.raises(PreprocessingError, match=message):
        parse_intensity(setting)


def test_min_max_and_z_score_by_hand() -> None:
    two = np.stack([volume([0, 1, 2, 4])[0], volume([10, 20, 30, 30])[0]])
    np.testing.assert_allclose(
        MinMax(0, 100).apply(two).reshape(2, 4), [[0, 0.25, 0.5, 1], [0, 0.5, 1, 1]]
    )
    scored = ZScore().apply(two).reshape(2, 4)
    np.testing.assert_allclose(scored.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(scored.std(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(scored[0, 0], (0 - 1.75) / np.std([0, 1, 2, 4]), rtol=1e-6)
    foreground = ZScore(foreground_only=True).apply(volume([0, 0, 0, 2, 4])).ravel()
    np.testing.assert_allclose(foreground, [-3, -3, -3, -1, 1])


def test_percentiles_clip_what_lies_outside() -> None:
    values = np.arange(101, dtype=np.float32).reshape(1, 1, 1, -1)
    result = MinMax(10, 90).apply(values).ravel()
    assert result[:11].max() == 0
    assert result[90:].min() == 1
    assert result[50] == pytest.approx(0.5)
    clipped = ZScore(10, 90).apply(values).ravel()
    assert clipped[0] == clipped[10] == -clipped[90]


@given(
    npst.arrays(np.float32, (1, 2, 3, 4), elements=st.floats(-(2.0**100), 2.0**100, width=32)),
    st.sampled_from([Window(-100, 900), MinMax(), MinMax(0, 100), ZScore(), ZScore(5, 95, True)]),
)
@settings(max_examples=150, deadline=None)
def test_normalized_values_are_finite_or_the_volume_is_refused(
    voxels: np.ndarray, intensity: Window | MinMax | ZScore
) -> None:
    before = voxels.copy()
    try:
        result = intensity.apply(voxels, "scan.nii")
    except PreprocessingError as error:
        assert "scan.nii" in str(error)  # noqa: PT017
        return
    assert np.isfinite(result).all()
    assert result.dtype == np.float32
    if not isinstance(intensity, ZScore):
        assert result.min() >= 0
        assert result.max() <= 1
    np.testing.assert_array_equal(voxels, before)


@pytest.mark.parametrize("intensity", [Window(-100, 900), MinMax(), ZScore()])
def test_a_constant_volume_is_refused_by_name(intensity: Window | MinMax | ZScore) -> None:
    with pytest.raises(PreprocessingError, match=r"a/b\.nii.*(constant|are both 37)"):
        intensity.apply(np.full((1, 3, 3, 3), 37, dtype=np.float32), "a/b.nii")


def test_a_volume_outside_of_the_window_is_refused() -> None:
    with pytest.raises(PreprocessingError, match="values run from 2000 to 3000"):
        Window(-100, 900).apply(volume([2000, 3000]))
