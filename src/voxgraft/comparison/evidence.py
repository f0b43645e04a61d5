"""What the runs of a comparison showed on the test patients, as aligned arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from voxgraft.comparison.matrix import Arm, Study, arm_id, run_id
from voxgraft.errors import RunError
from voxgraft.files import read_json
from voxgraft.metrics import by_patient
from voxgraft.runs import RunFolder, scores_of, squeeze, truth_of
from voxgraft.statistics import usable
from voxgraft.types import Json

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TestSet:
    """The test cases (or patients) that every run was scored on."""

    frame: pd.DataFrame
    """Cases in order, with ``case_id``, ``patient_id`` and ``target_*``."""
    target: Array
    """``(n,)``, or ``(n, columns)`` for several columns. Of a segmentation ``(n, structures)``: 1
    where a structure is in the reference, 0 where it is not, NaN where it is not annotated."""
    patients: NDArray[np.str_]
    """``(n,)`` ids; resampled together."""


@dataclass(frozen=True)
class ArmEvidence:
    """Scores of the usable runs of one arm."""

    arm: Arm
    seeds: tuple[int, ...]
    """Seeds whose runs are usable, in the plan's order."""
    scores: Array
    """``(seeds, n)``, or ``(seeds, n, columns)``. Of a segmentation the scores of cases, NaN where
    a case has none (:func:`voxgraft.metrics.segmentation.matrix.score_matrix`)."""


@dataclass(frozen=True)
class Evidence:
    """Everything the conclusions rest on."""

    test: TestSet
    arms: dict[str, ArmEvidence]
    """By the arm's id; arms without a usable run are missing."""
    runs: list[Json]
    """One row a run, as the report lists them."""

    def find(self, model: str, start: str, train_size: int) -> ArmEvidence | None:
        """Return the evidence of an arm, or None if it has no usable run."""
        return self.arms.get(arm_id(model, start, train_size))


def gather_evidence(study: Study, folder: Path, choices: Json) -> Evidence:
    """Read all runs of a comparison.

    Raises:
        RunError: If no run has finished, or runs were scored on different cases.
    """
    rows: list[Json] = []
    found: dict[str, tuple[Arm, list[int], list[Array]]] = {}
    test: TestSet | None = None
    for arm in study.arms():
        for seed in study.plan.seeds:
            run = RunFolder(folder / "runs" / run_id(arm, seed))
            row = _run_row(arm, seed, run, folder)
            if choices[arm.id]["error"] is not None:
                row["error"] = choices[arm.id]["error"]
            rows.append(row)
            if not run.finished:
                continue
            frame = run.predictions("test")
            if test is None:
                test = _test_set(study, frame)
            scores = _aligned_scores(study, frame, test, run)
            if not usable(row["flags"]):
                continue
            _, seeds, arrays = found.setdefault(arm.id, (arm, [], []))
            seeds.append(seed)
            arrays.append(scores)
    if test is None:
        raise RunError(
            f"no run of {folder} has finished. Read failure.json in its runs; then start the "
            "same command again."
        )
    arms = {
        key: ArmEvidence(arm, tuple(seeds), np.stack(arrays))
        for key, (arm, seeds, arrays) in found.items()
    }
    return Evidence(test=test, arms=arms, runs=rows)


def _test_set(study: Study, frame: pd.DataFrame) -> TestSet:
    truth = truth_of(frame)
    patients = frame["patient_id"].to_numpy(str)
    if study.plan.level == "patient":
        level = by_patient(study.target.kind, truth, scores_of(frame), patients)
        return TestSet(frame, squeeze(level.target), level.patients.astype(str))
    return TestSet(frame, truth if study.segments else squeeze(truth), patients)


def _aligned_scores(study: Study, frame: pd.DataFrame, test: TestSet, run: RunFolder) -> Array:
    same = list(frame["case_id"]) == list(test.frame["case_id"])
    expected = truth_of(test.frame)
    if not same or not np.array_equal(truth_of(frame), expected, equal_nan=study.segments):
        raise RunError(
            f"{run.path} was scored on other test cases than the runs before it. "
            "Delete that folder and start the same command again."
        )
    scores = scores_of(frame)
    if study.plan.level == "patient":
        truth, patients = truth_of(frame), frame["patient_id"].to_numpy(str)
        scores = by_patient(study.target.kind, truth, scores, patients).scores
    return squeeze(scores)


def _run_row(arm: Arm, seed: int, run: RunFolder, folder: Path) -> Json:
    row: Json = {
        "id": run.path.name,
        "start": arm.start.name,
        "model": arm.model.name,
        "train_size": arm.train_size,
        "train_cases": None,
        "seed": seed,
        "status": "failed",
        "flags": ["failed"],
        "learning_rate": None,
        "metrics": {},
        "metrics_patient": {},
        "steps": None,
        "best_step": None,
        "train_seconds": None,
        "data_wait_fraction": None,
        "peak_memory_mib": None,
        "folder": str(run.path.relative_to(folder)),
        "batchnorm": {},
        "error": None,
    }
    if not run.finished:
        failure = run.path / "failure.json"
        row["error"] = read_json(failure)["error"] if failure.is_file() else "not finished"
        return row
    result = run.result()
    fit = result["fit"]
    tables = result["metrics"]["test"]
    seconds = fit["seconds"]
    return row | {
        "train_cases": result["train_cases"],
        "status": result["status"],
        "flags": result["flags"],
        "learning_rate": fit["learning_rate"] if arm.searches else None,
        "strength": fit["strength"],
        "metrics": {name: value["value"] for name, value in tables["case"].items()},
        "metrics_patient": {
            name: value["value"] for name, value in tables.get("patient", {}).items()
        },
        "undefined": {
            name: value["reason"] for name, value in tables["case"].items() if value["reason"]
        },
        "steps": fit["steps_done"],
        "best_step": fit["best_step"],
        "validation": fit["best_value"],
        "train_seconds": seconds,
        "data_wait_fraction": fit["waiting_s"] / seconds if seconds else 0.0,
        "peak_memory_mib": fit["peak_memory_mib"],
        "parameters": fit["parameters"],
        "trainable_parameters": fit["trainable_parameters"],
        "batchnorm": fit["batchnorm"],
    }
