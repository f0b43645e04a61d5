"""What a comparison of several networks shows beyond each of them: their mean, and their best."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from voxgraft.comparison.evidence import ArmEvidence, Evidence
from voxgraft.comparison.matrix import Study
from voxgraft.comparison.pairs import on_common_cases
from voxgraft.comparison.plan import resolve_reference
from voxgraft.comparison.published import published_cells, published_means
from voxgraft.comparison.published.ke2023 import MODELS_3D, column_of, row_of
from voxgraft.errors import RecipeError
from voxgraft.metrics import Metric
from voxgraft.models import MODELS
from voxgraft.statistics import best_against_best, holm, mean_difference_over_networks
from voxgraft.types import Json


def over_networks(study: Study, evidence: Evidence, metric: Metric) -> Json:
    """Return mean differences over networks, and the best 3D network against the best on slices.

    Returns:
        ``kinds`` (``3D`` and ``2D`` to the names of the networks), ``means`` (a row a group of
        networks, pair of starts and size) and ``best`` (a row a size). Empty lists where there are
        fewer than two networks of a kind, or only one kind.
    """
    kinds = kinds_of_networks([model.name for model in study.plan.all_models])
    return {
        "kinds": {kind: list(names) for kind, names in kinds.items()},
        "means": _means(study, evidence, metric, kinds),
        "best": _best(study, evidence, metric, kinds),
    }


def kinds_of_networks(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return which networks are 3D, and which read slices one by one (``2D``)."""
    planar = tuple(name for name in names if MODELS.get(name).family == "slicewise")
    kinds = {"3D": tuple(name for name in names if name not in planar), "2D": planar}
    return {kind: members for kind, members in kinds.items() if members}


def published_table(study: Study) -> Json | None:
    """Return the cells of the published table that a plan names, by our networks and starts.

    Returns:
        ``study, dataset, cells`` (``model, start, percent, estimate, low, high, note``) and
        ``means`` (``start, against, percent, estimate, low, high, smallest, largest, note``); None
        if the plan names none.

    Raises:
        RecipeError: If no such table is here.
    """
    named = study.plan.published
    if named is None:
        return None
    name, _, dataset = named.partition("/")
    cells = [cell for cell in published_cells(name) if cell.dataset == dataset]
    if not cells:
        raise RecipeError(
            f"published is {named!r}; expected ke2023/RSNA or ke2023/LIDC, or nothing."
        )
    ours = {row_of(model.name): model.name for model in study.plan.all_models}
    rows = [
        {
            "model": ours[cell.model],
            "printed": cell.model,
            "start": column_of(cell),
            "percent": cell.finetune_pct,
            "estimate": cell.auc,
            "low": cell.low,
            "high": cell.high,
            "note": cell.note,
        }
        for cell in cells
        if cell.model in ours
    ]
    means = [
        {
            "start": "video",
            "against": "scratch" if mean.contrast.endswith("none") else "ct",
            "percent": mean.finetune_pct,
            "estimate": mean.estimate,
            "low": mean.low,
            "high": mean.high,
            "smallest": mean.smallest,
            "largest": mean.largest,
            "n_networks": len(mean.per_network),
            "note": mean.note,
        }
        for mean in published_means(name)
        if mean.dataset == dataset
    ]
    return {"study": name, "dataset": dataset, "cells": rows, "means": means, "of": len(MODELS_3D)}


def _means(
    study: Study, evidence: Evidence, metric: Metric, kinds: dict[str, tuple[str, ...]]
) -> list[Json]:
    rows: list[Json] = []
    reference = resolve_reference(study.plan)
    others = [start.name for start in study.plan.starts if start.name != reference]
    pairs = [(name, reference) for name in others]
    pairs += [(second, first) for first, second in combinations(others, 2)]
    for kind, names in kinds.items():
        for start, against in pairs:
            for size in study.sizes:
                found = [
                    (name, a, b)
                    for name in names
                    for a in (evidence.find(name, start, size),)
                    for b in (evidence.find(name, against, size),)
                    if a is not None and b is not None
                ]
                if len(found) < 2:
                    continue
                scores = [
                    on_common_cases(a.scores, b.scores) if study.segments else (a.scores, b.scores)
                    for _, a, b in found
                ]
                difference = mean_difference_over_networks(
                    metric.function(study.target.kind),
                    evidence.test.target,
                    [a for a, _ in scores],
                    [b for _, b in scores],
                    evidence.test.patients,
                    bounds=metric.bounds,
                    higher_is_better=metric.higher_is_better,
                    undefined=study.segments,
                )
                row = dataclasses.asdict(difference)
                row["per_network"] = dict(
                    zip([name for name, _, _ in found], difference.per_network, strict=True)
                )
                left_out = [name for name in names if name not in row["per_network"]]
                rows.append(
                    {"kind": kind, "start": start, "against": against, "train_size": size}
                    | _plain(row)
                    | {"shown": difference.shown, "left_out": left_out}
                )
    known = [row for row in rows if row["p_value"] is not None]
    for row, p_holm in zip(known, holm([row["p_value"] for row in known]), strict=True):
        row["p_holm"] = float(p_holm)
    return rows


def _best(
    study: Study, evidence: Evidence, metric: Metric, kinds: dict[str, tuple[str, ...]]
) -> list[Json]:
    """Return, a size, the best 3D network and start against the best on slices."""
    if len(kinds) < 2:
        return []
    rows = []
    for size in study.sizes:
        scores: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
        validation: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
        for kind, names in kinds.items():
            for arm in evidence.arms.values():
                if arm.arm.train_size != size or arm.arm.model.name not in names:
                    continue
                values = _validation(evidence, arm)
                if values is not None:
                    label = f"{arm.arm.model.name}, {arm.arm.start.name}"
                    scores[kind][label], validation[kind][label] = arm.scores, values
        if not all(scores.values()):
            continue
        best = best_against_best(
            metric.function(study.target.kind),
            evidence.test.target,
            scores["3D"],
            scores["2D"],
            validation["3D"],
            validation["2D"],
            evidence.test.patients,
            bounds=metric.bounds,
            higher_is_better=metric.higher_is_better,
            replicates=study.plan.replicates,
        )
        on_test = dataclasses.asdict(best.on_test)
        rows.append(
            {
                "train_size": size,
                "chosen_3d": best.chosen_a,
                "chosen_2d": best.chosen_b,
                "validation_3d": best.validation_a,
                "validation_2d": best.validation_b,
                "difference": _plain(dataclasses.asdict(best.difference)),
                "on_test": _plain(on_test)
                | {"optimism": best.on_test.optimism, "corrected": best.on_test.corrected},
            }
        )
    return rows


def _validation(evidence: Evidence, arm: ArmEvidence) -> np.ndarray | None:
    """Return the validation value of each usable run of an arm; None if one has none."""
    values = {
        row["seed"]: row.get("validation")
        for row in evidence.runs
        if row["id"].startswith(f"{arm.arm.id}__s")
    }
    found = [values.get(seed) for seed in arm.seeds]
    return None if any(value is None for value in found) else np.asarray(found, dtype=np.float64)


def _plain(row: dict[str, Any]) -> Json:
    """Return a row with numbers that JSON has: what is not finite becomes None."""
    return {
        key: None
        if isinstance(value, float) and not np.isfinite(value)
        else list(value)
        if isinstance(value, tuple)
        else value
        for key, value in row.items()
    }
