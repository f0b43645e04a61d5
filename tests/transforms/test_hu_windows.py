"""Windows of Hounsfield units by hand: bounds, names, and several windows as channels."""

import json
from typing import Any

import numpy as np
import pytest

from voxgraft.errors import PreprocessingError
from voxgraft.transforms import WINDOWS_HU, Window, WindowChannels, parse_intensity
from voxgraft.transforms.intensity import intensity_to_dict

CHEST = WindowChannels((Window(-1350, 150), Window(-100, 900), Window(-160, 240)))


def volume(values: list[float]) -> np.ndarray:
    return np.array(values, dtype=np.float32).reshape(1, 1, 1, -1)


def test_a_window_maps_its_bounds_to_0_and_1_and_clips() -> None:
    result = Window(-1350, 150).apply(volume([-2000, -1350, -600, 150, 3000]))
    np.testing.assert_allclose(result.ravel(), [0, 0, 0.5, 1, 1])


def test_the_windows_that_the_paper_prints_as_ranges_are_center_and_width() -> None:
    assert Window.from_center_width(-600, 1500) == Window(-1350, 150) == Window.named("lung")
    assert Window.from_center_width(400, 1000) == Window(-100, 900) == Window.named("pe")
    assert "[-1350, 150]" in Window.named("lung").describe()
    assert "center -600, width 1500" in Window.named("lung").describe()
    for low, high in WINDOWS_HU.values():
        assert low < high


def test_a_pair_that_was_a_center_and_a_width_is_recognized_when_it_is_impossible() -> None:
    with pytest.raises(PreprocessingError, match=r"low 400 is not below high 100.*\[350, 450\]"):
        Window(400, 100)


def test_each_window_becomes_a_channel_in_its_order() -> None:
    result = CHEST.apply(volume([-2000, -600, -100, 40, 150, 400, 3000]))
    assert result.shape == (3, 1, 1, 7)
    assert result.dtype == np.float32
    expected = [
        [0, 0.5, 1250 / 1500, 1390 / 1500, 1, 1, 1],
        [0, 0, 0, 0.14, 0.25, 0.5, 1],
        [0, 0, 0.15, 0.5, 310 / 400, 1, 1],
    ]
    np.testing.assert_allclose(result[:, 0, 0], expected, atol=1e-6)


def test_a_channel_is_what_its_window_alone_makes() -> None:
    voxels = np.random.default_rng(0).normal(0, 600, (1, 4, 5, 6)).astype(np.float32)
    before = voxels.copy()
    result = CHEST.apply(voxels)
    for channel, window in zip(result, CHEST.windows, strict=True):
        np.testing.assert_array_equal(channel, window.apply(voxels)[0])
    np.testing.assert_array_equal(voxels, before)


@pytest.mark.parametrize(
    "setting",
    [
        {"kind": "window_channels", "windows": ["lung", "pe", "mediastinum"]},
        {"windows": ["lung", "pe", "mediastinum"]},
        {
            "windows": [
                {"center": -600, "width": 1500},
                {"low": -100, "high": 900},
                {"name": "soft_tissue"},
            ]
        },
        {"windows": (Window(-1350, 150), "pe", [*CHEST.windows][2])},
        CHEST,
    ],
)
def test_windows_come_by_name_and_by_numbers_and_come_back_as_bounds(setting: Any) -> None:
    assert parse_intensity(setting) == CHEST
    plain = intensity_to_dict(CHEST)
    assert plain["windows"][0] == {"low": -1350.0, "high": 150.0}
    assert parse_intensity(json.loads(json.dumps(plain))) == CHEST
    assert hash(parse_intensity(plain)) == hash(CHEST)
    assert CHEST.describe() == (
        "3 channels by windows [-1350, 150], [-100, 900], [-160, 240], each → [0, 1]"
    )
    assert CHEST.bounds_hu == ((-1350, 150), (-100, 900), (-160, 240))


def test_all_entries_that_are_no_windows_are_named_at_once() -> None:
    entries = ["lungs", [400, 1000], {"low": 3, "high": 1}, {"low": 3}, {"center": 0, "width": 1}]
    with pytest.raises(PreprocessingError) as error:
        parse_intensity({"kind": "window_channels", "windows": entries})
    message = str(error.value)
    assert "(4 faults)" in message
    for part in (
        "windows[0]: no window is called 'lungs'",
        "windows[1]: [400, 1000] is no window",
        "low 3 is not below high 1",
        "windows[3]: {'low': 3} is no window",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "window_channels"}, "missing setting 'windows'"),
        ({"windows": []}, r"windows is \(\). Expected a list"),
        ({"windows": "lung"}, "windows is 'lung'. Expected a list"),
        ({"windows": ["lung"], "low": 3}, "unknown setting 'low'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PreprocessingError, match=message):
        parse_intensity(settings)
    with pytest.raises(PreprocessingError, match=r"windows\[0\] is 'lung'. Expected a Window"):
        WindowChannels(("lung",))  # type: ignore[arg-type]


def test_several_channels_are_refused_by_name() -> None:
    two = np.zeros((2, 3, 3, 3), dtype=np.float32)
    with pytest.raises(PreprocessingError, match=r"a/b\.nii has 2 channels. Expected one channel"):
        CHEST.apply(two, "a/b.nii")


def test_one_window_may_be_empty_but_not_all() -> None:
    """Around a small nodule in the lung, bone shows nothing; air alone shows nothing anywhere."""
    lung = volume([-900, -700, -500])
    bone = WindowChannels((Window.named("lung"), Window.named("bone")))
    assert (bone.apply(lung)[1] == 0).all()
    with pytest.raises(PreprocessingError, match="Expected values that differ"):
        Window.named("bone").apply(lung - 1000)
    with pytest.raises(PreprocessingError, match=r"after the windows \[-160, 240\], \[0, 80\]"):
        WindowChannels((Window.named("abdomen"), Window.named("brain"))).apply(lung, "scan")
