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
    "intensity", [Window(-1000, 1000), MinMax(), ZScore(), Scale(0, 9), Keep()]
)
@pytest.mark.parametrize("size", [None, (8, 9, 10), (20, 21, 22), (4, 30, 11)])
def test_the_steps_are_those_that_are_described_in_that_order(
    intensity: Window | MinMax | ZScore | Scale | Keep, size: tuple[int, int, int] | None
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
        spacing_mm=(1.5, 1, 1),
        size_voxels=(64, 96, 96),
        intensity=Window.named("pe"),
        interpolation="nearest",
        background=0.25,
        storage="uint8",
    )
    assert Preprocessing.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings
    assert Preprocessing.from_dict({}) == Preprocessing()
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
