"""Example cases as axial, coronal and sagittal slices, in the radiologists' orientation."""

from __future__ import annotations

import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxgraft.reports.comparison import Comparison, Example
from voxgraft.reports.predictions import inside
from voxgraft.reports.style import Panel, drawing, save
from voxgraft.reports.wording import slugs

MAX_EXAMPLES = 12
"""More than these are not drawn; the page says how many are left out."""

FOREGROUND = 0.1
"""Above this share of the image's range, a voxel counts as foreground."""

Image = NDArray[np.float32]
_DAMAGE = (
    OSError, ValueError, KeyError, TypeError, EOFError, NotImplementedError, RuntimeError,
    MemoryError, SyntaxError, Warning, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What numpy and zipfile raise on damaged .npz files; found by damaging some thousands."""
_PLANES = (
    ("Axial", "R", "L", "A", "P"),
    ("Coronal", "R", "L", "S", "I"),
    ("Sagittal", "A", "P", "S", "I"),
)
"""Name; what is at the left, right, top and bottom."""


def chosen_slice(foreground: NDArray[np.int64]) -> int:
    """Return which slice shows an axis best.

    Args:
        foreground: Foreground voxels in each slice along the axis.

    Returns:
        The middle slice if it shows at least half of the fullest slice's foreground, else the
        fullest slice.
    """
    middle = len(foreground) // 2
    return middle if 2 * foreground[middle] >= foreground.max() else int(foreground.argmax())


def orthogonal_slices(image: Image, spacing_mm: NDArray[np.float64]) -> list[tuple[Image, float]]:
    """Return axial, coronal and sagittal slices as seen on a radiologist's screen.

    Args:
        image: ``(depth, height, width)``, RAS+: depth to superior, height to anterior, width to
            right.
        spacing_mm: ``(depth, height, width)``.

    Returns:
        For each plane the pixels, top row first, and the height of a pixel over its width. Axial
        and coronal have the patient's right at the left; sagittal has anterior at the left.
    """
    low, high = float(image.min()), float(image.max())
    full = image > low + FOREGROUND * (high - low)
    at = [chosen_slice(full.sum(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    depth_mm, height_mm, width_mm = (float(value) for value in spacing_mm)
    return [
        (image[at[0], ::-1, ::-1], height_mm / width_mm),
        (image[::-1, at[1], ::-1], depth_mm / width_mm),
        (image[::-1, ::-1, at[2]], depth_mm / height_mm),
    ]


def read_example(folder: Path, example: Example) -> tuple[Image, NDArray[np.float64]] | str:
    """Return an example's image and spacing, or why they cannot be shown."""
    path = inside(folder, example.file)
    if path is None:
        return f"{example.file!r} is not inside the comparison's folder"
    if not path.is_file():
        return f"{example.file} is missing"
    try:
        with (
            warnings.catch_warnings(action="error"),
            path.open("rb") as handle,
            np.load(handle, allow_pickle=False) as content,
        ):
            image = np.asarray(content["image"], dtype=np.float32)
            spacing = np.asarray(content["spacing_mm"], dtype=np.float64)
    except _DAMAGE as error:
        return f"{example.file} is damaged ({str(error)[:80] or type(error).__name__})"
    if image.ndim != 3 or 0 in image.shape or not np.isfinite(image).all():
        return f"{example.file} holds an image of shape {image.shape}, expected 3 finite axes"
    if spacing.shape != (3,) or not ((spacing > 1e-3) & (spacing < 1e3)).all():
        return f"{example.file} has spacing {spacing.tolist()} mm, expected 3 sensible numbers"
    return image, spacing


def _range(image: Image) -> tuple[float, float]:
    if image.min() >= -0.01 and 0.02 < image.max() <= 1.01:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(image, (0.5, 99.5)))
    return (low, high) if high > low else (low, low + 1.0)


def example_panels(
    comparison: Comparison, folder: Path, figures: Path
) -> tuple[list[tuple[Example, Panel]], list[str]]:
    """Draw the slices of each example.

    Returns:
        Each example with its picture; and a sentence for each that could not be shown.
    """
    shown, faults = [], []
    names = slugs(example.case_id for example in comparison.examples)
    for example in comparison.examples[:MAX_EXAMPLES]:
        read = read_example(folder, example)
        if isinstance(read, str):
            faults.append(f"Example {example.case_id} is not shown: {read}.")
            continue
        shown.append((example, _panel(example, *read, figures, f"slices-{names[example.case_id]}")))
    if len(comparison.examples) > MAX_EXAMPLES:
        rest = len(comparison.examples) - MAX_EXAMPLES
        faults.append(f"{rest} further examples are in the folder, and not shown.")
    return shown, faults


def _panel(
    example: Example, image: Image, spacing: NDArray[np.float64], figures: Path, name: str
) -> Panel:
    low, high = _range(image)
    size_mm = [n * mm for n, mm in zip(image.shape, spacing, strict=True)]
    widths = [size_mm[2], size_mm[2], size_mm[1]]
    heights = [size_mm[1], size_mm[0], size_mm[0]]
    ratio = float(np.clip(max(heights) / sum(widths), 0.15, 1.0))
    with drawing(3.6, 0.3 + 3.5 * ratio) as figure:
        figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0.02)
        ratios = [float(np.clip(width / sum(widths), 0.05, 1)) for width in widths]
        panes = figure.subplots(1, 3, gridspec_kw={"width_ratios": ratios}, squeeze=False)[0]
        for axes, (pixels, aspect), plane in zip(
            panes, orthogonal_slices(image, spacing), _PLANES, strict=True
        ):
            axes.imshow(
                pixels, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest"
            )
            axes.set_axis_off()
            axes.set_title(plane[0], fontsize=9, pad=3)
            places = ((0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center"),
                      (0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom"))  # fmt: skip
            for letter, (x, y, horizontal, vertical) in zip(plane[1:], places, strict=True):
                axes.text(
                    x, y, letter,
                    transform=axes.transAxes, ha=horizontal, va=vertical, fontsize=7.5,
                    color="white", bbox={"facecolor": "black", "edgecolor": "none", "pad": 0.8,
                                         "alpha": 0.55},
                )  # fmt: skip
        shape = " × ".join(str(n) for n in image.shape)
        mm = " × ".join(f"{value:.3g}" for value in spacing)
        alt = (
            f"Axial, coronal and sagittal slice of case {example.case_id}, {shape} voxels of "
            f"{mm} mm (depth × height × width)."
        )
        return save(figure, figures, name, alt, raster=True)
