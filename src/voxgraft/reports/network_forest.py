"""Forest plot of the mean differences over networks: each network a dot, the printed mean below."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes

from voxgraft.reports.comparison import Comparison
from voxgraft.reports.forest import directions
from voxgraft.reports.grid import KINDS, kind_rank
from voxgraft.reports.networks import favors, printed_mean
from voxgraft.reports.several import MeanDifference, PrintedMean
from voxgraft.reports.style import GRAY, INK, LIGHT, WIDE_INCHES, Panel, drawing, looks, save
from voxgraft.reports.wording import estimate_text, metric_decimals, p_text, short, slug

ROWS_PER_PANEL = 9
LONG_NAME = 20
"""Longer names have a line to themselves."""
HEADING, ROW, PRINTED, NAME_LINE = 0.9, 1.75, 0.95, 0.45
"""Heights, in units of :data:`UNIT_INCHES`."""
UNIT_INCHES = 0.38


def mean_plots(comparison: Comparison, folder: Path) -> list[Panel]:
    """Draw the mean differences of each kind of network, sizes ascending."""
    known = [row for row in comparison.networks.means if row.estimate is not None]
    limits = _limits(comparison, known)
    panels = []
    for kind in sorted({row.kind for row in known}, key=kind_rank):
        rows = sorted((row for row in known if row.kind == kind), key=lambda row: row.train_size)
        chunks = _chunks(rows)
        for n, chunk in enumerate(chunks):
            name = f"mean-differences-{slug(kind)}{f'_{n + 1}' if len(chunks) > 1 else ''}"
            title = KINDS.get(kind, kind) + (" (continued)" if n else "")
            panels.append(_panel(comparison, chunk, limits, folder, name, title))
    return panels


def _chunks(rows: list[MeanDifference]) -> list[list[MeanDifference]]:
    chunks: list[list[MeanDifference]] = []
    for _, group in groupby(rows, key=lambda row: row.train_size):
        rest = list(group)
        if chunks and len(chunks[-1]) + len(rest) <= ROWS_PER_PANEL:
            chunks[-1] += rest
            continue
        while rest:
            chunks.append(rest[:ROWS_PER_PANEL])
            rest = rest[ROWS_PER_PANEL:]
    return chunks


def _limits(comparison: Comparison, rows: list[MeanDifference]) -> tuple[float, float]:
    values = [0.0]
    for row in rows:
        mean = printed_mean(comparison, row)
        found = [row.estimate, row.low, row.high, *row.per_network.values()]
        if mean is not None:
            found += [mean.estimate, mean.low, mean.high, mean.smallest, mean.largest]
        values += [value for value in found if value is not None]
    margin = 0.06 * (max(values) - min(values)) or 0.05
    return min(values) - margin, max(values) + margin


def _panel(
    comparison: Comparison,
    rows: list[MeanDifference],
    limits: tuple[float, float],
    folder: Path,
    name: str,
    title: str,
) -> Panel:
    printed = [printed_mean(comparison, row) for row in rows]
    height = HEADING * len({row.train_size for row in rows}) + ROW * len(rows)
    height += NAME_LINE * sum(len(_label(row)) > LONG_NAME for row in rows)
    height += PRINTED * sum(mean is not None for mean in printed)
    with drawing(WIDE_INCHES, UNIT_INCHES * height + (1.2 if title else 0.9)) as figure:
        axes = figure.add_subplot()
        axes.set_xlim(*limits)
        axes.set_ylim(height, 0)
        axes.axvline(0, color=INK, linewidth=1, zorder=1)
        axes.grid(axis="y", visible=False)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        at = 0.0
        for n, (row, mean) in enumerate(zip(rows, printed, strict=True)):
            if n == 0 or row.train_size != rows[n - 1].train_size:
                _size(axes, row.train_size, at, first=n == 0)
                at += HEADING
            at = _row(axes, comparison, row, at)
            if mean is not None:
                _printed(axes, mean, at)
                at += PRINTED
        directions(axes, comparison, {row.against for row in rows}, "Mean difference")
        if title:
            axes.set_title(short(title, 44), loc="left", pad=20)
        return save(figure, folder, name, _alt(comparison, rows))


_BOX = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}


def _size(axes: Axes, size: int, at: float, *, first: bool) -> None:
    if not first:
        axes.axhline(at + 0.12, color=LIGHT, linewidth=0.8)
    axes.text(
        0, at + 0.55 * HEADING, f"N = {size:,} training patients",
        transform=axes.get_yaxis_transform(), weight="bold", va="center", fontsize=9.5, bbox=_BOX,
    )  # fmt: skip


def _label(row: MeanDifference) -> str:
    return f"{row.start} − {row.against}"


def _row(axes: Axes, comparison: Comparison, row: MeanDifference, at: float) -> float:
    """Draw a mean with its interval, and below it a dot for each network; return its lower end."""
    names = [*comparison.start_names, row.start]
    style = looks(list(dict.fromkeys(names)), comparison.baseline_start)[row.start]
    across = axes.get_yaxis_transform()
    text = estimate_text(row, metric_decimals(comparison), signed=True)
    p = p_text(row.p_decisive)
    text += f"  p {p}" if p.startswith("<") else f"  p = {p}"
    label = {"transform": across, "va": "center", "fontsize": 9.5, "bbox": _BOX, "zorder": 2}
    axes.text(0, at + 0.25, short(_label(row), 46), **label)  # type: ignore[arg-type]
    at += NAME_LINE * (len(_label(row)) > LONG_NAME)
    axes.text(1, at + 0.25, text, ha="right", **label)  # type: ignore[arg-type]
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [at + 0.8] * 2, color=style.color, linewidth=2, zorder=3)
    filled = favors(row, comparison.task.higher_is_better) != 0
    axes.plot(
        [row.estimate or 0.0], [at + 0.8], marker=style.marker, color=style.color, markersize=7.5,
        zorder=4, markerfacecolor=style.color if filled else "white", markeredgewidth=1.5,
    )  # fmt: skip
    each = [value for value in row.per_network.values() if value is not None]
    axes.plot(
        each, [at + 1.25] * len(each), linestyle="none", marker="o", markersize=4.5, zorder=3,
        markerfacecolor="none", markeredgecolor=style.color, markeredgewidth=1,
    )  # fmt: skip
    return at + ROW


def _printed(axes: Axes, mean: PrintedMean, at: float) -> None:
    """Draw a printed mean: interval thick, smallest to largest dotted; all gray."""
    text = f"printed {estimate_text(mean, 3, signed=True)}"
    axes.text(
        1, at, text, transform=axes.get_yaxis_transform(), va="center", ha="right", fontsize=8.5,
        color=GRAY, style="italic", bbox=_BOX, zorder=2,
    )  # fmt: skip
    if mean.smallest is not None and mean.largest is not None:
        axes.plot(
            [mean.smallest, mean.largest], [at + 0.42] * 2,
            color=GRAY, linewidth=1, linestyle=(0, (1, 1.5)), zorder=2,
        )  # fmt: skip
    if mean.low is not None and mean.high is not None:
        axes.plot([mean.low, mean.high], [at + 0.42] * 2, color=GRAY, linewidth=2.4, zorder=3)
    axes.plot(
        [mean.estimate or 0.0], [at + 0.42], marker="D", color=GRAY, markersize=5.5,
        markerfacecolor="white", markeredgewidth=1.3, zorder=4,
    )  # fmt: skip


def _alt(comparison: Comparison, rows: list[MeanDifference]) -> str:
    decimals = metric_decimals(comparison)
    parts = []
    for row in rows:
        mean = printed_mean(comparison, row)
        text = (
            f"{row.start} minus {row.against} at {row.train_size:,} patients "
            f"{estimate_text(row, decimals, signed=True)}"
        )
        if mean is not None:
            text += f", printed {estimate_text(mean, 3, signed=True)}"
        parts.append(text)
    return (
        f"Forest plot of mean differences in {comparison.task.label} over networks: "
        f"{'; '.join(parts)}."
    )
