"""Example cases as axial, coronal and sagittal slices, in the radiologists' orientation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from voxgraft.reports.comparison import Comparison, Example
from voxgraft.reports.example_file import plain_numbers, read_arrays, read_heat, sensible_mm
from voxgraft.reports.heat import SIDES, HeatPicture, gray_range, heat_panel, mark_sides
from voxgraft.reports.style import Panel, drawing, save
from voxgraft.reports.wording import slugs

MAX_EXAMPLES = 12
"""More than these are not drawn; the page says how many are left out."""

FOREGROUND = 0.1
"""Above this share of the image's range, a voxel counts as foreground."""

Image = NDArray[np.float32]


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
    content = read_arrays(folder, example)
    if isinstance(content, str):
        return content
    if "image" not in content or "spacing_mm" not in content:
        return f"{example.file} holds no image with its spacing"
    image, spacing = content["image"], content["spacing_mm"]
    if not plain_numbers(image, 3) or not np.isfinite(image).all():
        return f"{example.file} holds an image of shape {image.shape}, expected 3 finite axes"
    if not sensible_mm(spacing):
        return f"{example.file} has spacing {spacing.tolist()} mm, expected 3 sensible numbers"
    return image.astype(np.float32), spacing.astype(np.float64)


@dataclass(frozen=True)
class Case:
    """An example case as the page shows it."""

    example: Example
    panel: Panel
    heated: bool
    """Whether the picture shows heat."""


def example_panels(
    comparison: Comparison, folder: Path, figures: Path
) -> tuple[list[Case], list[str]]:
    """Draw the slices of each example: where its file has heat, those with the most of it.

    Returns:
        Each example with its picture; and a sentence for each that could not be shown.
    """
    shown, faults = [], []
    names = slugs(example.case_id for example in comparison.examples)
    for example in comparison.examples[:MAX_EXAMPLES]:
        name = f"slices-{names[example.case_id]}"
        if example.heat is not None and example.heat.run:
            picture = _heat_of(folder, example)
            if isinstance(picture, HeatPicture):
                alt = _alt(example, picture)
                shown.append(Case(example, heat_panel(picture, figures, name, alt), True))
                continue
            faults.append(f"Example {example.case_id} is shown without heat: {picture}.")
        read = read_example(folder, example)
        if isinstance(read, str):
            faults.append(f"Example {example.case_id} is not shown: {read}.")
            continue
        shown.append(Case(example, _panel(example, *read, figures, name), False))
    if len(comparison.examples) > MAX_EXAMPLES:
        rest = len(comparison.examples) - MAX_EXAMPLES
        faults.append(f"{rest} further examples are in the folder, and not shown.")
    return shown, faults


def _heat_of(folder: Path, example: Example) -> HeatPicture | str:
    content = read_arrays(folder, example)
    return content if isinstance(content, str) else read_heat(content, example)


def _alt(example: Example, picture: HeatPicture) -> str:
    labels = "; ".join(plane.label.replace("\n", ", ") for plane in picture.planes)
    strip = "heat along the study" + (
        "" if picture.score is None else ", with the score of its windows"
    )
    return f"Slices of case {example.case_id}, plain and with heat: {labels}. Below: {strip}."


def _panel(
    example: Example, image: Image, spacing: NDArray[np.float64], figures: Path, name: str
) -> Panel:
    low, high = gray_range(image)
    size_mm = [n * mm for n, mm in zip(image.shape, spacing, strict=True)]
    widths = [size_mm[2], size_mm[2], size_mm[1]]
    heights = [size_mm[1], size_mm[0], size_mm[0]]
    ratio = float(np.clip(max(heights) / sum(widths), 0.15, 1.0))
    with drawing(3.6, 0.3 + 3.5 * ratio) as figure:
        figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0.02)
        ratios = [float(np.clip(width / sum(widths), 0.05, 1)) for width in widths]
        panes = figure.subplots(1, 3, gridspec_kw={"width_ratios": ratios}, squeeze=False)[0]
        for axes, (pixels, aspect), plane in zip(
            panes, orthogonal_slices(image, spacing), SIDES, strict=True
        ):
            axes.imshow(
                pixels, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest"
            )
            axes.set_axis_off()
            axes.set_title(plane.capitalize(), fontsize=9, pad=3)
            mark_sides(axes, plane)
        shape = " × ".join(str(n) for n in image.shape)
        mm = " × ".join(f"{value:.3g}" for value in spacing)
        alt = (
            f"Axial, coronal and sagittal slice of case {example.case_id}, {shape} voxels of "
            f"{mm} mm (depth × height × width)."
        )
        return save(figure, figures, name, alt, raster=True)
