"""The tables behind the conclusions: data, learning-rate search, all runs, cost."""

from __future__ import annotations

from typing import Any

from voxgraft.reports.comparison import Comparison, Run
from voxgraft.reports.tables import Cell, Table, cells
from voxgraft.reports.wording import (
    ABSENT,
    count,
    decimals_for,
    duration,
    learning_rate,
    memory,
    metric_label,
    number,
    percent,
)


def data_table(comparison: Comparison) -> Table:
    """Return patients, cases and classes of each side of the split."""
    splits = comparison.data.splits
    classes = list(dict.fromkeys(name for split in splits.values() for name in split.classes))
    rows, records = [], []
    for name, split in splits.items():
        row = [name, count(split.patients), count(split.cases)]
        for label in classes:
            value = split.classes.get(label)
            share = ""
            if value is not None and split.cases:
                share = f" ({percent(value / split.cases)})"
            row.append(count(value) + share)
        rows.append(cells(*row))
        record: dict[str, Any] = {"split": name, "patients": split.patients, "cases": split.cases}
        records.append(record | {f"class: {label}": split.classes.get(label) for label in classes})
    return Table(
        name="data",
        caption="Patients and cases of each side of the split"
        + (", and cases of each class (share of the side's cases)." if classes else "."),
        header=["Split", "Patients", "Cases", *classes],
        rows=rows,
        records=records,
    )


def trials_table(comparison: Comparison) -> Table:
    """Return the learning-rate search: the validation metric at each rate of the grid."""
    several = len(comparison.model_names) > 1
    values = [value for trial in comparison.trials for value in trial.values]
    decimals = decimals_for(values)
    rates = sorted({rate for trial in comparison.trials for rate in trial.grid})
    rows, records = [], []
    for trial in comparison.trials:
        tried = dict(zip(trial.grid, trial.values, strict=False))
        row = cells(*([trial.model] if several else []), trial.start, count(trial.train_size))
        for rate in rates:
            chosen = trial.chosen is not None and rate == trial.chosen
            text = number(tried.get(rate), decimals)
            row.append(Cell(text=f"{text} ✓" if chosen else text, best=chosen))
        row += cells(learning_rate(trial.chosen), ", ".join(trial.flags))
        rows.append(row)
        for rate, value in zip(trial.grid, trial.values, strict=False):
            records.append(
                {
                    "model": trial.model,
                    "start": trial.start,
                    "train_size": trial.train_size,
                    "learning_rate": rate,
                    "value": value,
                    "chosen": rate == trial.chosen,
                    "flags": "; ".join(trial.flags),
                }
            )
    header = ["Model"] if several else []
    header += ["Start", "N", *(learning_rate(rate) for rate in rates), "Chosen", "Flags"]
    return Table(
        name="learning-rates",
        caption=f"Search of the learning rate: {comparison.task.label} on the validation split "
        "at each rate, one short training each, with the same budget for every start. ✓ chosen.",
        header=header,
        rows=rows,
        records=records,
        text_columns=2 if several else 1,
        prose=True,
    )


def _metric_names(comparison: Comparison) -> list[str]:
    names = [name for run in comparison.runs for name in run.metrics]
    first = comparison.task.metric
    return sorted(dict.fromkeys(names), key=lambda name: name != first)


def _status(run: Run) -> str:
    words = [run.status, *run.flags] + ([run.error] if run.error else [])
    return "; ".join(words)


def runs_table(comparison: Comparison) -> Table:
    """Return every run with every metric that it was scored by."""
    several = len(comparison.model_names) > 1
    metrics = _metric_names(comparison)
    decimals = {
        name: decimals_for(run.metrics.get(name) for run in comparison.runs) for name in metrics
    }
    rows, records = [], []
    for run in comparison.runs:
        shown = [number(run.metrics.get(name), decimals[name]) for name in metrics]
        rows.append(
            cells(
                *([run.model] if several else []),
                run.start,
                count(run.train_size),
                str(run.seed),
                learning_rate(run.learning_rate),
                *shown,
                f"{count(run.best_step)} / {count(run.steps)}",
                duration(run.train_seconds),
                percent(run.data_wait_fraction, 1),
                memory(run.peak_memory_mib),
                _status(run),
            )
        )
        record = run.model_dump(exclude={"metrics", "metrics_patient", "batchnorm", "flags"})
        record |= {"flags": "; ".join(run.flags)}
        record |= run.metrics
        record |= {f"patient_{name}": value for name, value in run.metrics_patient.items()}
        record |= {f"batchnorm_{name}": value for name, value in run.batchnorm.items()}
        records.append(record)
    notes = []
    if any(cell.text == ABSENT for row in rows for cell in row):
        notes.append(f"{ABSENT} undefined or not measured: the run's result.json says why.")
    return Table(
        name="runs",
        caption="All runs: metrics per case on the test split, one run each, so without "
        f"intervals. {comparison.task.metric_label or comparison.task.metric} leads. Steps: "
        "best / last. Waiting: share of the training time in which the loop waited for data.",
        header=[
            *(["Model"] if several else []),
            *("Start", "N", "Seed", "Learning rate"),
            *map(metric_label, metrics),
            *("Steps", "Time", "Waiting", "Peak memory", "Status"),
        ],
        rows=rows,
        records=records,
        text_columns=2 if several else 1,
        notes=notes,
        prose=True,
    )


def cost_table(comparison: Comparison) -> Table:
    """Return what each start cost."""
    several = len(comparison.model_names) > 1
    header = ["Start", "Runs", "Training", "Search", "Peak memory", "Parameters"]
    rows = [
        cells(
            *([cost.model] if several else []),
            cost.start,
            count(cost.runs),
            duration(cost.train_seconds_total),
            duration(cost.trial_seconds_total),
            memory(cost.peak_memory_mib),
            count(cost.parameters),
        )
        for cost in comparison.cost
    ]
    return Table(
        name="cost",
        caption="Cost of each start: wall-clock time of all its trainings and of its "
        "learning-rate search, highest memory of one process, parameters of the network.",
        header=(["Model"] if several else []) + header,
        rows=rows,
        records=[cost.model_dump() for cost in comparison.cost],
        text_columns=2 if several else 1,
    )
