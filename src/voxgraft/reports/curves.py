"""Learning curves: the metric against the number of training patients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from voxgraft.reports.comparison import Comparison, Curve, Point
from voxgraft.reports.style import GRAY, WIDE_INCHES, Look, Panel, drawing, looks, save
from voxgraft.reports.wording import direction, metric_decimals, number, short, slugs

FLAG_COLOR = "#B00020"
BASELINE_DASHES = ((0, (7, 4)), (0, (2, 2)), (0, (9, 3, 2, 3)), (0, (1, 4)))


def learning_curves(comparison: Comparison, folder: Path) -> list[Panel]:
    """Draw a panel for each model that has an estimate, all on the same vertical axis."""
    look = looks(comparison.start_names, comparison.baseline_start)
    names = slugs(comparison.model_names)
    limits = _limits(comparison)
    panels = []
    for model in comparison.model_names:
        curves = [
            curve
            for curve in comparison.curves
            if curve.model == model and any(p.estimate is not None for p in curve.points)
        ]
        if curves:
            name = f"learning-curve-{names[model]}"
            panels.append(_panel(comparison, model, curves, look, limits, folder, name))
    return panels


def _limits(comparison: Comparison) -> tuple[float, float]:
    points = [point for curve in comparison.curves for point in curve.points]
    values = [v for p in points for v in (p.estimate, p.low, p.high, *p.values)]
    known = [value for value in values if value is not None]
    if not known:
        return 0.0, 1.0
    low, high = min(known), max(known)
    near = high - low or 0.1 * abs(high)
    lines = [b.estimate for b in comparison.baselines if b.estimate is not None]
    known += [value for value in lines if low - near <= value <= high + near]
    low, high = min(known), max(known)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return low - margin, high + margin


def _panel(
    comparison: Comparison,
    model: str,
    curves: list[Curve],
    look: dict[str, Look],
    limits: tuple[float, float],
    folder: Path,
    name: str,
) -> Panel:
    sizes = sorted({p.train_size for c in curves for p in c.points if p.estimate is not None})
    with drawing(WIDE_INCHES, 4) as figure:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        step = np.log(sizes[-1] / sizes[0]) / max(1, len(sizes) - 1) if len(sizes) > 1 else 0.5
        spread = min(0.035, 0.3 * step / max(1, len(curves)))
        flagged = False
        for n, curve in enumerate(curves):
            shift = float(np.exp(spread * (n - (len(curves) - 1) / 2)))
            flagged |= _curve(axes, curve, look[curve.start], shift)
        room = max(0.25, 0.35 * step)
        axes.set_xlim(sizes[0] * np.exp(-room), sizes[-1] * np.exp(room))
        axes.set_ylim(*limits)
        axes.xaxis.set_major_locator(FixedLocator(_ticks(sizes)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        _baselines(axes, comparison, limits)
        if flagged:
            axes.plot(
                [], [], linestyle="none", marker="x", color=FLAG_COLOR, label="rests on flagged run"
            )
        axes.set_xlabel("Training patients (log scale)")
        axes.set_ylabel(f"{short(comparison.task.label, 20)}, test ({direction(comparison.task)})")
        if len(comparison.model_names) > 1:
            axes.set_title(short(model, 44), loc="left")
        _, labels = axes.get_legend_handles_labels()
        ncols = 2 if max(map(len, labels)) <= 22 else 1
        figure.set_figheight(3.5 + 0.21 * -(-len(labels) // ncols))
        figure.legend(loc="outside lower left", ncols=ncols, handlelength=2.6, columnspacing=1.2)
        return save(figure, folder, name, _alt(comparison, model, curves))


def _baselines(axes: Axes, comparison: Comparison, limits: tuple[float, float]) -> None:
    """Draw a dashed line a baseline; one far off the scale is named in the legend alone."""
    decimals = metric_decimals(comparison)
    for n, baseline in enumerate(comparison.baselines):
        if baseline.estimate is None:
            continue
        label = f"baseline: {short(baseline.name, 24)}"
        dashes = BASELINE_DASHES[n % len(BASELINE_DASHES)]
        if limits[0] <= baseline.estimate <= limits[1]:
            axes.axhline(
                baseline.estimate,
                color=GRAY, linewidth=1.3, linestyle=dashes, label=label, zorder=1,
            )  # fmt: skip
        else:
            where = "above" if baseline.estimate > limits[1] else "below"
            label += f" {number(baseline.estimate, decimals)} ({where} the scale)"
            axes.plot([], [], color=GRAY, linewidth=1.3, linestyle=dashes, label=label)


def _ticks(sizes: list[int], apart: float = 0.055) -> list[int]:
    """Return the sizes whose labels have room on a log axis; first and last are kept."""
    span = np.log(sizes[-1] / sizes[0]) or 1.0
    kept = [sizes[0]]
    for size in sizes[1:]:
        if np.log(size / kept[-1]) / span >= apart:
            kept.append(size)
    if kept[-1] != sizes[-1]:
        kept[-1:] = [sizes[-1]] if len(kept) > 1 else [kept[0], sizes[-1]]
    return kept


def _curve(axes: Axes, curve: Curve, look: Look, shift: float) -> bool:
    points = sorted(
        (point for point in curve.points if point.estimate is not None),
        key=lambda point: point.train_size,
    )
    x = np.array([point.train_size * shift for point in points])
    y = np.array([point.estimate for point in points], dtype=float)
    bounded = [n for n, p in enumerate(points) if p.low is not None and p.high is not None]
    low = np.array([points[n].low for n in bounded], dtype=float)
    high = np.array([points[n].high for n in bounded], dtype=float)
    if bounded:
        axes.vlines(x[bounded], low, high, color=look.color, linewidth=1.1, alpha=0.75, zorder=2)
    if len(bounded) > 1:
        axes.fill_between(x[bounded], low, high, color=look.color, alpha=0.1, linewidth=0)
    for point, at in zip(points, x, strict=True):
        _seeds(axes, point, at, look)
    axes.plot(
        x, y,
        color=look.color, marker=look.marker, linestyle=look.dashes, label=short(curve.start),
        markeredgecolor="white", markeredgewidth=0.7, markersize=7, zorder=4,
    )  # fmt: skip
    marked = [n for n, point in enumerate(points) if point.flagged]
    axes.plot(x[marked], y[marked], "x", color=FLAG_COLOR, markersize=11, zorder=5, mew=1.6)
    return bool(marked)


def _seeds(axes: Axes, point: Point, at: float, look: Look) -> None:
    values = [value for value in point.values if value is not None]
    if len(values) > 1:
        axes.plot(
            [at] * len(values), values,
            linestyle="none", marker=look.marker, markersize=3.4, markerfacecolor="white",
            markeredgecolor=look.color, markeredgewidth=0.8, alpha=0.8, zorder=3,
        )  # fmt: skip


def _alt(comparison: Comparison, model: str, curves: list[Curve]) -> str:
    decimals = metric_decimals(comparison)
    parts = []
    for curve in curves:
        known = [p for p in curve.points if p.estimate is not None]
        known.sort(key=lambda point: point.train_size)
        shown = ", ".join(f"{number(p.estimate, decimals)} at {p.train_size:,}" for p in known)
        parts.append(f"{curve.start}: {shown}")
    return (
        f"Learning curves of {model}: {comparison.task.label} on the test split against the "
        f"number of training patients. {'; '.join(parts)}."
    )
