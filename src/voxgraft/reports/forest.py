"""Forest plot: the paired differences with their intervals."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes

from voxgraft.reports.comparison import Comparison, Difference
from voxgraft.reports.conclusions import supported
from voxgraft.reports.style import GRAY, INK, LIGHT, WIDE_INCHES, Panel, drawing, looks, save
from voxgraft.reports.wording import estimate_text, metric_decimals, p_text, short, slugs

ROWS_PER_PANEL = 16
LONG_NAME = 18
"""Longer names have a line to themselves."""
NAME_LINE = 0.42
HEADING, ROW = 0.9, 1.0
"""Heights, in units of :data:`UNIT_INCHES`."""
UNIT_INCHES = 0.4


def forest_plots(comparison: Comparison, folder: Path) -> list[Panel]:
    """Draw the differences of each model, at most :data:`ROWS_PER_PANEL` a panel."""
    panels = []
    names = slugs(difference.model for difference in comparison.differences)
    known = [d for d in comparison.differences if d.estimate is not None]
    limits = _limits(known)
    for model, name in names.items():
        rows = sorted((d for d in known if d.model == model), key=lambda d: d.train_size)
        chunks = _chunks(rows)
        for n, chunk in enumerate(chunks):
            part = f"_{n + 1}" if len(chunks) > 1 else ""
            title = model if len(comparison.model_names) > 1 else ""
            if part and n:
                title = f"{title} (continued)".strip()
            panels.append(
                _panel(comparison, chunk, limits, folder, f"differences-{name}{part}", title)
            )
    return panels


def _chunks(rows: list[Difference]) -> list[list[Difference]]:
    """Divide into panels, between training sizes where that is possible."""
    chunks: list[list[Difference]] = []
    for _, group in groupby(rows, key=lambda row: row.train_size):
        rest = list(group)
        if chunks and len(chunks[-1]) + len(rest) <= ROWS_PER_PANEL:
            chunks[-1] += rest
            continue
        while rest:
            chunks.append(rest[:ROWS_PER_PANEL])
            rest = rest[ROWS_PER_PANEL:]
    return chunks


def _limits(rows: list[Difference]) -> tuple[float, float]:
    values = [v for row in rows for v in (row.estimate, row.low, row.high) if v is not None]
    low, high = min([0.0, *values]), max([0.0, *values])
    margin = 0.06 * (high - low) or 0.05
    return low - margin, high + margin


def _panel(
    comparison: Comparison,
    rows: list[Difference],
    limits: tuple[float, float],
    folder: Path,
    name: str,
    title: str,
) -> Panel:
    sizes = list(dict.fromkeys(row.train_size for row in rows))
    height = HEADING * len(sizes) + sum(ROW + NAME_LINE * _is_long(row, rows) for row in rows)
    with drawing(WIDE_INCHES, UNIT_INCHES * height + 0.9 + (0.3 if title else 0.0)) as figure:
        axes = figure.add_subplot()
        axes.set_xlim(*limits)
        axes.set_ylim(height, 0)
        axes.axvline(0, color=INK, linewidth=1, zorder=1)
        axes.grid(axis="y", visible=False)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        _rows(axes, comparison, rows)
        directions(axes, comparison, {row.against for row in rows}, "Paired difference")
        if title:
            axes.set_title(short(title, 44), loc="left", pad=20)
        return save(figure, folder, name, _alt(comparison, rows))


def _label(row: Difference, rows: list[Difference]) -> str:
    alone = len({other.against for other in rows}) == 1
    return row.start if alone else f"{row.start} vs {row.against}"


def _is_long(row: Difference, rows: list[Difference]) -> bool:
    return len(_label(row, rows)) > LONG_NAME


def _rows(axes: Axes, comparison: Comparison, rows: list[Difference]) -> None:
    names = [*comparison.start_names, *(d.start for d in comparison.differences)]
    look = looks(list(dict.fromkeys(names)), comparison.baseline_start)
    decimals = metric_decimals(comparison)
    across = axes.get_yaxis_transform()
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
    at = 0.0
    for n, (size, group) in enumerate(groupby(rows, key=lambda row: row.train_size)):
        if n:
            axes.axhline(at + 0.12, color=LIGHT, linewidth=0.8)
        axes.text(
            0, at + 0.6 * HEADING, f"N = {size:,} training patients",
            transform=across, weight="bold", va="center", fontsize=9.5, bbox=box,
        )  # fmt: skip
        at += HEADING
        for row in group:
            text = estimate_text(row, decimals, signed=True)
            if row.p_holm is not None:
                p = p_text(row.p_holm)
                text += f"  p {p}" if p.startswith("<") else f"  p = {p}"
            axes.text(
                0, at + 0.2, short(_label(row, rows), 46),
                transform=across, va="center", fontsize=9.5, bbox=box, zorder=2,
            )  # fmt: skip
            at += NAME_LINE * _is_long(row, rows)
            axes.text(
                1, at + 0.2, text,
                transform=across, va="center", ha="right", fontsize=9.5, bbox=box, zorder=2,
            )  # fmt: skip
            style = look[row.start]
            filled = supported(row, comparison.task.higher_is_better) != 0
            if row.low is not None and row.high is not None:
                axes.plot(
                    [row.low, row.high], [at + 0.68] * 2, color=style.color, linewidth=2, zorder=3
                )
            axes.plot(
                [row.estimate or 0.0], [at + 0.68],
                marker=style.marker, color=style.color, markersize=7.5, zorder=4,
                markerfacecolor=style.color if filled else "white", markeredgewidth=1.5,
            )  # fmt: skip
            at += ROW


def directions(axes: Axes, comparison: Comparison, against: set[str], what: str) -> None:
    """Say below the axis what it is, and above it which way is whose."""
    other = next(iter(against)) if len(against) == 1 else "the other"
    other = short(other, 20)
    axes.set_xlabel(f"{what} in {short(comparison.task.label, 36)}")
    left, right = f"◀ {other} better", "start better ▶"
    if not comparison.task.higher_is_better:
        left, right = "◀ start better", f"{other} better ▶"
    across = axes.get_xaxis_transform()
    low, high = axes.get_xlim()
    style = {"fontsize": 9, "color": GRAY, "va": "bottom", "transform": across}
    axes.text(low, 1.01, left, ha="left", **style)  # type: ignore[arg-type]
    axes.text(high, 1.01, right, ha="right", **style)  # type: ignore[arg-type]


def _alt(comparison: Comparison, rows: list[Difference]) -> str:
    decimals = metric_decimals(comparison)
    shown = "; ".join(
        f"{row.start} against {row.against} at {row.train_size:,} patients "
        f"{estimate_text(row, decimals, signed=True)}"
        for row in rows
    )
    return f"Forest plot of paired differences in {comparison.task.label}: {shown}."
