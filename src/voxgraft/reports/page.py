"""The page's content in order, and its HTML."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from voxgraft.reports.agreement import agreement_plots
from voxgraft.reports.audit import audits, grafts_table
from voxgraft.reports.calibration import calibration_plots
from voxgraft.reports.comparison import Comparison
from voxgraft.reports.conclusions import differences_table, estimates_table, savings_table
from voxgraft.reports.contours import contour_pictures
from voxgraft.reports.convergence import convergence_plots, convergence_table, courses_table
from voxgraft.reports.curves import learning_curves
from voxgraft.reports.details import cost_table, data_table, runs_table, trials_table
from voxgraft.reports.forest import forest_plots
from voxgraft.reports.grid import TOP, grids
from voxgraft.reports.grid_table import grid_table
from voxgraft.reports.hours import hours_table
from voxgraft.reports.network_forest import mean_plots
from voxgraft.reports.network_tables import best_table, means_table
from voxgraft.reports.networks import best_lines, headline, printed_mean, rests_on
from voxgraft.reports.predictions import Predictions, test_predictions
from voxgraft.reports.ranking import roc_plots
from voxgraft.reports.scaling import scaling_plots, scaling_table
from voxgraft.reports.slices import example_panels
from voxgraft.reports.structures import secondary_tables, structures_table
from voxgraft.reports.style import Panel, missing_glyphs
from voxgraft.reports.tables import Table
from voxgraft.reports.terminal import NO_ANSWER, run_counts
from voxgraft.reports.wording import direction, number, plural, slugs

PARTS = ("networks.html", "courses.html", "contours.html")
"""The page's sections on several networks, on what trainings took, and of drawn test cases."""

FEW = 4
"""So many panels stand open, one a network; more are folded away."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """One or more panels under one caption."""

    panels: list[Panel]
    caption: str
    shape: str = ""


def _prediction_plots(
    comparison: Comparison, folder: Path, figures: Path
) -> tuple[list[Plot], list[str]]:
    if comparison.task.kind == "segmentation":  # its predictions are scores already
        return [], []
    found, faults = test_predictions(comparison, folder)
    stems = slugs(comparison.model_names)
    plots: list[Plot] = []
    for model, predictions in found.items():
        rests_on = _rests_on(predictions)
        where = f"{model}, N = {predictions[0].train_size:,} training patients; {rests_on}"
        if comparison.task.kind == "regression":
            panels = agreement_plots(comparison, predictions, figures, stems[model])
            caption = (
                f"Test predictions of {where}. A dot is a case, at the mean of its predictions "
                "over the seeds (thin line: their range). Left of each pair: prediction against "
                "target, with the line of identity. Right: error against target, with mean error "
                "(bias) and 95% limits of agreement (± 1.96 standard deviations of the errors)."
            )
            plots.append(Plot(panels=panels, caption=caption, shape="pair"))
            continue
        panels, left_out = roc_plots(comparison, model, predictions, figures, stems[model])
        faults += left_out
        if panels:
            caption = (
                f"ROC curves per case on the test split: {where}. Thick: mean over the seeds of "
                "the sensitivity at each specificity; thin: each seed; gray: chance."
            )
            plots.append(
                Plot(panels=panels, caption=caption, shape="wide" if len(panels) == 1 else "")
            )
        caption = (
            f"Calibration per case on the test split: {where}. Bins hold equally many "
            "predictions. Thick: all seeds together; thin: each seed; gray: perfect calibration. "
            "Below: cases a seed by predicted probability."
        )
        if comparison.task.kind == "multilabel":
            caption += " All labels pooled."
        panels = calibration_plots(comparison, predictions, figures, stems[model])
        plots.append(Plot(panels=panels, caption=caption))
    return plots, faults


def _rests_on(predictions: list[Predictions]) -> str:
    texts = list(dict.fromkeys(own.rests_on for own in predictions))
    if len(texts) == 1:
        return texts[0]
    return "; ".join(f"{own.start}: {own.rests_on}" for own in predictions)


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    test = comparison.data.splits.get("test")
    facts = []
    if test is not None and test.patients is not None:
        cases = f", {plural(test.cases, 'case')}" if test.cases is not None else ""
        facts.append(("Test set", plural(test.patients, "patient") + cases))
    sizes = comparison.train_sizes
    if sizes:
        facts.append(("Training patients", ", ".join(f"{size:,}" for size in sizes)))
    facts.append(("Starts", ", ".join(comparison.start_names) or "none"))
    if comparison.model_names:
        word = "Model" if len(comparison.model_names) == 1 else "Models"
        facts.append((word, ", ".join(comparison.model_names)))
    seeds = comparison.seeds or sorted({run.seed for run in comparison.runs})
    shown = f" ({', '.join(map(str, seeds))})" if len(seeds) <= 8 else ""
    facts.append(("Seeds", f"{len(seeds)}{shown}"))
    task = comparison.task
    facts.append(("Metric", f"{task.label} per {task.level}; {direction(task)}"))
    facts.append(("Intervals", comparison.interval_kind))
    facts.append(("Runs", run_counts(comparison)))
    return facts


def _flat(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return an object's entries as (dotted key, text)."""
    if isinstance(value, dict):
        return [row for key, item in value.items() for row in _flat(item, f"{prefix}{key}.")]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return [(prefix.removesuffix("."), text)]


def _troubled(comparison: Comparison) -> list[tuple[str, int]]:
    """Return a sentence, and the number of runs, for each kind of trouble at one size."""
    several = len(comparison.model_names) > 1
    seeds: dict[tuple[str, str], list[str]] = {}
    for run in comparison.runs:
        if run.status == "finished" and not run.flags:
            continue
        where = f"{run.start}, {run.model}" if several else run.start
        words = "; ".join(dict.fromkeys([run.status, *run.flags])) + (
            f" ({run.error})" if run.error else ""
        )
        seeds.setdefault((f"{where}, N = {run.train_size:,}", words), []).append(str(run.seed))
    return [
        (f"{where}, seed{'' if len(of) == 1 else 's'} {', '.join(of)}: {words}", len(of))
        for (where, words), of in seeds.items()
    ]


def _score_label(comparison: Comparison) -> str:
    task = comparison.task
    if task.kind == "binary" and len(task.classes) == 2:
        return f"P({task.classes[1]})"
    if task.kind == "multilabel" and task.columns:
        return f"P({task.columns[0]})"
    return {"regression": "prediction", "multiclass": "P(true class)"}.get(task.kind, "score")


def _score_text(comparison: Comparison, value: float | None) -> str:
    unit = f" {comparison.task.unit}" if comparison.task.unit else ""
    if comparison.task.kind != "regression":
        return number(value, 2)
    return number(value, 0 if value is not None and abs(value) >= 1000 else 2) + unit


def content(comparison: Comparison, folder: Path, figures: Path) -> dict[str, Any]:
    """Draw the figures, build the tables and return what the template shows."""
    curves = learning_curves(comparison, figures)
    forest = forest_plots(comparison, figures)
    predictions, faults = _prediction_plots(comparison, folder, figures)
    examples, example_faults = example_panels(comparison, folder, figures)
    contoured, contour_faults = contour_pictures(comparison, folder, figures)
    names = [*comparison.start_names, *comparison.model_names, *comparison.task.classes]
    names += [*comparison.task.columns, comparison.task.unit, comparison.task.label]
    missing = missing_glyphs(names)
    if missing:
        faults.append(f"The figures' font lacks these characters of the names: {missing}")
    tables: dict[str, Table] = {"estimates": estimates_table(comparison)}
    optional = (
        ("differences", comparison.differences, differences_table),
        ("savings", comparison.label_savings, savings_table),
        ("grafts", audits(comparison), grafts_table),
        ("trials", comparison.trials, trials_table),
        ("data", comparison.data.splits, data_table),
        ("runs", comparison.runs, runs_table),
        ("cost", comparison.cost, cost_table),
        ("means", comparison.networks.means, means_table),
        ("best", comparison.networks.best, best_table),
        ("structures", comparison.structures.rows, structures_table),
        ("scaling", comparison.scaling.families, scaling_table),
        ("convergence", comparison.convergence.reached, convergence_table),
        ("courses", comparison.convergence.courses, courses_table),
        ("hours", comparison.device_hours.runs, hours_table),
    )
    for name, present, build in optional:
        if present:
            tables[name] = build(comparison)
    secondary = secondary_tables(comparison)
    tables |= {table.name: table for table in secondary}
    shown_grids = grids(comparison)
    tables |= {f"grid {grid.train_size}": grid_table(comparison, grid) for grid in shown_grids}
    found = [*headline(comparison), *best_lines(comparison)[-1:]]
    return {
        "c": comparison,
        "answer": found[0] if headline(comparison) else comparison.answer or NO_ANSWER,
        "findings": found[1:] if headline(comparison) else found,
        "rests_on": rests_on(comparison),
        "grids": shown_grids,
        "top": TOP,
        "printed_means": any(printed_mean(comparison, row) for row in comparison.networks.means),
        "means": mean_plots(comparison, figures),
        "facts": _facts(comparison),
        "tables": tables,
        "secondary": secondary,
        "curves": curves,
        "forest": forest,
        "scaling": scaling_plots(comparison, figures),
        "by_steps": convergence_plots(comparison, figures, "steps"),
        "by_hours": convergence_plots(comparison, figures, "hours"),
        "predictions": predictions,
        "faults": faults + example_faults + contour_faults,
        "contours": contoured,
        "examples": examples,
        "score_label": _score_label(comparison),
        "score_text": lambda value: _score_text(comparison, value),
        "audits": audits(comparison),
        "sites": _flat(comparison.data.sites) if comparison.data.sites else [],
        "environment": _flat(comparison.environment) if comparison.environment else [],
        "troubled": _troubled(comparison),
        "few": FEW,
    }


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _lines(text: str) -> list[str]:
    """Return the paragraphs of a note."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def render(shown: dict[str, Any]) -> str:
    """Return the page's HTML; every text of the comparison is escaped."""
    room = resources.files("voxgraft.reports")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.DictLoader(
            {name: (room / name).read_text(encoding="utf-8") for name in ("page.html", *PARTS)}
        ),
    )
    environment.filters |= {
        "svg": Markup,
        "data_uri": _data_uri,
        "paragraphs": _lines,
    }
    css = Markup((room / "page.css").read_text(encoding="utf-8"))
    return environment.get_template("page.html").render(css=css, **shown)
