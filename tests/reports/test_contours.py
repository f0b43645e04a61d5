"""Test cases with contours: pictures from the folder's files alone, and what is wrong in words."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from voxgraft.reports import write_report
from voxgraft.reports.contours import COLORS

CLASSES = ["liver", "kidney_left", "aorta"]
STARTS = ["scratch", "partial labels"]


def ball(center: tuple[float, float], radius: float, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = np.indices(shape)
    return (rows - center[0]) ** 2 + (columns - center[1]) ** 2 < radius**2


def write_case(folder: Path, number: int, shape: tuple[int, int] = (60, 80)) -> dict[str, Any]:
    """Write a slice with three balls; the first start finds smaller ones, elsewhere."""
    rng = np.random.default_rng(number)
    truth = np.stack(
        [ball((30, 24), 13, shape), ball((38, 55), 6, shape), ball((40, 41), 3, shape)]
    )
    first = np.stack([ndimage.binary_erosion(m, iterations=2) for m in np.roll(truth, 3, axis=2)])
    first[2] = False
    second = np.stack([ndimage.binary_dilation(m) for m in truth])
    body = 255 * np.clip(0.35 * ball((32, 40), 29, shape) + 0.3 * truth.sum(axis=0), 0, 1)
    image = np.clip(body + rng.normal(0, 9, shape), 0, 255).astype(np.uint8)
    file = f"examples/contours{number}.npz"
    (folder / "examples").mkdir(exist_ok=True)
    masks = np.stack([truth, first, second])
    np.savez_compressed(folder / file, image=image, masks=masks, pixel_mm=np.array([3.0, 3.0]))
    return {
        "case_id": f"body_{number:04d}",
        "patient_id": f"p{number}",
        "why": ("best", "middle", "worst")[number],
        "dice": 0.8 - 0.2 * number,
        "file": file,
        "slice": 12,
        "slices": 20,
        "window": "gray from -160 to 240 HU",
        "structures": CLASSES,
        "more_structures": 0,
    }


def write_folder(folder: Path) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    cases = [write_case(folder, number) for number in range(3)]
    runs = [{"start": s, "model": "segresnet_8", "run": f"r__{s}", "seed": 0} for s in STARTS]
    found = [
        {
            "case_id": case["case_id"],
            "start": start,
            "model": "segresnet_8",
            "dice": 0.4 + 0.3 * place,
            "structures": [0.5 + 0.3 * place, 0.3 + 0.3 * place, None],
        }
        for case in cases
        for place, start in enumerate(STARTS)
    ]
    content = {
        "format": 1,
        "task": {"kind": "segmentation", "metric": "dice", "classes": CLASSES},
        "models": ["segresnet_8"],
        "starts": [{"name": start} for start in STARTS],
        "contours": {
            "train_size": 8,
            "n_cases": 20,
            "runs": runs,
            "cases": cases,
            "found": found,
            "faults": [],
        },
    }
    write(folder, content)
    return content


def write(folder: Path, content: dict[str, Any]) -> None:
    (folder / "comparison.json").write_text(json.dumps(content), encoding="utf-8")


class Images(HTMLParser):
    """Every image with its alternative text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img":
            self.found.append((values["src"] or "", values.get("alt") or ""))


def test_every_case_has_its_slice_alone_and_with_each_start(tmp_path):
    write_folder(tmp_path)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    images = Images(page).found
    assert len(images) == 3 * (1 + len(STARTS))
    assert all(source.startswith("data:image/png;base64,") for source, _ in images)
    assert "without contours" in images[0][1]
    assert "slice 12 of 20 of case body_0000" in images[1][1]
    assert "aorta —" in images[1][1]  # no Dice: in neither
    assert "what partial labels found (dashed)" in images[2][1]
    for words in ("best of 20", "gray from -160 to 240 HU", "ordered by Dice", "Patient p1"):
        assert words in page
    assert all(f"background:{color}" in page for color in COLORS[:3])
    names = {path.stem for path in (tmp_path / "figures").glob("contours-*.png")}
    assert len(names) == 9
    assert "Left out of this page" not in page


def test_contours_lie_on_the_edges_of_their_voxels(tmp_path, monkeypatch):
    drawn = {}

    def seen(axes, mask, color, *, dashed):
        before = len(axes.collections)
        original(axes, mask, color, dashed=dashed)
        paths = axes.collections[before].get_paths()
        drawn[dashed] = np.concatenate([path.vertices for path in paths])

    from voxgraft.reports import contours

    original = contours._contour
    content = write_folder(tmp_path)
    image = np.zeros((40, 40), np.uint8)
    masks = np.zeros((3, 1, 40, 40), bool)
    masks[:, 0, 10:20, 5:35] = True
    file = tmp_path / content["contours"]["cases"][0]["file"]
    np.savez_compressed(file, image=image, masks=masks, pixel_mm=np.array([1.0, 1.0]))
    case = content["contours"]["cases"][0] | {"structures": ["liver"]}
    content["contours"]["cases"] = [case]
    write(tmp_path, content)
    monkeypatch.setattr(contours, "_contour", seen)
    write_report(tmp_path)
    for vertices in drawn.values():
        low, high = vertices.min(axis=0), vertices.max(axis=0)
        # (column, row); the picture is cut, so only sizes are known; a fourth of a voxel is smooth
        np.testing.assert_allclose(high - low, (30, 10), atol=0.3)


@pytest.mark.parametrize(
    "damage",
    ["missing", "cut", "outside", "masks", "image", "pixel", "color"],
)
def test_what_cannot_be_drawn_is_said(tmp_path, damage):
    content = write_folder(tmp_path)
    case = content["contours"]["cases"][1]
    file = tmp_path / case["file"]
    with np.load(file) as arrays:
        values = dict(arrays)
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:200])
    elif damage == "outside":
        case["file"] = "../../etc/passwd"
    elif damage == "masks":
        np.savez(file, **values | {"masks": values["masks"][:, :2]})
    elif damage == "image":
        np.savez(file, **values | {"image": values["image"].astype(float)})
    elif damage == "pixel":
        np.savez(file, **values | {"pixel_mm": np.array([np.nan, 1.0])})
    else:
        case["structures"] = [f"s{n}" for n in range(len(COLORS) + 1)]
    write(tmp_path, content)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "Contours of case body_0001 are not drawn" in page
    assert len(Images(page).found) == 6


def test_reasons_of_the_comparison_are_passed_on(tmp_path):
    content = write_folder(tmp_path)
    content["contours"]["cases"][0]["reason"] = "its masks have changed <since>"
    content["contours"]["faults"] = ["runs/x/test_slices.npz cannot be read"]
    write(tmp_path, content)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "its masks have changed &lt;since&gt;" in page
    assert "Contours: runs/x/test_slices.npz cannot be read" in page
    content["contours"] = None
    write(tmp_path, content)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert not re.search(r'id="contours"', page)
    assert not list((tmp_path / "figures").glob("contours-*"))
