"""The tables of a segmentation: a second metric beside the first, and every structure."""

from __future__ import annotations

from dataclasses import replace

from voxgraft.reports.comparison import Comparison, Secondary, Structure
from voxgraft.reports.conclusions import differences_table, estimates_table
from voxgraft.reports.remarks import folded, whys
from voxgraft.reports.tables import Cell, Table, cells, heading
from voxgraft.reports.wording import (
    ABSENT,
    count,
    estimate_text,
    metric_label,
    number,
    p_text,
    plural,
    slug,
)


def secondary_tables(comparison: Comparison) -> list[Table]:
    """Return, for each metric beside the primary one, its estimates and its differences."""
    tables = []
    for second in comparison.secondary:
        own = _in(comparison, second)
        parts = [estimates_table(own)] if second.curves else []
        parts += [differences_table(own)] if second.differences else []
        stem = slug(second.metric)
        tables += [replace(table, name=f"{table.name}-{stem}") for table in parts]
    return tables


def _in(comparison: Comparison, second: Secondary) -> Comparison:
    """Return a comparison as if a second metric were its first."""
    task = comparison.task.model_copy(
        update={
            "metric": second.metric,
            "metric_label": second.metric_label,
            "higher_is_better": second.higher_is_better,
        }
    )
    names = comparison.model_names
    differences = [
        difference.model_copy(update={"model": names[0]})
        if not difference.model and len(names) == 1
        else difference
        for difference in second.differences
    ]
    return comparison.model_copy(
        update={
            "task": task,
            "curves": second.curves,
            "differences": differences,
            "baselines": [],
            "label_savings": [],
        }
    )


def structures_table(comparison: Comparison) -> Table:
    """Return every structure with every start, at the largest training size."""
    found = comparison.structures
    several = len(comparison.model_names) > 1
    measured = metric_label(found.metric)
    header = [
        "Start", "Dice", "Surface Dice", f"Difference in {measured}", "p (Holm)",
    ]  # fmt: skip
    absent = any(row.n_absent for row in found.rows)
    header += ["Drawn where absent"] if absent else []
    rows: list[list[Cell]] = []
    remarks, used = [], ""
    for name in dict.fromkeys(row.structure for row in found.rows):
        own = [row for row in found.rows if row.structure == name]
        rows.append(heading(f"{name}: {_counts(own[0])}", len(header)))
        for row in own:
            difference = row.difference
            mark = _mark(row, higher_is_better=comparison.task.higher_is_better)
            used += mark
            label = f"{row.start}, {row.model}" if several else row.start
            rows.append(
                cells(
                    label,
                    mark + estimate_text(row.dice, 3),
                    estimate_text(row.surface_dice, 3),
                    ABSENT if difference is None else estimate_text(difference, 3, signed=True),
                    p_text(None if difference is None else difference.p_holm),
                    *([_false_positives(row)] if absent else []),
                )
            )
            remarks += [(f"{name}, {label}", remark) for remark in whys(row.dice)]
    notes = folded(remarks, len(found.rows), "Every structure and start", "structures and starts")
    if used:
        notes.append(
            f"▲ better, ▼ worse than {comparison.baseline_start}: the interval of the paired "
            "difference leaves out zero and its p-value after Holm's correction over all "
            "structures, starts and networks is below 0.05."
        )
    notes.append(
        "A structure has Dice in a case where it is in the reference or predicted; where it is in "
        "neither, or is not annotated, nothing is counted. A difference rests on the cases where "
        "every run of both starts has a number, so that both are measured on the same ones."
    )
    if absent:
        notes.append(
            "Drawn where absent: cases without the structure in which it is predicted, the mean "
            "over the runs; their Dice is 0."
        )
    size = "" if found.train_size is None else f", N = {found.train_size:,} training patients"
    return Table(
        name="structures",
        caption=f"Every structure on the test cases that annotate it{size}: mean over cases and "
        f"seeds, [low, high] ({comparison.interval_name}); paired difference from "
        f"{comparison.baseline_start or 'the reference'}.",
        header=header,
        rows=rows,
        records=[_record(row) for row in found.rows],
        notes=notes,
    )


def _counts(row: Structure) -> str:
    """Return on what a structure rests, in words."""
    return (
        f"annotated in {_plural(row.n_cases, 'test case')} of "
        f"{_plural(row.n_patients, 'patient')}, present in {count(row.n_present)}"
    )


def _false_positives(row: Structure) -> str:
    """Return in how many of the cases without a structure it is predicted."""
    if not row.n_absent or row.predicted_where_absent is None:
        return ABSENT
    drawn = row.predicted_where_absent
    return f"{number(drawn, 0 if drawn == round(drawn) else 1)} of {count(row.n_absent)}"


def _plural(value: int | None, noun: str) -> str:
    return f"{ABSENT} {noun}s" if value is None else plural(value, noun)


def _mark(row: Structure, *, higher_is_better: bool) -> str:
    difference = row.difference
    if difference is None or not difference.shown or difference.estimate is None:
        return ""
    return "▲ " if (difference.estimate > 0) == higher_is_better else "▼ "


def _record(row: Structure) -> dict[str, object]:
    record = row.model_dump(exclude={"dice", "surface_dice", "difference"})
    for name in ("dice", "surface_dice", "difference"):
        part = getattr(row, name)
        values = {} if part is None else part.model_dump()
        keys = ("estimate", "low", "high", *(("p_value", "p_holm") if name == "difference" else ()))
        record |= {f"{name}_{key}": values.get(key) for key in keys}
    return record
