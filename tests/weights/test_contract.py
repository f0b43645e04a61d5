"""A source's input contract against what it is given: what differs, and what is done."""

from __future__ import annotations

from typing import Any

import pytest

from voxgraft.weights import InputContract
from voxgraft.weights.contract import (
    GivenInput,
    compare_input,
    contract_in_words,
    network_scaling,
)

RGB = InputContract(channels=3, mean=(0.4, 0.5, 0.6), sd=(0.2, 0.2, 0.2), size=(224, 224))
CT = InputContract(
    channels=1,
    mean=(0.0,),
    sd=(1.0,),
    value_range=(-1.0, 1.0),
    window_hu=(-1000.0, 1000.0),
    size=(96, 96, 96),
    spacing_mm=(1.5, 1.5, 1.5),
)
MRI = InputContract(channels=1, mean=(0.0,), sd=(1.0,), value_range=(-2.0, 2.0), z_score=True)


def _given(**changes: Any) -> GivenInput:
    return GivenInput(**{"channels": 1, "scaling": "unit", **changes})


def _texts(contract: InputContract, given: GivenInput) -> dict[str, tuple[bool, str]]:
    return {f.what: (f.differs, f.text) for f in compare_input(contract, given, stem="sum")}


def test_an_image_network_on_gray_volumes() -> None:
    found = _texts(RGB, _given(size_voxels=(16, 32, 32)))
    assert found["channels"][0]
    assert "trained on 3, the volumes have 1: the stem is folded (sum)" in found["channels"][1]
    assert not found["intensity"][0]
    assert found["size"][0]
    assert "trained at 224 × 224 pixels, the volumes have 16 × 32 × 32" in found["size"][1]
    assert "spacing" not in found
    assert not _texts(RGB, _given(size_voxels=(9, 200, 224)))["size"][0]
    assert network_scaling(RGB, _given()) == (pytest.approx((0.5,)), pytest.approx((0.2,)))


def test_a_ct_network_as_it_was_trained() -> None:
    given = _given(
        window_hu=(-1000.0, 1000.0), spacing_mm=(1.5, 1.5, 1.4), size_voxels=(96, 96, 96)
    )
    assert not any(differs for differs, _ in _texts(CT, given).values())
    mean, sd = network_scaling(CT, given)
    low, high = (0.0 - mean[0]) / sd[0], (1.0 - mean[0]) / sd[0]
    assert (low, high) == pytest.approx((-1.0, 1.0))  # as in training


@pytest.mark.parametrize(
    ("changes", "what", "words"),
    [
        ({}, "intensity", "each volume here has bounds of its own"),
        ({}, "intensity", "set preprocessing.intensity to the window -1000 to 1000"),
        ({"window_hu": (-160.0, 240.0)}, "intensity", "the window here is -160 to 240 HU"),
        ({"scaling": "z_score"}, "intensity", "standardized one by one"),
        ({"scaling": "raw"}, "intensity", "keep the numbers of their files"),
        ({}, "spacing", "trained at 1.5 × 1.5 × 1.5 mm; each scan here keeps its own spacing"),
        ({"spacing_mm": (3.0, 1.5, 0.75)}, "spacing", "looks 0.5 × 1 × 2 times as large"),
        ({}, "size", "each scan here keeps its own size"),
    ],
)
def test_what_differs_is_named(changes: dict[str, Any], what: str, words: str) -> None:
    differs, text = _texts(CT, _given(**changes))[what]
    assert differs
    assert words in text


CHEST = ((-1350.0, 150.0), (-100.0, 900.0), (-160.0, 240.0))


def test_windows_as_channels() -> None:
    given = _given(channels=3, channel_windows_hu=CHEST)
    found = _texts(RGB, given)
    assert not found["channels"][0]
    assert not found["intensity"][0]
    differs, text = _texts(CT, given)["intensity"]
    assert differs
    assert "the channels' windows here are -1350 to 150 and -100 to 900 and -160 to 240 HU" in text
    chained = InputContract(channels=3, mean=(0.5,) * 3, sd=(0.25,) * 3, channel_windows_hu=CHEST)
    assert not _texts(chained, given)["intensity"][0]
    for other in (
        _given(channels=3, channel_windows_hu=CHEST[::-1]),
        _given(channels=3, window_hu=CHEST[0]),
        _given(),
    ):
        differs, text = _texts(chained, other)["intensity"]
        assert differs
        assert "-160 to 240 HU, a channel each, mapped to 0 to 1" in text
    once = _given(channels=3, channel_windows_hu=((-1000.0, 1000.0),) * 3)
    assert not _texts(CT, once)["intensity"][0]  # one window in every channel


def test_axes_that_keep_each_scans_own() -> None:
    given = _given(spacing_mm=(3.0, None, None), size_voxels=(None, 96, 96))
    differs, text = _texts(CT, given)["spacing"]
    assert differs
    assert "the volumes are at 3 × own × own mm: what is in them looks 0.5 × ? × ?" in text
    differs, text = _texts(CT, given)["size"]
    assert differs
    assert "the volumes have own × 96 × 96 voxels" in text
    differs, text = _texts(RGB, _given(size_voxels=(None, 224, 224)))["size"]
    assert not differs
    assert text == "own × 224 × 224 voxels, near the 224 × 224 pixels of the training"
    assert "keeps its own size" in _texts(RGB, _given(size_voxels=(32, None, None)))["size"][1]


def test_standardized_scans() -> None:
    given = _given(scaling="z_score")
    assert not _texts(MRI, given)["intensity"][0]
    assert network_scaling(MRI, given) == ((0.0,), (1.0,))
    differs, text = _texts(MRI, _given())["intensity"]
    assert differs
    assert "stretched to [-2, 2]. `preprocessing.intensity: z_score` is as in training" in text
    mean, sd = network_scaling(MRI, _given())
    assert ((0.0 - mean[0]) / sd[0], (1.0 - mean[0]) / sd[0]) == pytest.approx((-2.0, 2.0))


def test_the_numbers_of_files_go_by_the_sources_own_scale() -> None:
    assert network_scaling(RGB, _given(channels=3, scaling="raw")) == (RGB.mean, RGB.sd)


def test_a_contract_in_a_line() -> None:
    assert contract_in_words(RGB) == (
        "3 channels; values from 0 to 1; less 0.4, 0.5, 0.6, over 0.2, 0.2, 0.2; 224 × 224 pixels"
    )
    assert contract_in_words(CT) == (
        "1 channel; -1000 to 1000 HU mapped to -1 to 1; 96 × 96 × 96 voxels; at 1.5 × 1.5 × 1.5 mm"
    )
    assert contract_in_words(MRI) == "1 channel; scans standardized one by one"
