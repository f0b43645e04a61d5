"""The tables behind the conclusions: data, learning-rate search, all runs, cost."""

from __future__ import annotations

import math
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
    counted = comparison.task.kind != "regression"
    rows, records = [], []
    for name, split in splits.items():
        row = [name, count(split.patients), count(split.cases)]
        for label in classes:
            value = split.classes.get(label)
            if not counted:
                row.append(number(value, decimals_for([value])))
                continue
            share = f" ({percent(value / split.cases)})" if value and split.cases else ""
            row.append(count(value) + share)
        rows.append(cells(*row))
        record: dict[str, Any] = {"split": name, "patients": split.patients, "cases": split.cases}
        records.append(record | {f"class: {label}": split.classes.get(label) for label in classes})
    what = "cases of each class (share of the side's cases)"
    if comparison.task.kind == "segmentation":
        what = "cases that annotate each structure (share of the side's cases)"
    if not counted:
        unit = comparison.task.unit
        what = f"the target over the cases{f' ({unit})' if unit else ''}"
    return Table(
        name="data",
        caption="Patients and cases of each side of the split"
        + (f", and {what}." if classes else "."),
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
        # A search that failed or is under way has a grid and no values, or fewer.
        tried = dict(zip(trial.grid, trial.values, strict=False))
        row = cells(*([trial.model] if several else []), trial.start, count(trial.train_size))
        for rate in rates:
            chosen = trial.chosen is not None and rate == trial.chosen
            text = number(tried.get(rate), decimals)
            row.append(Cell(text=f"{text} ✓" if chosen else text, best=chosen))
        words = [*trial.flags, *([trial.error] if trial.error else [])]
        row += cells(learning_rate(trial.chosen), "; ".join(words))
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


def flat_numbers(value: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """Return the finite numbers of a nested object, keys joined by underscores."""
    found = []
    for key, item in value.items():
        if isinstance(item, dict):
            found += flat_numbers(item, f"{prefix}{key}_")
        elif isinstance(item, int | float) and not isinstance(item, bool) and math.isfinite(item):
            found.append((f"{prefix}{key}", float(item)))
    return found


def _metric_names(comparison: Comparison) -> list[str]:
    level = comparison.task.level
    names = [name for run in comparison.runs for name in run.scored(level)]
    first = comparison.task.metric
    return sorted(dict.fromkeys(names), key=lambda name: name != first)


def _status(run: Run) -> str:
    return "; ".join(dict.fromkeys([run.status, *run.flags, *([run.error] if run.error else [])]))


def runs_table(comparison: Comparison) -> Table:
    """Return every run with every metric that it was scored by."""
    several = len(comparison.model_names) > 1
    level = comparison.task.level
    metrics = _metric_names(comparison)
    decimals = {
        name: decimals_for(run.scored(level).get(name) for run in comparison.runs)
        for name in metrics
    }
    rows, records = [], []
    for run in comparison.runs:
        shown = [number(run.scored(level).get(name), decimals[name]) for name in metrics]
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
        record = run.model_dump(
            exclude={"metrics", "metrics_patient", "batchnorm", "flags", "undefined"}
        )
        record |= {"flags": "; ".join(run.flags)}
        record |= run.metrics
        record |= {f"patient_{name}": value for name, value in run.metrics_patient.items()}
        record |= {f"batchnorm_{name}": value for name, value in flat_numbers(run.batchnorm)}
        records.append(record)
    reasons = {why for run in comparison.runs for why in run.undefined.items()}
    notes = [f"{metric_label(name)}: {why}." for name, why in sorted(reasons)]
    if any(cell.text == ABSENT for row in rows for cell in row):
        notes.append(f"{ABSENT} undefined or not measured.")
    return Table(
        name="runs",
        caption=f"All runs: metrics per {level} on the test split, one run each, so without "
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


def _device(comparison: Comparison) -> str:
    device = comparison.environment.get("device")
    return f" on {device}" if isinstance(device, str) and device else ""


def cost_table(comparison: Comparison) -> Table:
    """Return what each start cost."""
    several = len(comparison.model_names) > 1
    header = ["Start", "Runs", "Training", "Search", "Peak memory", "Parameters", "Trained"]
    rows = [
        cells(
            *([cost.model] if several else []),
            cost.start,
            count(cost.runs),
            duration(cost.train_seconds_total),
            duration(cost.trial_seconds_total),
            memory(cost.peak_memory_mib),
            count(cost.parameters),
            count(cost.trainable_parameters),
        )
        for cost in comparison.cost
    ]
    return Table(
        name="cost",
        caption=f"Cost of each start{_device(comparison)}: wall-clock time of all its trainings "
        "and of its learning-rate search, highest memory of one process, parameters of the network "
        "and how many of them were trained.",
        header=(["Model"] if several else []) + header,
        rows=rows,
        records=[cost.model_dump() for cost in comparison.cost],
        text_columns=2 if several else 1,
    )
