"""Test cases of a segmentation in pictures: what was drawn, and what each start found."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import patheffects
from numpy.typing import NDArray

from voxgraft.reports.comparison import Comparison
from voxgraft.reports.contour_case import ContourCase, Found
from voxgraft.reports.example_file import plain_numbers, read_npz
from voxgraft.reports.heat import mark_sides
from voxgraft.reports.style import Panel, drawing, save
from voxgraft.reports.wording import number, slugs

COLORS = (
    "#E69F00", "#56B4E9", "#F0E442", "#CC79A7", "#2BD49A", "#FF7043", "#B9A7FF", "#FFFFFF",
)  # fmt: skip
"""One a structure, light enough for gray pictures; a case shows no more structures than these."""

MOST_CASES = 6
"""More cases than these are not drawn."""

_WIDTH_INCHES = 2.6
_MARGIN = 0.12
"""Share of a slice that is shown around all contours."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a case: the plain slice, or with the contours of one start."""

    panel: Panel
    title: str
    dice: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A structure of a case: its color, and its Dice with each start."""

    structure: str
    color: str
    dice: list[str]


@dataclass(frozen=True, kw_only=True)
class Contoured:
    """A case as the page shows it."""

    case: ContourCase
    pictures: list[Picture]
    starts: list[str]
    rows: list[Row]


def contour_pictures(
    comparison: Comparison, folder: Path, figures: Path
) -> tuple[list[Contoured], list[str]]:
    """Draw the cases that the comparison chose.

    Returns:
        Each case with its pictures; and a sentence for each that could not be drawn.
    """
    contours = comparison.contours
    shown, faults = [], [f"Contours: {fault}" for fault in contours.faults]
    names = slugs(case.case_id for case in contours.cases)
    for case in contours.cases[:MOST_CASES]:
        own = [found for found in contours.found if found.case_id == case.case_id]
        if case.reason:
            faults.append(f"Contours of case {case.case_id} are not drawn: {case.reason}")
            continue
        read = _read(folder, case, len(own))
        if isinstance(read, str):
            faults.append(f"Contours of case {case.case_id} are not drawn: {read}.")
            continue
        shown.append(_contoured(comparison, case, own, read, figures, names[case.case_id]))
    if len(contours.cases) > MOST_CASES:
        rest = len(contours.cases) - MOST_CASES
        faults.append(f"Contours of {rest} further cases are in the folder, and not drawn.")
    return shown, faults


@dataclass(frozen=True)
class _Slice:
    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    """``(1 + runs, structures, height, width)``, the reference first."""
    aspect: float
    """Height of a pixel over its width."""


def _read(folder: Path, case: ContourCase, runs: int) -> _Slice | str:
    """Return a case's slice with its masks, or why it cannot be shown."""
    content = read_npz(folder, case.file)
    if isinstance(content, str):
        return content
    missing = [name for name in ("image", "masks", "pixel_mm") if name not in content]
    if missing:
        return f"{case.file} holds no {', '.join(missing)}"
    image, masks, pixel = content["image"], content["masks"], content["pixel_mm"]
    if image.dtype != np.uint8 or not plain_numbers(image, 2):
        return f"{case.file} holds an image of shape {image.shape} and dtype {image.dtype}"
    expected = (1 + runs, len(case.structures), *image.shape)
    if masks.dtype != np.bool_ or masks.shape != expected or not 1 <= expected[1] <= len(COLORS):
        return f"{case.file} holds masks of shape {masks.shape}, expected {expected}"
    if not plain_numbers(pixel, 1) or len(pixel) != 2 or not ((pixel > 1e-3) & (pixel < 1e3)).all():
        return f"{case.file} has pixels of {pixel.tolist()} mm"
    return _Slice(image, masks, float(pixel[0] / pixel[1]))


def _contoured(
    comparison: Comparison,
    case: ContourCase,
    own: list[Found],
    read: _Slice,
    figures: Path,
    name: str,
) -> Contoured:
    several = len(comparison.model_names) > 1
    labels = [f"{found.start}, {found.model}" if several else found.start for found in own]
    colors = _colors(comparison, case)
    read = _cut(read)
    where = f"Axial slice {case.slice} of {case.slices} of case {case.case_id}"
    listed = ", ".join(case.structures)
    alone = f"{where}, without contours."
    pictures = [
        Picture(panel=_draw(read, None, [], figures, f"contours-{name}", alone), title="Slice")
    ]
    for place, (found, label) in enumerate(zip(own, labels, strict=True), 1):
        each = ", ".join(
            f"{structure} {number(value, 2)}"
            # A file from elsewhere may have fewer numbers.
            for structure, value in zip(case.structures, found.structures, strict=False)
        )
        alt = (
            f"{where} with contours of {listed}: the reference (solid) and what {label} found "
            f"(dashed). Dice in the whole scan: {each}."
        )
        panel = _draw(read, place, colors, figures, f"contours-{name}-{place}", alt)
        pictures.append(Picture(panel=panel, title=label, dice=number(found.dice, 2)))
    rows = [
        Row(
            structure=structure,
            color=colors[k],
            dice=[
                number(found.structures[k] if k < len(found.structures) else None, 2)
                for found in own
            ],
        )
        for k, structure in enumerate(case.structures)
    ]
    return Contoured(case=case, pictures=pictures, starts=labels, rows=rows)


def _colors(comparison: Comparison, case: ContourCase) -> list[str]:
    """Return a color for each structure; the same in all cases where there are enough."""
    classes = comparison.task.classes
    if len(classes) <= len(COLORS) and set(case.structures) <= set(classes):
        return [COLORS[classes.index(structure)] for structure in case.structures]
    return list(COLORS[: len(case.structures)])


def _cut(read: _Slice) -> _Slice:
    """Return what lies around the contours: at least half of the slice along each axis."""
    held = np.asarray(read.masks.any(axis=(0, 1)))
    cuts = []
    for axis, size in enumerate(read.image.shape):
        along = np.flatnonzero(held.any(axis=1 - axis))
        low, high = (int(along[0]), int(along[-1]) + 1) if len(along) else (0, size)
        margin = round(_MARGIN * size) + 1
        least = max(0, -(-size // 2) - (high - low) - 2 * margin)
        begin = max(0, min(low - margin - least // 2, size - (high - low) - 2 * margin - least))
        cuts.append(slice(begin, min(size, max(high + margin, begin + -(-size // 2)))))
    rows, columns = cuts
    return _Slice(read.image[rows, columns], read.masks[..., rows, columns], read.aspect)


def _draw(
    read: _Slice, run: int | None, colors: list[str], figures: Path, name: str, alt: str
) -> Panel:
    """Draw a slice, with the contours of the reference and of a run if one is given."""
    height, width = read.image.shape
    tall = float(np.clip(height * read.aspect / width, 0.4, 1.6))
    with drawing(_WIDTH_INCHES, _WIDTH_INCHES * tall) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.imshow(
            read.image, cmap="gray", vmin=0, vmax=255, aspect="auto", interpolation="nearest"
        )
        if run is not None:
            for k, color in enumerate(colors):
                _contour(axes, read.masks[0, k], color, dashed=False)
            for k, color in enumerate(colors):
                _contour(axes, read.masks[run, k], color, dashed=True)
        axes.set_axis_off()
        mark_sides(axes, "axial")
        return save(figure, figures, name, alt, raster=True)


def _contour(axes: Any, mask: NDArray[np.bool_], color: str, *, dashed: bool) -> None:
    """Draw the border of a mask along its pixels' edges, dark below so that it shows on bone."""
    if not mask.any():
        return
    fine = np.pad(np.kron(mask, np.ones((4, 4))), 1)
    height, width = mask.shape
    rows = np.concatenate([[-0.5], np.arange(4 * height) / 4 - 0.375, [height - 0.5]])
    columns = np.concatenate([[-0.5], np.arange(4 * width) / 4 - 0.375, [width - 0.5]])
    lines = axes.contour(
        columns,
        rows,
        fine,
        levels=[0.5],
        colors=[color],
        linewidths=1.5 if dashed else 1.1,
        linestyles=[(0, (2.2, 1.4))] if dashed else ["solid"],
    )
    lines.set_path_effects(
        [patheffects.Stroke(linewidth=2.3, foreground="#00000090"), patheffects.Normal()]
    )
