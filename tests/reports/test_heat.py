"""Example cases with heat: read, drawn, told in words; damaged ones fall back on plain slices."""

import json

import numpy as np
import pytest

from voxgraft.reports import parse_comparison, write_report
from voxgraft.reports.example_file import read_arrays, read_heat
from voxgraft.reports.heat import HeatPicture, gray_range, plane_label

HEAT = {
    "method": "Grad-CAM", "run": "net__scratch__n400__s0", "start": "scratch", "model": "net",
    "train_size": 400, "seed": 0, "output": "P(malignant)", "score": 0.875, "windows": 5,
}  # fmt: skip


def arrays(*, windows: bool = True) -> dict[str, np.ndarray]:
    """Return what a comparison stores of an explained study of 12 slices of 30 x 20 pixels."""
    rng = np.random.default_rng(0)
    image, heat = rng.random((12, 30, 20)), np.zeros((12, 30, 20))
    heat[7, 20:24, 3:8], heat[2, 5, 5] = 1.0, 0.4
    if windows:
        planes = [("axial", 7), ("axial", 2)]
    else:
        planes = [("axial", 7), ("coronal", 21), ("sagittal", 4)]
    stored = {
        "planes": np.array([name for name, _ in planes]),
        "planes_at": np.array([at for _, at in planes]),
        "voxel_mm": np.array([5.0, 0.8, 0.8]),
        "position_mm": np.arange(12) * 5.0 - 100,
        "slice_heat": heat.max(axis=(1, 2)),
    }
    for number, (name, at) in enumerate(planes):
        axis = ("axial", "coronal", "sagittal").index(name)
        stored[f"plane{number}"] = image.take(at, axis=axis).astype(np.float32)
        stored[f"heat{number}"] = heat.take(at, axis=axis).astype(np.float32)
    if windows:
        stored["slice_score"] = np.repeat([0.1, 0.6, 0.875], 4)
        stored["slice_attention"] = np.repeat([0.2, 0.3, 0.5], 4)
    return stored


def write(folder, made, case: int, stored: dict[str, np.ndarray], heat=HEAT) -> None:
    """Put heat into an example of a written comparison."""
    example = made["examples"][case]
    path = folder / example["file"]
    with np.load(path) as content:
        plain = dict(content)
    np.savez_compressed(path, **plain, **stored)
    example["heat"] = heat
    (folder / "comparison.json").write_text(json.dumps(made))


@pytest.fixture
def made(tmp_path, make_comparison):
    return make_comparison(tmp_path, starts=("scratch",), sizes=(400,), seeds=(0,), examples=3)


@pytest.mark.parametrize("windows", [True, False])
def test_the_page_shows_heat_and_says_what_it_is(tmp_path, made, windows) -> None:
    heat = HEAT | ({} if windows else {"windows": None})
    write(tmp_path, made, 0, arrays(windows=windows), heat)
    made["examples"][1]["heat"] = {"reason": "no run of this start <kept> its weights"}
    (tmp_path / "comparison.json").write_text(json.dumps(made))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    for words in (
        "speaks for P(malignant) in one trained network",
        "Grad-CAM (arXiv:1610.02391) of net from scratch, N = 400, seed 0",
        "run net__scratch__n400__s0",
        "no proof of a cause",
        "this network gives 0.88",
        "No heat: no run of this start &lt;kept&gt; its weights.",
        'class="cases heated"',
    ):
        assert words in page
    assert ("through windows" in page) == windows
    shown = "slice 7, −65 mm, window 0.60" if windows else "slice 7, −65 mm; coronal; sagittal"
    assert shown in page  # the picture in words
    assert page.count('<figure class="case">') == 3
    assert len(list((tmp_path / "figures").glob("slices-*.png"))) == 3


def test_a_page_without_heat_says_nothing_of_it(tmp_path, made) -> None:
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "no proof of a cause" not in page
    assert "No heat" not in page
    assert "Axial, coronal and sagittal slices of preprocessed test images" in page


def test_slices_are_stored_whole_and_drawn_upright(tmp_path, made) -> None:
    stored = arrays(windows=False)
    write(tmp_path, made, 0, stored)
    example = parse_comparison(made, "here").examples[0]
    picture = read_heat(read_arrays(tmp_path, example), example)
    assert isinstance(picture, HeatPicture)
    assert [plane.image.shape for plane in picture.planes] == [(30, 20), (12, 20), (12, 30)]
    assert picture.planes[0].position_mm == -65
    assert picture.score is None
    assert picture.score_label == "P(malignant)"


BROKEN = {
    "planes": np.array(["oblique", "axial"]),
    "planes_at": np.array([7, 99]),
    "voxel_mm": np.array([5.0, 0.0, 0.8]),
    "position_mm": np.zeros(3),
    "slice_heat": np.full(12, np.nan),
    "slice_score": np.zeros((12, 2)),
    "plane0": np.zeros((30, 19), np.float32),
    "heat0": np.full((30, 20), 7, np.float32),
    "heat1": np.array("x"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_damaged_heat_is_named_and_the_case_is_shown_without(tmp_path, made, name) -> None:
    write(tmp_path, made, 0, arrays() | {name: BROKEN[name]})
    example = parse_comparison(made, "here").examples[0]
    read = read_heat(read_arrays(tmp_path, example), example)
    assert isinstance(read, str)
    assert "its heat is damaged" in read
    if name == "heat0":
        page = write_report(tmp_path).read_text(encoding="utf-8")
        assert "Example c0000 is shown without heat: its heat is damaged (heat beyond" in page
        assert page.count('<figure class="case">') == 3


@pytest.mark.parametrize("name", sorted(arrays()))
def test_missing_arrays_are_no_traceback(tmp_path, made, name) -> None:
    stored = arrays()
    del stored[name]
    write(tmp_path, made, 0, stored)
    example = parse_comparison(made, "here").examples[0]
    optional = name in ("slice_score", "slice_attention")
    assert isinstance(read_heat(read_arrays(tmp_path, example), example), str) != optional


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (64, 512)])
def test_odd_sizes_and_no_heat_at_all_are_drawn(tmp_path, made, shape) -> None:
    stored = arrays()
    for number in range(2):
        stored[f"plane{number}"] = np.zeros(shape, np.float32)
        stored[f"heat{number}"] = np.zeros(shape, np.float32)
    for name in ("position_mm", "slice_heat", "slice_score", "slice_attention"):
        stored[name] = np.zeros(1) if shape == (1, 1) else np.zeros(12)
    if shape == (1, 1):
        stored["planes_at"] = np.array([0, 0])
    write(tmp_path, made, 0, stored)
    assert "no proof of a cause" in write_report(tmp_path).read_text(encoding="utf-8")


def test_gray_values_and_labels() -> None:
    assert gray_range(np.array([[0.0, 1.0]], np.float32)) == (0.0, 1.0)
    assert gray_range(np.full((2, 2), 3, np.float32)) == (3.0, 4.0)
    low, high = gray_range(np.linspace(-2, 5, 1000, dtype=np.float32))
    assert -2 < low < high < 5
    assert plane_label("axial", 12, -50.4, 0.5) == "slice 12, −50 mm\nwindow 0.50"
    assert plane_label("axial", None, None, None) == "axial"
    assert plane_label("coronal", None, None, None) == "coronal"
