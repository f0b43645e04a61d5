"""What a comparison of segmentations shows structure by structure, at its largest size."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from voxgraft.comparison.evidence import ArmEvidence, Evidence
from voxgraft.comparison.matrix import Study
from voxgraft.comparison.pairs import on_common_cases, shared_seeds
from voxgraft.comparison.plan import reference_of
from voxgraft.metrics import METRICS, Metric
from voxgraft.metrics.structures import SCORED
from voxgraft.statistics import Difference, Interval, holm, paired_difference, performance_interval
from voxgraft.types import Json

SHOWN = ("dice", "surface_dice")
"""Metrics that stand in the table of structures."""


def by_structure(study: Study, evidence: Evidence, metric: Metric) -> Json | None:
    """Return each structure's scores with each start, and the differences from the reference.

    A structure rests on the test cases that annotate it. Differences are in the primary metric,
    corrected by Holm as one family over structures, starts and networks.

    Returns:
        ``train_size``, ``metric`` and ``rows`` (``structure, model, start, against, n_cases,
        n_present, n_patients, n_seeds``, an interval for each of :data:`SHOWN`, ``difference``);
        None for other targets.
    """
    if not study.segments:
        return None
    size = study.sizes[-1]
    rows: list[Json] = []
    differences: list[Difference] = []
    places: list[int] = []
    for column, structure in enumerate(study.target.classes):
        annotated = ~np.isnan(evidence.test.target[:, column])
        for model, start in study.plan.pairs():
            arm = evidence.find(model.name, start.name, size)
            if arm is None:
                continue
            against = reference_of(study.plan, model, start)
            row: Json = {
                "structure": structure,
                "model": model.name,
                "start": start.name,
                "against": "" if against is None else against[1],
                "n_cases": int(annotated.sum()),
                "n_present": int((evidence.test.target[:, column] == 1).sum()),
                "n_patients": len(set(evidence.test.patients[annotated])),
                "n_seeds": len(arm.seeds),
            } | _false_positives(evidence, arm, column)
            for name in SHOWN:
                row[name] = _interval(study, evidence, METRICS[name], arm, column)
            row["difference"] = None
            base = None
            if against is not None:
                base = evidence.find(against[0].name, against[1], size)
            found = None
            if base is not None and annotated.any():
                found = _difference(study, evidence, metric, arm, base, column)
            if found is not None:
                places.append(len(rows))
                differences.append(found)
            rows.append(row)
    corrected = holm([difference.p_value for difference in differences])
    for place, difference, p_holm in zip(places, differences, corrected, strict=True):
        whole = dataclasses.replace(difference, p_holm=float(p_holm))
        rows[place]["difference"] = _plain(
            whole, ("estimate", "low", "high", "p_value", "p_holm", "n_patients", "method", "note")
        ) | {"shown": bool(whole.shown)}
    return {"train_size": size, "metric": metric.name, "rows": rows}


def _false_positives(evidence: Evidence, arm: ArmEvidence, column: int) -> Json:
    """Return in how many cases without the structure it is predicted, the mean over the runs."""
    absent = evidence.test.target[:, column] == 0
    drawn = ~np.isnan(arm.scores[:, absent, column])  # Dice, the first block; 0 where it is drawn
    return {
        "n_absent": int(absent.sum()),
        "predicted_where_absent": float(drawn.sum(axis=1).mean()) if absent.any() else None,
    }


def _of_structure(
    evidence: Evidence, scores: np.ndarray, column: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return target, scores and patients of the cases that annotate a structure."""
    count = evidence.test.target.shape[1]
    annotated = ~np.isnan(evidence.test.target[:, column])
    columns = [column + block * count for block in range(len(SCORED))]
    return (
        evidence.test.target[annotated][:, [column]],
        scores[:, annotated][:, :, columns],
        evidence.test.patients[annotated],
    )


def _interval(
    study: Study, evidence: Evidence, metric: Metric, arm: ArmEvidence, column: int
) -> Json:
    target, scores, patients = _of_structure(evidence, arm.scores, column)
    function: Callable[..., Any] = metric.function(study.target.kind)
    if len(target) == 0:
        return {"estimate": None, "low": None, "high": None, "note": "annotated in no test case"}
    interval = performance_interval(
        function, target, scores, patients, bounds=metric.bounds, undefined=True
    )
    return _plain(interval, ("estimate", "low", "high", "note"))


def _difference(
    study: Study,
    evidence: Evidence,
    metric: Metric,
    arm: ArmEvidence,
    base: ArmEvidence,
    column: int,
) -> Difference | None:
    shared = shared_seeds(arm, base)
    if shared is None:
        return None
    own, other = on_common_cases(*shared)
    target, scores, patients = _of_structure(evidence, own, column)
    return paired_difference(
        metric.function(study.target.kind),
        target,
        scores,
        _of_structure(evidence, other, column)[1],
        patients,
        bounds=metric.bounds,
        higher_is_better=metric.higher_is_better,
        replicates=study.plan.replicates,
        undefined=True,
    )


def _plain(found: Interval | Difference, names: tuple[str, ...]) -> Json:
    """Return fields of a finding, None for a number that it does not have."""
    values = {name: getattr(found, name) for name in names}
    return {
        name: None if isinstance(value, float) and not np.isfinite(value) else value
        for name, value in values.items()
    }
