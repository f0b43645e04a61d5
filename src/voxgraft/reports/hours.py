"""The table of what trainings took of their device."""

from __future__ import annotations

from voxgraft.reports.comparison import Comparison
from voxgraft.reports.tables import Cell, Table, cells, heading
from voxgraft.reports.wording import ABSENT, count, number, plural


def hours_text(hours: float | None) -> str:
    """Return hours with sensible digits: three decimals below 1, one above 10."""
    if hours is None:
        return ABSENT
    if 0 < hours < 0.001:
        return "< 0.001"
    return number(hours, 3 if hours < 1 else 2 if hours < 10 else 1)


def unit(comparison: Comparison) -> str:
    """Return what an hour is of: ``GPU-hours``, or of a CPU's process with its threads."""
    found = comparison.device_hours
    if found.kind != "CPU":
        return f"{found.kind or 'device'}-hours"
    if found.threads is None:
        return "CPU-hours"
    return f"CPU-hours of a process with {plural(found.threads, 'thread')}"


def hours_table(comparison: Comparison) -> Table:
    """Return the hours of each start at each size, and of what came before the comparison."""
    found = comparison.device_hours
    several = len(comparison.model_names) > 1
    sizes = sorted({row.train_size for row in found.runs})
    header = ["Start", *(f"N = {size:,}" for size in sizes), "All", "Search", "Pre-training"]
    rows: list[list[Cell]] = []
    records: list[dict[str, object]] = []
    for model in comparison.model_names:
        own = [row for row in found.runs if row.model == model]
        if several and own:
            rows.append(heading(model, len(header)))
        for start in dict.fromkeys(row.start for row in own):
            by_size = {row.train_size: row for row in own if row.start == start}
            before = [row for row in found.pretraining if (row.model, row.start) == (model, start)]
            rows.append(
                cells(
                    start,
                    *(
                        ABSENT if size not in by_size else hours_text(by_size[size].training_hours)
                        for size in sizes
                    ),
                    hours_text(sum(row.training_hours or 0 for row in by_size.values())),
                    hours_text(sum(row.search_hours or 0 for row in by_size.values())),
                    hours_text(sum(row.hours or 0 for row in before)) if before else ABSENT,
                )
            )
            records += [{"what": "training"} | row.model_dump() for row in by_size.values()]
            records += [{"what": "pre-training"} | row.model_dump() for row in before]
    notes = [
        f"{start.start}{f' on {start.model}' if several else ''}: pre-trained on {start.stage}, "
        f"{count(start.patients)} patients, {count(start.cases)} cases: "
        f"{hours_text(start.hours)} in {count(start.runs)} "
        f"{'training' if start.runs == 1 else 'trainings (one a learning rate)'}."
        for start in found.pretraining
    ]
    notes.append(
        "Wall-clock time that one training held its device, validation during training included; "
        "preparing volumes and scoring test cases are not. Trainings side by side on one device "
        "count each on its own. What published weights took before they were published is not "
        "known here."
    )
    where = f" on {found.device}" if found.device and found.kind != "CPU" else ""
    return Table(
        name="device-hours",
        caption=f"{unit(comparison)[0].upper()}{unit(comparison)[1:]}{where}: the trainings of "
        "all seeds at each number N of training patients, the search of learning rates, and the "
        "pre-training within this comparison, which is apart.",
        header=header,
        rows=rows,
        records=records,
        notes=notes,
    )
