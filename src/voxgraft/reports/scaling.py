"""The metric against the number of pre-training cases: figure and table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from voxgraft.reports.comparison import Comparison
from voxgraft.reports.courses import Family
from voxgraft.reports.style import WIDE_INCHES, Panel, drawing, looks, save
from voxgraft.reports.tables import Table, cells, heading
from voxgraft.reports.wording import (
    ABSENT,
    count,
    direction,
    estimate_text,
    metric_decimals,
    number,
    p_text,
    short,
    slug,
)

SHOWN_SIZES = 4
"""So many training sizes at most have a line in a figure; the table has all."""


def scaling_plots(comparison: Comparison, folder: Path) -> list[Panel]:
    """Draw a panel for each family and network: the metric against pre-training patients."""
    panels = []
    names: list[str] = []
    groups: dict[tuple[str, str], list[Family]] = {}
    for row in comparison.scaling.families:
        if sum(point.estimate is not None for point in row.points) > 1:
            groups.setdefault((row.family, row.model), []).append(row)
    for (family, model), rows in groups.items():
        name = f"scaling-{slug(family)}-{slug(model)}"
        while name in names:
            name += "-2"
        names.append(name)
        panels.append(_panel(comparison, family, model, rows, folder, name))
    return panels


def chosen_sizes(sizes: list[int], most: int = SHOWN_SIZES) -> list[int]:
    """Return at most so many sizes, first and last among them, evenly over their order."""
    if len(sizes) <= most:
        return sizes
    places = np.linspace(0, len(sizes) - 1, most).round().astype(int)
    return [sizes[place] for place in dict.fromkeys(places.tolist())]


def _panel(
    comparison: Comparison, family: str, model: str, rows: list[Family], folder: Path, name: str
) -> Panel:
    shown = chosen_sizes([row.train_size for row in rows])
    rows = [row for row in rows if row.train_size in shown]
    look = looks([str(size) for size in shown], "")
    patients = sorted(
        {
            point.patients
            for row in rows
            for point in row.points
            if point.patients and point.estimate is not None
        }
    )
    with drawing(WIDE_INCHES, 4) as figure:
        axes = figure.add_subplot()
        axes.set_xscale("log")
        spread = 0.02 * np.log(patients[-1] / patients[0])
        for place, row in enumerate(rows):
            own = look[str(row.train_size)]
            shift = float(np.exp(spread * (place - (len(rows) - 1) / 2)))
            points = [p for p in row.points if p.estimate is not None and p.patients]
            x = np.array([p.patients for p in points], dtype=float) * shift
            y = np.array([p.estimate for p in points], dtype=float)
            axes.plot(
                x, y,
                color=own.color, marker=own.marker, linestyle=own.dashes, zorder=4,
                markeredgecolor="white", markeredgewidth=0.7, markersize=7,
                label=f"N = {row.train_size:,}",
            )  # fmt: skip
            for at, point in zip(x, points, strict=True):
                if point.low is not None and point.high is not None:
                    axes.vlines(at, point.low, point.high, color=own.color, linewidth=1.1)
            _without(axes, row, own.color)
        room = 0.12 * np.log(patients[-1] / patients[0])
        axes.set_xlim(patients[0] * np.exp(-room), patients[-1] * np.exp(room))
        axes.xaxis.set_major_locator(FixedLocator(patients))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xlabel("Patients pre-trained on (log scale)")
        label = short(comparison.task.label, 20)
        axes.set_ylabel(f"{label}, test ({direction(comparison.task)})")
        if len(comparison.model_names) > 1 or len({f.family for f in rows}) > 1:
            axes.set_title(short(f"{family}, {model}", 44), loc="left")
        figure.set_figheight(3.5 + 0.21 * -(-len(rows) // 2))
        figure.legend(loc="outside lower left", ncols=2, handlelength=2.6, columnspacing=1.2)
        return save(figure, folder, name, _alt(comparison, family, model, rows))


def _without(axes: Axes, row: Family, color: str) -> None:
    """Draw what the reference, without pre-training, reaches at the same training size."""
    if row.reference is not None and row.reference.estimate is not None:
        axes.axhline(
            row.reference.estimate, color=color, linewidth=1, linestyle=(0, (1, 2)), zorder=1
        )


def _alt(comparison: Comparison, family: str, model: str, rows: list[Family]) -> str:
    decimals = metric_decimals(comparison)
    parts = []
    for row in rows:
        shown = ", ".join(
            f"{number(point.estimate, decimals)} with {count(point.patients)}"
            for point in row.points
            if point.estimate is not None
        )
        parts.append(f"N = {row.train_size:,}: {shown}")
    return (
        f"{comparison.task.label} on the test split of {family} on {model} against the number of "
        f"patients that it was pre-trained on. {'; '.join(parts)}."
    )


def scaling_table(comparison: Comparison) -> Table:
    """Return the metric of each start by pre-training patients and training patients."""
    decimals = metric_decimals(comparison)
    several = len(comparison.model_names) > 1
    header = ["Pre-trained on", "Start", comparison.task.label, "Seeds"]
    rows, records, notes = [], [], []
    for row in comparison.scaling.families:
        where = f"{row.family}, {row.model}" if several else row.family
        rows.append(heading(f"{where}, N = {row.train_size:,} training patients", len(header)))
        reference = [] if row.reference is None else [row.reference]
        for point in [*reference, *row.points]:
            seen = ABSENT
            if point.patients is not None:
                seen = f"{count(point.patients)} patients"
                seen += f", {count(point.cases)} cases" if point.cases != point.patients else ""
            rows.append(
                cells(
                    "none" if row.reference is point else seen,
                    point.start,
                    estimate_text(point, decimals),
                    count(point.n_seeds),
                )
            )
            records.append(
                {
                    "family": row.family,
                    "stage": row.stage,
                    "model": row.model,
                    "train_size": row.train_size,
                    "pretraining_patients": 0 if row.reference is point else point.patients,
                    "pretraining_cases": 0 if row.reference is point else point.cases,
                    "metric": comparison.scaling.metric,
                }
                | point.model_dump(exclude={"patients", "cases"})
            )
        if row.gain is not None and row.gain.estimate is not None and row.points:
            first, last = row.points[0], row.points[-1]
            notes.append(
                f"{where}, N = {row.train_size:,}: {count(last.patients)} against "
                f"{count(first.patients)} patients of {row.stage}: "
                f"{estimate_text(row.gain, decimals, signed=True)}, p (Holm) "
                f"{p_text(row.gain.p_holm)}"
                f"{'' if row.gain.shown else ', which shows no difference'}."
            )
    notes.append(
        "A stage trains once for each start and network, on nested subsets of its patients: the "
        "intervals cover test patients and the seeds of the fine-tuning, not another draw of "
        "pre-training patients nor another pre-training."
    )
    return Table(
        name="scaling",
        caption=f"{comparison.task.label} per {comparison.task.level} on the test split by the "
        "number of patients that a start was pre-trained on, and by the number N of training "
        f"patients: estimate [low, high] ({comparison.interval_name}).",
        header=header,
        rows=rows,
        records=records,
        text_columns=2,
        notes=notes,
    )
