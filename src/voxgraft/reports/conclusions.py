"""The tables that conclude: starts by sizes, paired differences, label savings."""

from __future__ import annotations

from collections.abc import Callable

from voxgraft.reports.comparison import Comparison, Difference, LabelSaving
from voxgraft.reports.remarks import estimate_notes, folded, whys
from voxgraft.reports.tables import Cell, Table, cells, heading
from voxgraft.reports.wording import (
    ABSENT,
    ALPHA,
    count,
    direction,
    estimate_text,
    metric_decimals,
    number,
    p_text,
    percent,
    plural,
)

FLAG = "†"
"""Marks an estimate that rests on a flagged run."""


def supported(difference: Difference, higher_is_better: bool) -> int:
    """Return 1 for a supported improvement, -1 for a supported loss, 0 otherwise.

    A difference is supported if its interval leaves out zero and its p-value after Holm's
    correction is below :data:`ALPHA`; without either number nothing is supported.
    """
    low, high, p_holm = difference.low, difference.high, difference.p_holm
    if low is None or high is None or p_holm is None or p_holm >= ALPHA or low <= 0 <= high:
        return 0
    return 1 if (low > 0) == higher_is_better else -1


def supported_best(comparison: Comparison, model: str, train_size: int) -> str:
    """Return the start that is better than every other at this size, with support for each.

    Returns:
        Its name; empty unless a paired difference supports it against each other start that has
        an estimate there.
    """
    present = []
    for start in comparison.start_names:
        point = comparison.point(start, model, train_size)
        if point is not None and point.estimate is not None:
            present.append(start)
    beaten: dict[str, set[str]] = {start: set() for start in present}
    for difference in comparison.differences:
        if difference.model != model or difference.train_size != train_size:
            continue
        sign = supported(difference, comparison.task.higher_is_better)
        winner, loser = difference.start, difference.against
        if sign < 0:
            winner, loser = loser, winner
        if sign and winner in beaten:
            beaten[winner].add(loser)
    for start in present:
        others = set(present) - {start}
        if others and others <= beaten[start]:
            return start
    return ""


def mark(comparison: Comparison, start: str, model: str, train_size: int) -> str:
    """Return ▲ or ▼ where a start is supported as better or worse than the reference."""
    for difference in comparison.differences:
        same = (difference.start, difference.model, difference.train_size)
        if same == (start, model, train_size) and difference.against == comparison.baseline_start:
            sign = supported(difference, comparison.task.higher_is_better)
            return {1: "▲ ", -1: "▼ ", 0: ""}[sign]
    return ""


def estimates_table(comparison: Comparison) -> Table:
    """Return the table of starts by training sizes: estimate [low, high] of the metric."""
    task, sizes = comparison.task, comparison.train_sizes
    decimals = metric_decimals(comparison)
    rows, records, notes, used = [], [], [], ""
    several = len(comparison.model_names) > 1
    for model in comparison.model_names:
        own = []
        best = {size: supported_best(comparison, model, size) for size in sizes}
        for start in comparison.start_names:
            row = cells(start)
            for size in sizes:
                point = comparison.point(start, model, size)
                if point is None:
                    row.append(Cell(text=ABSENT))
                    continue
                text = mark(comparison, start, model, size) + estimate_text(point, decimals)
                text = f"{FLAG} {text}" if point.flagged else text
                row.append(Cell(text=text, best=best[size] == start))
                used += text
                where = f"{model}, {start}, N = {size:,}" if several else f"{start}, N = {size:,}"
                if point.flagged:
                    notes.append(f"{FLAG} {where}: {'; '.join(point.flagged)}.")
                records.append(
                    {"model": model, "start": start} | point.model_dump() | {"metric": task.metric}
                )
            if any(cell.text != ABSENT for cell in row[1:]):
                own.append(row)
        if several and own:
            rows.append(heading(model, 1 + len(sizes)))
        rows += own
    for baseline in comparison.baselines:
        row = cells(f"Baseline: {baseline.name}")
        if sizes:
            row.append(Cell(text=estimate_text(baseline, decimals), span=len(sizes)))
        rows.append(row)
        records.append(
            {"model": "", "start": f"baseline: {baseline.name}"}
            | baseline.model_dump(exclude={"name", "description"})
            | {"metric": task.metric}
        )
    notes = estimate_notes(comparison, sizes) + notes
    if "▲" in used or "▼" in used:
        notes.append(
            f"▲ better, ▼ worse than {comparison.baseline_start}: the interval of the paired "
            f"difference leaves out zero and its p-value after Holm's correction is below {ALPHA}."
        )
    if FLAG in used:
        notes.append(f"{FLAG} a run of this start and size is flagged (see all runs).")
    if len(comparison.start_names) > 1:
        notes.append(
            "Bold: supported as better than every other start at that size."
            if any(cell.best for row in rows for cell in row)
            else "No start is in bold: at no size do paired differences support one start "
            "against every other."
        )
    return Table(
        name="estimates",
        caption=f"{task.label} per {task.level} on the test split ({direction(task)}) by start "
        f"and number of training patients N: estimate [low, high] ({comparison.interval_name}"
        f"{_rests_on(comparison)}).",
        header=["Start", *(f"N = {size:,}" for size in sizes)],
        rows=rows,
        records=records,
        notes=notes,
    )


def _rests_on(comparison: Comparison) -> str:
    every = [point for curve in comparison.curves for point in curve.points]
    points = [point for point in every if point.estimate is not None]
    patients = sorted({point.n_patients for point in points if point.n_patients is not None})
    seeds = sorted({point.n_seeds for point in points if point.n_seeds is not None})
    parts = []
    if patients:
        parts.append(_span(patients, "test patient"))
    if seeds:
        parts.append(_span(seeds, "seed"))
    return "; " + ", ".join(parts) if parts else ""


def _span(values: list[int], noun: str) -> str:
    if len(values) == 1:
        return plural(values[0], noun)
    return f"{values[0]:,} to {values[-1]:,} {noun}s"


def differences_table(comparison: Comparison) -> Table:
    """Return the table of paired differences, with intervals and p-values."""
    decimals = metric_decimals(comparison)
    header = ["Start", "Against", "N", "Difference", "p", "p (Holm)", "Patients", "Seeds"]
    header.append("Verdict")
    rows, found = [], []
    several = len(comparison.model_names) > 1
    for model in dict.fromkeys(difference.model for difference in comparison.differences):
        if several:
            rows.append(heading(model, len(header)))
        for difference in comparison.differences:
            if difference.model != model:
                continue
            rows.append(
                cells(
                    difference.start,
                    difference.against,
                    count(difference.train_size),
                    estimate_text(difference, decimals, signed=True),
                    p_text(difference.p_value),
                    p_text(difference.p_holm),
                    count(difference.n_patients),
                    count(difference.n_seeds),
                    difference.verdict,
                )
            )
            where = f"{model}, {difference.start}" if several else difference.start
            where = f"{where}, N = {difference.train_size:,}"
            found += [(where, remark) for remark in whys(difference)]
    notes = folded(found, len(comparison.differences), "Every difference", "differences")
    methods = list(dict.fromkeys(d.method for d in comparison.differences if d.method))
    notes += [f"Method: {method}." for method in methods]
    return Table(
        name="differences",
        caption=f"Paired differences in {comparison.task.label} (start minus the start it is "
        f"compared with; {direction(comparison.task)}) on the same test patients, training "
        f"subsets and seeds: estimate [low, high] ({comparison.interval_name}), p-value, and p "
        "after Holm's correction.",
        header=header,
        rows=rows,
        records=[difference.model_dump() for difference in comparison.differences],
        text_columns=2,
        notes=notes,
        prose=True,
    )


def needed_text(saving: LabelSaving) -> str:
    """Return how many patients a start needs, or why that is not known."""
    if saving.reached is False:
        return "not reached"
    if saving.needed is None:
        return ABSENT

    def shown(patients: float) -> str:
        return f"≤ {count(patients)}" if _at_smallest(saving, patients) else count(patients)

    bounds = _bounds(saving.needed_low, saving.needed_high, shown, "not reached")
    return f"{shown(saving.needed)} {bounds}"


def _at_smallest(saving: LabelSaving, patients: float | None) -> bool:
    """Return whether a number of patients is the smallest that was tried, so one at most."""
    return None not in (patients, saving.smallest) and patients == saving.smallest


def saved_text(saving: LabelSaving) -> str:
    """Return the fraction of labels saved, with its interval."""
    if saving.reached is False or saving.saved_fraction is None:
        return ABSENT
    low, high = saving.saved_low, saving.saved_high
    bounds = "[no interval]"
    if low is not None or high is not None:
        lower = "none" if low is None or low <= 0 else _least(saving, saving.needed_high, low)
        upper = "unbounded" if high is None else _least(saving, saving.needed_low, high)
        bounds = f"[{lower}, {upper}]"
    return f"{_least(saving, saving.needed, saving.saved_fraction)} {bounds}"


def _least(saving: LabelSaving, patients: float | None, share: float) -> str:
    """Return a share of labels saved, at least that where the fewest patients are enough."""
    return f"{'≥ ' if _at_smallest(saving, patients) else ''}{percent(share)}"


def _bounds(
    low: float | None, high: float | None, show: Callable[[float], str], beyond: str
) -> str:
    if low is None and high is None:
        return "[no interval]"
    lower = "unbounded" if low is None else show(low)
    upper = beyond if high is None else show(high)
    return f"[{lower}, {upper}]"


def savings_table(comparison: Comparison) -> Table:
    """Return the table of label savings."""
    decimals = metric_decimals(comparison)
    several = len(comparison.model_names) > 1
    header = ["Start", "To reach", "Patients needed", "Labels saved", "In words"]
    rows = []
    for model in dict.fromkeys(saving.model for saving in comparison.label_savings):
        if several:
            rows.append(heading(model, len(header)))
        for saving in comparison.label_savings:
            if saving.model != model:
                continue
            value = number(saving.reference_value, decimals)
            goal = f"{saving.against}: {value} at N = {count(saving.reference_size)}"
            needed, saved = needed_text(saving), saved_text(saving)
            rows.append(cells(saving.start, goal, needed, saved, saving.text or saving.reason))
    return Table(
        name="label-savings",
        caption="Training patients that a start needs to reach the reference's "
        f"{comparison.task.label}, interpolated on its learning curve, and the fraction of "
        f"labels that it saves: estimate [low, high] ({comparison.interval_name}).",
        header=header,
        rows=rows,
        records=[saving.model_dump() for saving in comparison.label_savings],
        text_columns=2,
        prose=True,
    )


__all__ = [
    "differences_table",
    "estimates_table",
    "needed_text",
    "saved_text",
    "savings_table",
    "supported",
    "supported_best",
]
