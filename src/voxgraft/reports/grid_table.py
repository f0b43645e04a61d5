"""Networks by starts at one size as a table, for files and the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from voxgraft.reports.comparison import Comparison
from voxgraft.reports.conclusions import FLAG
from voxgraft.reports.grid import NOT_PRINTED, TOP, Grid, GridRow, kinds_of, printed_cell
from voxgraft.reports.remarks import estimate_notes
from voxgraft.reports.tables import Cell, Table, cells, heading
from voxgraft.reports.wording import (
    ALPHA,
    direction,
    percent_text,
)


def grid_table(comparison: Comparison, grid: Grid) -> Table:
    """Return a grid as a table, printed cells in parentheses below those made here."""
    size, percent = grid.train_size, grid.percent
    starts = comparison.start_names
    rows: list[list[Cell]] = []
    for kind, members in grid.groups:
        if kind:
            rows.append(heading(kind, 1 + len(starts)))
        for row in members:
            rows += _lines(row)
    for name, text in grid.baselines:
        rows.append([*cells(f"Baseline: {name}"), Cell(text=text, span=len(starts))])
    beside = ""
    if percent is not None and comparison.published is not None:
        share = percent_text(percent)
        beside = f" In parentheses: printed in {comparison.published.name}, {share}."
    task = comparison.task
    return Table(
        name=f"networks-n{size}",
        caption=f"{task.label} per {task.level} on the test split ({direction(task)}) at "
        f"N = {size:,} training patients, by network and start: estimate [low, high] "
        f"({comparison.interval_name}).{beside}",
        header=["Network", *starts],
        rows=rows,
        records=_records(comparison, size, percent),
        notes=grid_notes(comparison, [grid]),
    )


def _lines(row: GridRow) -> list[list[Cell]]:
    """Return a row's values, below them what is wrong with runs, then the printed cells."""
    values = [
        Cell(text=f"{TOP} {cell.text}" if cell.top else cell.text, best=cell.best)
        for cell in row.cells
    ]
    lines = [[*cells(row.network), *values]]
    if any(cell.words for cell in row.cells):
        words = [f"{FLAG} {cell.words}" if cell.words else "" for cell in row.cells]
        lines.append(cells("", *words))
    if row.printed:
        printed = [f"({c.printed}){f' {c.mark}' if c.mark else ''}" for c in row.cells]
        lines.append(cells(f"  ({row.printed})", *printed))
    return lines


def _records(comparison: Comparison, size: int, percent: float | None) -> list[dict[str, object]]:
    records = []
    for kind, members in kinds_of(comparison):
        for model in members:
            for start in comparison.start_names:
                point = comparison.point(start, model, size)
                if point is None:
                    continue
                record: dict[str, object] = {"kind": kind, "model": model, "start": start}
                record |= point.model_dump() | {"metric": comparison.task.metric}
                cell = printed_cell(comparison, model, start, percent)
                for key in ("printed", "percent", "estimate", "low", "high", "note"):
                    name = key if key == "printed" else f"printed_{key}"
                    record[name] = None if cell is None else getattr(cell, key)
                records.append(record)
    return records


def grid_notes(comparison: Comparison, grids: Sequence[Grid]) -> list[str]:
    """Return what the marks of some grids mean, and what is to be known of their values."""
    shown = [c for grid in grids for _, rows in grid.groups for row in rows for c in row.cells]
    notes = []
    if any(cell.top for cell in shown):
        notes.append(
            f"{TOP} the best value of its row, among starts without a flagged run: the value "
            "alone, which is no finding."
        )
    if any(cell.text.startswith(("▲", "▼")) for cell in shown):
        notes.append(
            f"▲ better, ▼ worse than {comparison.baseline_start} with the same network: the "
            "interval of the paired difference leaves out zero and its p-value after Holm's "
            f"correction is below {ALPHA}."
        )
    if any(cell.best for cell in shown):
        notes.append("Bold: supported as better than every other start with that network.")
    notes += estimate_notes(comparison, [grid.train_size for grid in grids])
    if any(cell.printed == NOT_PRINTED for cell in shown):
        notes.append(f"{NOT_PRINTED}: the published table has no such cell.")
    letters = {letter: note for grid in grids for letter, note in grid.notes.items()}
    return notes + [
        f"{letter} Printed cell: {note}{'' if note.endswith('?') else '.'}"
        for letter, note in letters.items()
    ]
