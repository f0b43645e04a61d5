"""Draw the conclusions of a comparison: what ``comparison.json`` holds."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from voxgraft import __version__
from voxgraft.comparison.contours import contour_rows
from voxgraft.comparison.convergence import convergence
from voxgraft.comparison.evidence import Evidence, gather_evidence
from voxgraft.comparison.hours import device_hours
from voxgraft.comparison.matrix import Study
from voxgraft.comparison.networks import over_networks, published_table
from voxgraft.comparison.pairs import paired
from voxgraft.comparison.plan import reference_of, resolve_reference
from voxgraft.comparison.scaling import over_pretraining
from voxgraft.comparison.structures import by_structure
from voxgraft.comparison.summary import cost_rows, data_summary, example_rows, start_row
from voxgraft.datasets import Table, read_table
from voxgraft.errors import RunError
from voxgraft.files import read_json
from voxgraft.metrics import Metric, by_patient, get_metric
from voxgraft.recipes import ModelSettings
from voxgraft.runs import squeeze, truth_of
from voxgraft.statistics import (
    Compared,
    Interval,
    LabelSavings,
    adjust,
    answer,
    covariate_baseline,
    label_savings,
    majority_baseline,
    performance_interval,
    verdict,
)
from voxgraft.store import Prepared
from voxgraft.types import Json


def analyze(
    study: Study,
    folder: Path,
    prepared: Prepared,
    grafts: Json,
    choices: Json,
    command: str,
) -> Json:
    """Return the content of ``comparison.json`` from the runs in a folder.

    Args:
        study: The study.
        folder: The comparison's folder.
        prepared: Stored volumes, for the example cases.
        grafts: GraftReports by ``model__start``.
        choices: Chosen learning rates by arm.
        command: The command line, for the record.

    Raises:
        RunError: If no run has finished.
    """
    evidence = gather_evidence(study, folder, choices)
    metric = get_metric(study.metric)
    table = read_table(study.table)
    compared = _differences(study, evidence, metric)
    label, unit = metric.label, _unit(study, metric)
    plan = study.plan
    curves = _curves(study, evidence, metric)
    return {
        "format": 1,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "voxgraft": __version__,
        "command": command,
        "title": plan.title,
        "note": plan.note,
        "answer": answer(compared, metric_label=label, unit=unit),
        "statements": verdict(compared, metric_label=label, unit=unit),
        "task": {
            "kind": study.target.kind,
            "columns": list(study.target.columns),
            "classes": list(study.target.classes),
            "metric": metric.name,
            "metric_label": label,
            "higher_is_better": metric.higher_is_better,
            "level": plan.level,
            "unit": study.target.unit,
        },
        "data": data_summary(study, table, folder, grafts),
        "starts": [start_row(study, start.name, grafts) for start in plan.starts],
        "reference": resolve_reference(plan),
        "models": [model.name for model in plan.all_models],
        "sizes": list(study.sizes),
        "seeds": list(plan.seeds),
        "runs": evidence.runs,
        "curves": curves,
        "baselines": _baselines(study, evidence, metric, table),
        "differences": _difference_rows(compared, label, unit),
        "secondary": _secondary(study, evidence),
        "structures": by_structure(study, evidence, metric),
        "label_savings": _savings(study, evidence, metric),
        "scaling": over_pretraining(study, evidence, metric, curves),
        "convergence": convergence(study, evidence, folder),
        "networks": over_networks(study, evidence, metric),
        "published": published_table(study),
        "trials": [row for row in choices.values() if len(row["grid"]) > 1],
        "examples": example_rows(study, evidence, prepared, metric, folder),
        "contours": contour_rows(study, evidence, table, folder),
        "cost": cost_rows(study, evidence, choices),
        "device_hours": device_hours(study, evidence, choices, folder),
        "environment": read_json(_any_finished(evidence, folder) / "environment.json"),
        "reproduce": [command, f"voxgraft report {folder.name}"],
    }


def _unit(study: Study, metric: Metric) -> str:
    return study.target.unit if metric.unit == "target" else metric.unit


def _any_finished(evidence: Evidence, folder: Path) -> Path:
    for row in evidence.runs:
        if row["status"] != "failed":
            return folder / str(row["folder"])
    raise RunError(f"no run of {folder} has finished.")


def _differences(study: Study, evidence: Evidence, metric: Metric) -> list[Compared]:
    keys, differences = [], []
    for model, start in study.plan.pairs():
        against = reference_of(study.plan, model, start)
        if against is None:
            continue
        for size in study.sizes:
            base = evidence.find(against[0].name, against[1], size)
            arm = evidence.find(model.name, start.name, size)
            if base is None or arm is None:
                continue
            difference = paired(study, evidence, metric, arm, base)
            if difference is not None:
                keys.append((model.name, start.name, against[1], size))
                differences.append(difference)
    return [
        Compared(
            start=start,
            reference=reference,
            train_size=size,
            difference=difference,
            model=model if len(study.plan.all_models) > 1 else "",
        )
        for (model, start, reference, size), difference in zip(
            keys, adjust(differences), strict=True
        )
    ]


def _secondary(study: Study, evidence: Evidence) -> list[Json]:
    """Return curves and differences in the metric that stands beside the primary one.

    Its differences are a family of their own in Holm's correction, and no conclusion rests on them.
    """
    if not study.segments:
        return []
    metric = get_metric("dice" if study.metric == "surface_dice" else "surface_dice")
    compared = _differences(study, evidence, metric)
    return [
        {
            "metric": metric.name,
            "metric_label": metric.label,
            "higher_is_better": metric.higher_is_better,
            "curves": _curves(study, evidence, metric),
            "differences": _difference_rows(compared, metric.label, _unit(study, metric)),
        }
    ]


def _difference_rows(compared: list[Compared], label: str, unit: str) -> list[Json]:
    texts = verdict(compared, metric_label=label, unit=unit)
    return [_difference_row(item, text) for item, text in zip(compared, texts, strict=True)]


def _difference_row(item: Compared, text: str) -> Json:
    difference = item.difference
    return {
        "model": item.model,
        "train_size": item.train_size,
        "start": item.start,
        "against": item.reference,
        "estimate": difference.estimate,
        "low": difference.low,
        "high": difference.high,
        "p_value": difference.p_value,
        "p_holm": difference.p_holm,
        "n_patients": difference.n_patients,
        "n_seeds": difference.n_seeds_a,
        "method": difference.method,
        "note": difference.note,
        "verdict": text,
    }


def _interval(study: Study, evidence: Evidence, metric: Metric, scores: Any) -> Interval:
    return performance_interval(
        metric.function(study.target.kind),
        evidence.test.target,
        scores,
        evidence.test.patients,
        bounds=metric.bounds,
        undefined=study.segments,
    )


def _curves(study: Study, evidence: Evidence, metric: Metric) -> list[Json]:
    function: Callable[..., Any] = metric.function(study.target.kind)
    curves = []
    for model, start in study.plan.pairs():
        points = []
        for size in study.sizes:
            flagged = sorted(
                f"seed {row['seed']}: {', '.join(row['flags'])}"
                for row in evidence.runs
                if (row["model"], row["start"], row["train_size"]) == (model.name, start.name, size)
                and row["flags"]
            )
            point: Json = {"train_size": size, "flagged": flagged, "values": [], "n_seeds": 0}
            arm = evidence.find(model.name, start.name, size)
            if arm is None:
                point |= {"estimate": None, "low": None, "high": None, "n_patients": 0}
            else:
                interval = _interval(study, evidence, metric, arm.scores)
                point |= {
                    "estimate": interval.estimate,
                    "low": interval.low,
                    "high": interval.high,
                    "method": interval.method,
                    "note": interval.note,
                    "values": [
                        float(function(evidence.test.target, scores)) for scores in arm.scores
                    ],
                    "n_seeds": len(arm.seeds),
                    "n_patients": interval.n_patients,
                }
            points.append(point)
        curves.append({"start": start.name, "model": model.name, "points": points})
    return curves


def _baselines(study: Study, evidence: Evidence, metric: Metric, table: Table) -> list[Json]:
    """Return trivial predictors; none of a segmentation, whose Dice is 0 where none is drawn."""
    kind = study.target.kind
    if study.segments:
        return []
    train, test = table.split("train").frame, evidence.test.frame
    train_target = study.target.encode(train)
    rows = []
    majority = "the training patients' mean" if kind == "regression" else "the training prior"
    scored: list[tuple[str, str, str | None]] = [
        ("majority" if kind != "regression" else "mean", majority, None)
    ]
    scored += [(name, f"column {name!r} alone", name) for name in study.plan.baselines]
    for name, description, column in scored:
        if column is None:
            scores = majority_baseline(kind, squeeze(train_target), len(test))
        else:
            values = table.frame.set_index("case_id")[column].astype(float)
            scores = covariate_baseline(
                kind,
                train[column].to_numpy(float),
                squeeze(train_target),
                values.loc[list(test["case_id"])].to_numpy(float),
            )
        if study.plan.level == "patient":
            flat = scores[:, None] if scores.ndim == 1 else scores
            level = by_patient(kind, truth_of(test), flat, test["patient_id"].to_numpy(str))
            scores = squeeze(level.scores)
        interval = _interval(study, evidence, metric, scores[None])
        rows.append(
            {
                "name": name,
                "description": description,
                "estimate": interval.estimate,
                "low": interval.low,
                "high": interval.high,
                "n_patients": interval.n_patients,
            }
        )
    return rows


def _savings(study: Study, evidence: Evidence, metric: Metric) -> list[Json]:
    rows: list[Json] = []
    if len(study.sizes) < 2:
        return rows
    for model, start in study.plan.pairs():
        against = reference_of(study.plan, model, start)
        if against is None:
            continue
        base = _by_size(study, evidence, against[0], against[1])
        arms = _by_size(study, evidence, model, start.name)
        if len(base) < 2 or len(arms) < 2:
            continue
        saved = label_savings(
            metric.function(study.target.kind),
            evidence.test.target,
            arms,
            base,
            evidence.test.patients,
            higher_is_better=metric.higher_is_better,
            undefined=study.segments,
        )
        rows.append(_savings_row(model.name, start.name, against[1], saved, metric))
    return rows


def _savings_row(
    model: str, start: str, reference: str, saved: LabelSavings, metric: Metric
) -> Json:
    """Return a row for the report; ends that are censored are None, and the text says how."""
    reached = saved.status in ("interpolated", "at the smallest size")
    needed = max(saved.patients, saved.smallest) if reached else None
    return {
        "model": model,
        "start": start,
        "against": reference,
        "smallest": saved.smallest,
        "reference_size": saved.reference_patients,
        "reference_value": saved.reference_value,
        "needed": needed,
        "needed_low": max(saved.low, saved.smallest),
        "needed_high": max(saved.high, saved.smallest),
        "saved_fraction": saved.saved,
        "saved_low": saved.saved_low,
        "saved_high": saved.saved_high,
        "reached": reached,
        "status": saved.status,
        "n_patients": saved.n_patients,
        "text": saved.text(start, reference, metric.label),
    }


def _by_size(
    study: Study, evidence: Evidence, model: ModelSettings, start: str
) -> dict[int, np.ndarray]:
    arms = {size: evidence.find(model.name, start, size) for size in study.sizes}
    return {size: arm.scores for size, arm in arms.items() if arm is not None}
