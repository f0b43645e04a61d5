"""How a start gets better with the number of cases that it was pre-trained on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from voxgraft.comparison.evidence import Evidence
from voxgraft.comparison.matrix import Study, pair_id
from voxgraft.comparison.pairs import paired
from voxgraft.comparison.plan import reference_of
from voxgraft.comparison.plan_chains import families
from voxgraft.metrics import Metric
from voxgraft.recipes import ModelSettings, StartSettings
from voxgraft.runs import RunFolder
from voxgraft.statistics import Difference, holm
from voxgraft.types import Json


def over_pretraining(study: Study, evidence: Evidence, metric: Metric, curves: list[Json]) -> Json:
    """Return the test metric against the number of pre-training cases.

    Starts that differ only in how many patients of a stage they saw are one family.

    Args:
        study: The study, with the runs of its stages.
        evidence: Its test scores.
        metric: The primary one.
        curves: The rows of the learning curves, which the points are taken from.

    Returns:
        ``families``: a row a family, network and training size with ``points`` by pre-training
        patients (``start, patients, cases`` and the estimate), ``reference`` (the same without
        pre-training), and ``gain``, the paired difference of the largest and the smallest number
        of pre-training cases, corrected by Holm among these.
    """
    rows: list[Json] = []
    gains: list[Difference] = []
    places: list[int] = []
    known = {(row["model"], row["start"]): row["points"] for row in curves}
    for name, starts in families(study.plan).items():
        for model in study.plan.all_models:
            seen = _seen(study, model, starts)
            if len(seen) < 2:
                continue
            against = reference_of(study.plan, model, seen[0][1])
            for size in study.sizes:
                points = [
                    {"start": start.name, "patients": patients, "cases": cases}
                    | _point(known, model.name, start.name, size)
                    for (patients, cases), start in seen
                ]
                row: Json = {
                    "family": name,
                    "stage": study.plan.chained[seen[0][1].name],
                    "model": model.name,
                    "train_size": size,
                    "points": points,
                    "reference": None
                    if against is None
                    else {"start": against[1]} | _point(known, against[0].name, against[1], size),
                    "gain": None,
                }
                first = evidence.find(model.name, seen[0][1].name, size)
                last = evidence.find(model.name, seen[-1][1].name, size)
                gain = None
                if first is not None and last is not None:
                    gain = paired(study, evidence, metric, last, first)
                if gain is not None:
                    places.append(len(rows))
                    gains.append(gain)
                rows.append(row)
    corrected = holm([gain.p_value for gain in gains])
    for place, gain, p_holm in zip(places, gains, corrected, strict=True):
        rows[place]["gain"] = _gain(dataclasses.replace(gain, p_holm=float(p_holm)))
    return {"metric": metric.name, "families": rows}


def stage_counts(study: Study, model: str, start: str) -> tuple[int, int] | None:
    """Return the training patients and cases of the stage that a start went through; else None."""
    made = study.made.get(pair_id(model, start))
    if made is None:
        return None
    result = RunFolder(Path(made)).result()
    return int(result["train_patients"]), int(result["train_cases"])


def _seen(
    study: Study, model: ModelSettings, starts: list[StartSettings]
) -> list[tuple[tuple[int, int], StartSettings]]:
    """Return the starts of a family with what they were pre-trained on, fewest patients first."""
    found = [
        (counts, start)
        for start in starts
        for counts in (stage_counts(study, model.name, start.name),)
        if counts is not None
    ]
    return sorted(found, key=lambda item: item[0])


def _point(known: dict[tuple[str, str], list[Json]], model: str, start: str, size: int) -> Json:
    for point in known.get((model, start), []):
        if point["train_size"] == size:
            kept = ("estimate", "low", "high", "n_patients", "n_seeds", "note", "flagged")
            return {name: point.get(name) for name in kept}
    return {"estimate": None}


def _gain(found: Difference) -> Json:
    kept = ("estimate", "low", "high", "p_value", "p_holm", "n_patients", "method", "note")
    values = {name: getattr(found, name) for name in kept}
    return {
        name: None if isinstance(value, float) and value != value else value
        for name, value in values.items()
    } | {"shown": bool(found.shown)}
