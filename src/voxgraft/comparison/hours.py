"""What trainings took of a device: each start at each size, and what went before them."""

from __future__ import annotations

from pathlib import Path

from voxgraft.comparison.evidence import Evidence
from voxgraft.comparison.matrix import Study
from voxgraft.comparison.scaling import stage_counts
from voxgraft.comparison.stages import FOLDER
from voxgraft.files import read_json
from voxgraft.runs import RunFolder
from voxgraft.types import Json


def device_hours(study: Study, evidence: Evidence, choices: Json, folder: Path) -> Json:
    """Return the hours that one device was held by the trainings of each start.

    An hour is one of wall-clock time of a training on its device, validation during training
    included; preparing volumes and scoring test cases are not. A stage counts with all learning
    rates that were tried on it, once for each start and network, apart from the comparison.

    Returns:
        ``device``, ``kind`` (``GPU``, or ``CPU``), ``threads``, ``runs`` (``start, model,
        train_size, runs, training_hours, search_hours, hours``) and ``pretraining`` (``start,
        model, stage, patients, cases, runs, hours``).
    """
    rows: list[Json] = []
    for model, start in study.plan.pairs():
        for size in study.sizes:
            key = (model.name, start.name, size)
            seconds = [
                row["train_seconds"]
                for row in evidence.runs
                if (row["model"], row["start"], row["train_size"]) == key
                and row["train_seconds"] is not None
            ]
            searched = [
                row["seconds"]
                for row in choices.values()
                if (row["model"], row["start"], row["train_size"]) == key
            ]
            training, search = sum(seconds) / 3600, sum(searched) / 3600
            rows.append(
                {
                    "start": start.name,
                    "model": model.name,
                    "train_size": size,
                    "runs": len(seconds),
                    "training_hours": training,
                    "search_hours": search,
                    "hours": training + search,
                }
            )
    device, name = _device(evidence, folder)
    return {
        "device": name,
        "kind": "CPU" if device.startswith("cpu") else "GPU",
        "threads": study.threads,
        "runs": rows,
        "pretraining": _before(study, folder),
    }


def _before(study: Study, folder: Path) -> list[Json]:
    rows: list[Json] = []
    for model, start in study.plan.pairs():
        stage = study.plan.chained.get(start.name)
        counts = stage_counts(study, model.name, start.name)
        if stage is None or counts is None:
            continue
        place = folder / FOLDER / stage
        tried = [RunFolder(path) for path in sorted(place.glob(f"{model.name}__{start.name}__lr*"))]
        fits = [run.result()["fit"] for run in tried if run.finished]
        rows.append(
            {
                "start": start.name,
                "model": model.name,
                "stage": stage,
                "patients": counts[0],
                "cases": counts[1],
                "runs": len(fits),
                "hours": sum(fit["seconds"] for fit in fits) / 3600,
            }
        )
    return rows


def _device(evidence: Evidence, folder: Path) -> tuple[str, str]:
    """Return where the runs trained: torch's name of the device, and what it is called."""
    for row in evidence.runs:
        if row["status"] != "failed":
            run = RunFolder(folder / str(row["folder"]))
            named = read_json(run.path / "environment.json").get("device") or ""
            return str(run.result()["fit"]["device"]), str(named)
    return "", ""
