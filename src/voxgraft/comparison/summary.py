"""The facts of a comparison that are no conclusions: starts, data, examples, cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from voxgraft.comparison.audit import (
    declared_data_sets,
    input_audit,
    overlap_audit,
    sources_used,
)
from voxgraft.comparison.evidence import Evidence
from voxgraft.comparison.examples import write_examples
from voxgraft.comparison.explained import Explainer
from voxgraft.comparison.matrix import Study
from voxgraft.datasets import Table, case_masks
from voxgraft.files import read_json
from voxgraft.grafting import find_source
from voxgraft.metrics import Metric
from voxgraft.runs import RunFolder, score_columns
from voxgraft.store import Prepared
from voxgraft.types import Json


def start_row(study: Study, name: str, grafts: Json) -> Json:
    """Return how a start is used, where it comes from, and the audit of its grafts."""
    start = next(start for start in study.plan.starts if start.name == name)
    begun = study.plan.sources_of(start)
    row: Json = {
        "name": name,
        "source": study.plan.origin(start),
        "sources": dict(study.plan.sources.get(name, {})),
        "method": start.method if begun else "",
        "stem": start.stem if begun else "",
        "norm": start.norm,
        "adapt": start.adapt.method,
        "description": start.description,
        "licence": "",
        "paper": "",
        "trained_on": [],
    }
    used = [find_source(text) for text in sources_used(study, name)]
    if used:
        row |= {
            key: "; ".join(dict.fromkeys(str(getattr(source, key)) for source in used))
            for key in ("licence", "paper")
        }
        row["trained_on"] = list(dict.fromkeys(x for source in used for x in source.trained_on))
    audits = [
        {"model": model.name} | grafts[f"{model.name}__{name}"]
        for model in study.plan.all_models
        if grafts.get(f"{model.name}__{name}") is not None
    ]
    return row | {"graft": audits[0] if audits else None, "grafts": audits}


def data_summary(study: Study, table: Table, folder: Path, grafts: Json) -> Json:
    """Return counts of patients, cases and classes, and the preprocessing in words."""
    splits: Json = {}
    for name in ("train", "validation", "test"):
        part = table.split(name)
        splits[name] = {
            "patients": len(part.patients),
            "cases": len(part.frame),
            "classes": _class_counts(study, part),
        }
    sites = (
        {str(site): int(count) for site, count in table.frame["site"].value_counts().items()}
        if "site" in table.frame
        else None
    )
    return {
        "table": Path(study.plan.table).name,
        "sha256": read_json(folder / "table.json")["sha256"],
        "splits": splits,
        "sites": sites,
        "preprocessing": study.plan.preprocessing.describe().splitlines(),
        "datasets": list(declared_data_sets(study, table)),
        "notices": input_audit(grafts),
        "overlap": [row["text"] for row in overlap_audit(study, table)],
        "overlap_flags": [row["start"] for row in overlap_audit(study, table) if row["flag"]],
    }


def _class_counts(study: Study, part: Table) -> Json:
    if study.segments:
        annotated = [case.annotated for case in case_masks(part).values()]
        return {name: sum(name in names for names in annotated) for name in study.target.classes}
    encoded = study.target.encode(part.frame)
    if study.target.kind == "regression":
        return {"mean": float(encoded.mean()), "sd": float(encoded.std())}
    if study.target.kind == "multilabel":
        totals = encoded.sum(axis=0).astype(int)
        return {name: int(n) for name, n in zip(study.target.columns, totals, strict=True)}
    counts = np.bincount(encoded[:, 0].astype(int), minlength=len(study.target.classes))
    return {name: int(n) for name, n in zip(study.target.classes, counts, strict=True)}


def example_rows(
    study: Study, evidence: Evidence, prepared: Prepared, metric: Metric, folder: Path
) -> list[Json]:
    """Save example cases of the best start and network at the largest size; return their rows.

    A segmentation has none: its runs keep scores of its cases, not their masks.
    """
    if study.segments:
        return []
    size = study.sizes[-1]
    quality: dict[tuple[str, str], float] = {}
    for model, start in study.plan.pairs():
        arm = evidence.find(model.name, start.name, size)
        if arm is not None:
            scored = metric.function(study.target.kind)
            value = float(np.mean([scored(evidence.test.target, runs) for runs in arm.scores]))
            quality[model.name, start.name] = value if metric.higher_is_better else -value
    if not quality:
        return []
    network, shown = max(quality, key=lambda pair: quality[pair])
    frames: dict[str, Any] = {}
    runs_of: dict[str, list[Json]] = {}
    # The network of the start that is shown first; other starts may have one of their own only.
    for model_name, start_name in sorted(quality, key=lambda pair: pair[0] != network):
        arm = evidence.find(model_name, start_name, size)
        if arm is None or start_name in frames:
            continue
        runs = [row for row in evidence.runs if row["id"].startswith(f"{arm.arm.id}__s")]
        usable = [row for row in runs if row["seed"] in arm.seeds]
        parts = [RunFolder(folder / row["folder"]).predictions("test") for row in usable]
        frame = parts[0].copy()
        names = score_columns(frame)
        frame[names] = np.mean([part[names].to_numpy() for part in parts], axis=0)
        frames[start_name] = frame
        runs_of[start_name] = usable

    def read_image(case_id: str) -> Any:
        return prepared.read(case_id), prepared.affine(case_id)

    explain = Explainer(folder, runs_of[shown])
    return write_examples(folder, study.target, frames, shown, read_image, explain)


def cost_rows(study: Study, evidence: Evidence, choices: Json) -> list[Json]:
    """Return time on the device, memory and parameters of each start on each model."""
    rows = []
    for model, start in study.plan.pairs():
        runs = [
            row
            for row in evidence.runs
            if (row["model"], row["start"]) == (model.name, start.name)
            and row["train_seconds"] is not None
        ]
        trials = [
            row["seconds"]
            for row in choices.values()
            if (row["model"], row["start"]) == (model.name, start.name)
        ]
        rows.append(
            {
                "start": start.name,
                "model": model.name,
                "runs": len(runs),
                "train_seconds_total": sum(row["train_seconds"] for row in runs),
                "trial_seconds_total": sum(trials),
                "device_hours": (sum(row["train_seconds"] for row in runs) + sum(trials)) / 3600,
                "peak_memory_mib": max((row["peak_memory_mib"] for row in runs), default=None),
                "parameters": runs[0]["parameters"] if runs else None,
                "trainable_parameters": runs[0]["trainable_parameters"] if runs else None,
            }
        )
    return rows
