import json
from pathlib import Path

import numpy as np
import pytest

from voxgraft.errors import PreprocessingError
from voxgraft.transforms import (
    Keep,
    MinMax,
    Preprocessing,
    Scale,
    Window,
    WindowChannels,
    ZScore,
    crop_or_pad,
    orient,
    preprocess,
    resample,
)
from voxgraft.volumes import Affine, Volume

LPS = np.array([[0, 0, -1.0, 30], [0, -1.5, 0, 40], [3, 0, 0, -50], [0, 0, 0, 1]])


def ct(shape: tuple[int, int, int] = (10, 12, 14), path: Path | None = None) -> Volume:
    voxels = np.random.default_rng(0).integers(-1024, 1500, (1, *shape)).astype(np.int16)
    return Volume(voxels, Affine(LPS), path)


@pytest.mark.parametrize(
    "intensity",
    [
        Window(-1000, 1000),
        WindowChannels((Window(-1000, 0), Window(0, 1000))),
        MinMax(),
        ZScore(),
        Scale(0, 9),
        Keep(),
    ],
)
@pytest.mark.parametrize("size", [None, (8, 9, 10), (20, 21, 22), (4, 30, 11)])
def test_the_steps_are_those_that_are_described_in_that_order(
    intensity: Window | WindowChannels | MinMax | ZScore | Scale | Keep,
    size: tuple[int, int, int] | None,
) -> None:
    settings = Preprocessing(spacing_mm=(2, 2, 2), size_voxels=size, intensity=intensity)
    result = preprocess(ct(), settings)
    steps = resample(orient(ct()), (2, 2, 2))
    normalized = intensity.apply(steps.voxels)
    by_hand = Volume(normalized, steps.affine)
    if size is not None:
        fill = normalized.min() if isinstance(intensity, ZScore | Keep) else 0.0
        by_hand = crop_or_pad(by_hand, size, value=fill)
    np.testing.assert_array_equal(result.voxels, by_hand.voxels)
    assert result.affine == by_hand.affine
    assert result.affine.orientation == "RAS"
    assert result.voxels.dtype == np.float32
    assert result.voxels.flags.c_contiguous


def test_axes_go_to_a_spacing_to_a_number_of_voxels_or_stay() -> None:
    """The scan has 10 × 12 × 14 voxels of 3 × 1.5 × 1 mm."""
    settings = Preprocessing(
        spacing_mm=(2.0, None, None),
        resize_voxels=(None, 6, 28),
        size_voxels=(None, 4, 32),
        intensity=Keep(),
    )
    result = preprocess(ct(), settings)
    turned = orient(ct())
    steps = resample(turned, (2.0, None, None), size_voxels=(None, 6, 28))
    assert steps.shape == (15, 6, 28)
    assert steps.spacing_mm == pytest.approx((2, 3, 0.5))
    by_hand = crop_or_pad(steps, (15, 4, 32), value=float(steps.voxels.min()))
    np.testing.assert_array_equal(result.voxels, by_hand.voxels)
    assert result.affine == by_hand.affine


def test_a_study_keeps_its_slices_and_its_own_spacing_in_the_plane() -> None:
    settings = Preprocessing(
        resize_voxels=(None, 8, 8), size_voxels=(None, 6, 6), intensity=Window(-1000, 1000)
    )
    for depth in (1, 5, 9):
        scan = Volume(ct((depth, 16, 16)).voxels, Affine.from_spacing((2.5, 0.7, 0.6)))
        result = preprocess(scan, settings)
        assert result.voxels.shape == (1, depth, 6, 6)
        assert result.spacing_mm == pytest.approx((2.5, 1.4, 1.2))


def test_what_is_known_of_every_volume() -> None:
    partly = Preprocessing(
        spacing_mm=(1.25, None, None), resize_voxels=(None, 256, 256), size_voxels=(None, 224, None)
    )
    assert partly.fixed_spacing_mm is None
    assert partly.known_size_voxels == (None, 224, 256)
    wholly = Preprocessing(spacing_mm=(1, 1, 1), size_voxels=(8, 9, 10))
    assert wholly.fixed_spacing_mm == (1, 1, 1)
    assert wholly.known_size_voxels == (8, 9, 10)
    assert Preprocessing().fixed_spacing_mm is Preprocessing().known_size_voxels is None


def test_padding_has_the_normalized_background_and_not_the_mean() -> None:
    settings = Preprocessing(size_voxels=(30, 30, 30), intensity=Window(-1000, 1000))
    assert preprocess(ct(), settings).voxels[0, 0, 0, 0] == 0
    chosen = Preprocessing(size_voxels=(30, 30, 30), intensity=ZScore(), background=-5)
    assert preprocess(ct(), chosen).voxels[0, 0, 0, 0] == -5


def test_the_input_is_left_alone_and_not_shared() -> None:
    voxels = np.random.default_rng(0).random((1, 4, 4, 4)).astype(np.float32)
    volume = Volume(voxels, Affine.from_spacing((1, 1, 1)))
    before = voxels.copy()
    result = preprocess(volume, Preprocessing(intensity=Keep()))
    result.voxels[:] = 7
    np.testing.assert_array_equal(voxels, before)


def test_settings_come_back_from_json() -> None:
    settings = Preprocessing(
        spacing_mm=(1.5, None, None),
        resize_voxels=(None, 128, 128),
        size_voxels=(64, 96, None),
        intensity=Window.named("pe"),
        interpolation="nearest",
        background=0.25,
        storage="uint8",
    )
    assert Preprocessing.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert Preprocessing.from_dict({}) == Preprocessing()
    nothing = Preprocessing(spacing_mm=(None, None, None), size_voxels=(None, None, None))
    assert nothing == Preprocessing()
    assert nothing.to_dict() == Preprocessing().to_dict()
    same = Preprocessing.from_dict(
        {"spacing_mm": [1, 1, 1], "intensity": {"center": 5, "width": 2}}
    )
    assert same == Preprocessing(spacing_mm=(1.0, 1.0, 1.0), intensity=Window(4, 6))
    assert same.to_dict()["intensity"] == {"kind": "window", "low": 4.0, "high": 6.0}


def test_the_description_prints_bounds() -> None:
    settings = Preprocessing.from_dict(
        {"size_voxels": [8, 8, 8], "intensity": {"center": -600, "width": 1500}}
    )
    lines = settings.describe().splitlines()
    assert "window [-1350, 150] → [0, 1] (center -600, width 1500)" in lines
    assert "crop and pad to 8 × 8 × 8 voxels around the center, padding with 0" in lines
    partly = Preprocessing(
        spacing_mm=(1.25, None, None), resize_voxels=(None, 256, 256), size_voxels=(None, None, 64)
    )
    assert partly.describe().splitlines()[1:3] == [
        "resample depth to 1.25 mm, linear",
        "resample height and width to 256 × 256 voxels, linear, keeping the field of view",
    ]
    assert "crop and pad width to 64 voxels around the center, padding with 0" in (
        partly.describe().splitlines()
    )
    assert (
        "the volume's minimum"
        in Preprocessing(size_voxels=(8, 8, 8), intensity=ZScore()).describe()
    )


def test_all_faults_are_named_at_once() -> None:
    with pytest.raises(PreprocessingError) as error:
        Preprocessing.from_dict(
            {
                "spacing": [1, 1, 1],
                "spacing_mm": [1, -1, 1],
                "size_voxels": [64, 64.0, 64],
                "intensity": {"kind": "window", "low": 3, "high": 1},
                "interpolation": "cubic",
                "background": float("nan"),
                "storage": "int4",
            }
        )
    message = str(error.value)
    assert "(7 faults)" in message
    for part in (
        "unknown setting 'spacing'",
        "spacing_mm is [1, -1, 1]",
        "size_voxels is [64, 64.0, 64]",
        "low 3 is not below high 1",
        "interpolation is 'cubic'. Expected one of 'linear', 'nearest'.",
        "background is nan",
        "storage is 'int4'",
    ):
        assert part in message
    with pytest.raises(PreprocessingError, match="2 faults"):
        Preprocessing(spacing_mm=(0, 1, 1), size_voxels=(0, 1, 1))
    with pytest.raises(PreprocessingError) as error:
        Preprocessing(spacing_mm=(1, 1, None), resize_voxels=(4, 4, 4), size_voxels=(0, None, 1.5))  # type: ignore[arg-type]
    message = str(error.value)
    assert "(2 faults)" in message
    assert "spacing_mm and resize_voxels are both given for depth and height" in message
    assert "size_voxels is (0, None, 1.5)" in message
    with pytest.raises(PreprocessingError, match="preprocessing is 3, not a mapping"):
        Preprocessing.from_dict(3)  # type: ignore[arg-type]
    with pytest.raises(PreprocessingError, match="at most 2,147,483,648 voxels"):
        Preprocessing(size_voxels=(10**6, 10**6, 10**6))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused_with_file_and_place(bad: float) -> None:
    voxels = np.zeros((1, 3, 4, 5), dtype=np.float32)
    voxels[0, 1, 2, 3] = bad
    volume = Volume(voxels, Affine.from_spacing((1, 1, 1)), Path("some/scan.nii.gz"))
    with pytest.raises(PreprocessingError, match=r"some/scan.nii.gz has 1 NaN or infinite of 60"):
        preprocess(volume, Preprocessing(intensity=Keep()))


def test_a_float64_that_overflows_float32_is_refused() -> None:
    voxels = np.full((1, 2, 2, 2), 1e300)
    volume = Volume(voxels, Affine.from_spacing((1, 1, 1)), Path("scan.nii"))
    with pytest.raises(PreprocessingError, match=r"scan.nii, after values kept as they are, has 8"):
        preprocess(volume, Preprocessing(intensity=Keep()))


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.uint16, np.int32, np.float64])
def test_every_real_dtype_is_taken(dtype: type) -> None:
    voxels = (np.arange(60).reshape(1, 3, 4, 5) % 2).astype(dtype)
    settings = Preprocessing(spacing_mm=(1, 1, 0.5), intensity=MinMax(0, 100))
    result = preprocess(Volume(voxels, Affine.from_spacing((1, 1, 1))), settings)
    assert result.voxels.dtype == np.float32
    assert result.voxels.shape == (1, 3, 4, 10)
    assert (result.voxels.min(), result.voxels.max()) == (0, 1)
