"""Slices with the heat of a network's score on them, and how score and heat run along a study."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from voxgraft.files import atomic_path
from voxgraft.reports.style import GRAY, INK, Panel, drawing, save
from voxgraft.reports.wording import number as number_text
from voxgraft.reports.wording import short, with_minus

Image = NDArray[np.float32]
Floats = NDArray[np.float64]
PlaneName = Literal["axial", "coronal", "sagittal"]
SIDES: dict[PlaneName, tuple[str, str, str, str]] = {
    "axial": ("R", "L", "A", "P"),
    "coronal": ("R", "L", "S", "I"),
    "sagittal": ("A", "P", "S", "I"),
}
"""What lies at the left, right, top and bottom of each plane, on a radiologist's screen."""

HALF = 0.5
"""The line encloses what has at least this share of the study's maximum."""

_ACROSS: tuple[PlaneName, ...] = ("axial", "coronal", "sagittal")
_SCORE = "#0072B2"
_HEAT = "#D55E00"
_WIDTH_INCHES = 5.4
_FLATTEST_INCHES, _TALLEST_INCHES = 0.5, 2.4
_STRIP_INCHES = 1.5


def _heat_colors() -> ListedColormap:
    """Return orange to yellow, the lowest heat transparent: the slice stays readable."""
    share = np.linspace(0, 1, 256)[:, None]
    low, high = np.array([[0.8, 0.2, 0.0]]), np.array([[1.0, 0.88, 0.1]])
    colors = np.concatenate(
        [low + (high - low) * share, 0.72 * np.clip(share * 1.15, 0, 1)], axis=1
    )
    return ListedColormap(colors, name="heat")


@dataclass(frozen=True, eq=False)
class HeatPlane:
    """A slice of a preprocessed study with its heat, in the order of the study's axes."""

    plane: PlaneName
    image: Image
    heat: Image
    """From 0 to 1; 1 is the study's maximum."""
    label: str
    """What stands above it, one line or two."""
    position_mm: float | None = None
    """Of an axial slice its place along the strip."""


@dataclass(frozen=True, eq=False)
class HeatPicture:
    """What is drawn of one study."""

    planes: tuple[HeatPlane, ...]
    voxel_mm: tuple[float, float, float]
    """(depth, height, width)."""
    gray: tuple[float, float]
    """Values that are black and white."""
    position_mm: Floats
    """Of each slice of the study, from feet to head."""
    heat: Floats
    """Of each slice the largest in it."""
    score: Floats | None
    """Of each slice the largest of its windows; None of a study that is seen whole."""
    attention: Floats | None
    score_label: str
    """What the score is: ``P(embolism)``."""


def gray_range(image: Image) -> tuple[float, float]:
    """Return the values that are drawn black and white."""
    if image.min() >= -0.01 and 0.02 < image.max() <= 1.01:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(image, (0.5, 99.5)))
    return (low, high) if high > low else (low, low + 1.0)


def plane_label(
    plane: PlaneName, number: int | None, position_mm: float | None, score: float | None
) -> str:
    """Return what stands above a slice: what it is, where it lies, the score of its windows."""
    if plane != "axial":
        return plane
    label = "axial" if number is None else f"slice {number}"
    if position_mm is not None:
        label += with_minus(f", {position_mm:.0f} mm")
    return label if score is None else f"{label}\nwindow {number_text(score, 2)}"


def upright(pixels: Image) -> Image:
    """Return a slice, given in the order of RAS+ axes, as seen on a radiologist's screen."""
    return pixels[::-1, ::-1]


def mark_sides(axes: Any, plane: PlaneName) -> None:
    """Write at the border of a slice what lies there."""
    places = (
        (0.02, 0.5, "left", "center"),
        (0.98, 0.5, "right", "center"),
        (0.5, 0.98, "center", "top"),
        (0.5, 0.02, "center", "bottom"),
    )
    for letter, (x, y, horizontal, vertical) in zip(SIDES[plane], places, strict=True):
        axes.text(
            x,
            y,
            letter,
            transform=axes.transAxes,
            ha=horizontal,
            va=vertical,
            fontsize=7.5,
            color="white",
            bbox={"facecolor": "black", "edgecolor": "none", "pad": 0.8, "alpha": 0.55},
        )


def heat_panel(picture: HeatPicture, folder: Path, name: str, alt: str) -> Panel:
    """Draw a study for the page: plain slices, the same with heat, and the strip."""
    with drawing(*_inches(picture)) as figure:
        _draw(figure, picture)
        return save(figure, folder, name, alt, raster=True)


def write_heat_png(picture: HeatPicture, path: Path, title: str) -> None:
    """Draw a study as a PNG file, with a title."""
    width, height = _inches(picture)
    lines = title.count("\n") + 1
    with drawing(width, height + 0.2 * lines) as figure:
        figure.suptitle(title, fontsize=9, x=0.01, ha="left")
        _draw(figure, picture)
        with atomic_path(path) as temporary, warnings.catch_warnings():
            # A file's name may have characters that the font lacks: they are drawn as boxes.
            warnings.filterwarnings(
                "ignore", message="Glyph .* missing from font", category=UserWarning
            )
            figure.savefig(temporary, format="png", dpi=200, metadata={"Software": "Voxgraft"})


def _sizes_mm(picture: HeatPicture) -> list[tuple[float, float]]:
    """Return height and width of each plane."""
    sizes = []
    for plane in picture.planes:
        rows, columns = _pixel_mm(picture, plane.plane)
        sizes.append((plane.image.shape[0] * rows, plane.image.shape[1] * columns))
    return sizes


def _pixel_mm(picture: HeatPicture, plane: PlaneName) -> tuple[float, float]:
    kept = [mm for mm, across in zip(picture.voxel_mm, _ACROSS, strict=True) if across != plane]
    return kept[0], kept[1]


def _inches(picture: HeatPicture) -> tuple[float, float]:
    sizes = _sizes_mm(picture)
    each = 0.89 * _WIDTH_INCHES / max(3, len(sizes))
    tallest = max(each * height / width for height, width in sizes)
    lines = max(plane.label.count("\n") + 1 for plane in picture.planes)
    return _WIDTH_INCHES, 2 * min(
        max(tallest, _FLATTEST_INCHES), _TALLEST_INCHES
    ) + 0.17 * lines + 0.1 + _STRIP_INCHES


def _draw(figure: Figure, picture: HeatPicture) -> None:
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    share = _STRIP_INCHES / figure.get_figheight()
    above, below = cast(Any, figure.subfigures(2, 1, height_ratios=[1 - share, share]))
    columns = max(3, len(picture.planes))
    panes = above.subplots(2, columns, squeeze=False)
    colors = _heat_colors()
    shown = None
    for column in range(columns):
        for row in range(2):
            panes[row, column].set_axis_off()
        if column >= len(picture.planes):
            continue
        plane = picture.planes[column]
        rows_mm, columns_mm = _pixel_mm(picture, plane.plane)
        pixels, heat = upright(plane.image), upright(plane.heat)
        for axes in panes[:, column]:
            axes.imshow(
                pixels,
                cmap="gray",
                vmin=picture.gray[0],
                vmax=picture.gray[1],
                aspect=rows_mm / columns_mm,
                interpolation="nearest",
            )
            mark_sides(axes, plane.plane)
        panes[0, column].set_title(plane.label, fontsize=8, pad=3)
        warm = panes[1, column]
        shown = warm.imshow(
            heat,
            cmap=colors,
            vmin=0,
            vmax=1,
            aspect=rows_mm / columns_mm,
            interpolation="bilinear",
        )
        if min(heat.shape) > 1 and heat.min() < HALF <= heat.max():
            for color, width in (("black", 1.8), ("white", 0.8)):
                warm.contour(heat, levels=[HALF], colors=color, linewidths=width)
    assert shown is not None
    if not any(plane.heat.any() for plane in picture.planes):
        words = "no heat: nothing in\nthis study speaks for it"
        panes[1, 0].text(
            0.5, 0.25, words, transform=panes[1, 0].transAxes, ha="center", fontsize=7,
            color="white", bbox={"facecolor": "black", "edgecolor": "none", "pad": 1.5},
        )  # fmt: skip
    bar = above.colorbar(shown, ax=list(panes[1]), shrink=0.85, pad=0.01, ticks=[0, HALF, 1])
    bar.ax.tick_params(labelsize=7, length=2)
    bar.set_label("heat", fontsize=8)
    bar.outline.set_linewidth(0.5)
    _strip(below.subplots(1, 1), picture)


def _strip(axes: Any, picture: HeatPicture) -> None:
    """Draw heat, and with windows their scores, along the study from feet to head."""
    place = picture.position_mm
    axes.grid(axis="x", visible=False)
    axes.fill_between(place, 0, picture.heat, color=_HEAT, alpha=0.3, lw=0, step="mid")
    axes.plot(place, picture.heat, color=_HEAT, lw=0.9, drawstyle="steps-mid")
    axes.set_ylim(0, 1.12)
    axes.set_yticks([0, HALF, 1])
    axes.set_ylabel("heat", fontsize=8, color=_HEAT)
    axes.set_xlabel("position, feet to head (mm)", fontsize=8)
    if place.max() > place.min():
        half = abs(place[1] - place[0]) / 2
        axes.set_xlim(place.min() - half, place.max() + half)
    for plane in picture.planes:
        if plane.position_mm is not None:
            axes.axvline(plane.position_mm, color=INK, lw=0.7, ls=(0, (2, 2)))
    axes.tick_params(labelsize=7.5)
    if picture.score is None:
        return
    side = axes.twinx()
    side.grid(visible=False)
    side.spines["right"].set_visible(True)
    side.plot(
        place,
        picture.score,
        color=_SCORE,
        lw=1.4,
        drawstyle="steps-mid",
        label=f"{short(picture.score_label)} of its windows",
    )
    if picture.attention is not None:
        side.plot(
            place,
            picture.attention / max(float(picture.attention.max()), 1e-12),
            color=GRAY,
            lw=1.1,
            ls=(0, (3, 1.5)),
            drawstyle="steps-mid",
            label="their attention, of the largest",
        )
    if picture.score_label.startswith("P("):
        side.set_ylim(0, 1.12)
        side.set_yticks([0, 0.5, 1])
    side.set_ylabel("window", fontsize=8, color=_SCORE)
    side.tick_params(labelsize=7.5)
    side.legend(fontsize=7.5, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0.1)
