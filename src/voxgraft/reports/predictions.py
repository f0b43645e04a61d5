"""The predictions of a comparison's runs on the test split, as arrays aligned over seeds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from voxgraft.reports.comparison import Comparison, Run

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Predictions:
    """What the seeds of one start predicted for the same test cases.

    Attributes:
        start: Name of the start.
        model: Name of the model.
        train_size: Training patients.
        seeds: Seeds, in the order of ``scores``.
        target: ``(cases, targets)``.
        scores: ``(seeds, cases, outputs)``.
        patients: How many patients the cases are of.
    """

    start: str
    model: str
    train_size: int
    seeds: tuple[int, ...]
    target: Floats
    scores: Floats
    patients: int

    @property
    def rests_on(self) -> str:
        """Return cases, patients and seeds in words."""
        seeds = len(self.seeds)
        return (
            f"{len(self.target):,} test cases of {self.patients:,} patients, "
            f"{seeds} seed{'' if seeds == 1 else 's'}"
        )


class _Unusable(Exception):  # noqa: N818 - never leaves this file
    """A run's predictions cannot be drawn; the text says why."""


def inside(folder: Path, relative: str) -> Path | None:
    """Return ``folder / relative``, or None if that leaves the folder or is no path at all."""
    if not relative or "\0" in relative:
        return None
    path = (folder / relative).resolve()
    return path if path.is_relative_to(folder.resolve()) else None


def _read_test(folder: Path, run: Run) -> pd.DataFrame:
    path = inside(folder, run.folder)
    if path is None:
        raise _Unusable(f"its folder {run.folder!r} is not inside the comparison's folder")
    path = path / "predictions.parquet"
    if not path.is_file():
        raise _Unusable("predictions.parquet is missing")
    try:
        table = pq.read_table(path)
        table.validate(full=True)
        frame: pd.DataFrame = table.to_pandas()
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise _Unusable(f"predictions.parquet is damaged ({_first_line(error)})") from None
    missing = [name for name in ("case_id", "patient_id", "split") if name not in frame.columns]
    if missing:
        raise _Unusable(f"predictions.parquet has no column {', '.join(missing)}")
    frame = frame[frame["split"] == "test"]
    if frame.empty:
        raise _Unusable("predictions.parquet has no row of the test split")
    if frame["case_id"].duplicated().any():
        raise _Unusable("predictions.parquet names a test case twice")
    return frame.sort_values("case_id", kind="stable")


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:120] if lines else type(error).__name__


def _matrix(frame: pd.DataFrame, stem: str) -> Floats:
    names: list[str] = []
    while f"{stem}_{len(names)}" in frame.columns:
        names.append(f"{stem}_{len(names)}")
    if not names:
        raise _Unusable(f"predictions.parquet has no column {stem}_0")
    try:
        return frame[names].to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        raise _Unusable(f"predictions.parquet has {stem} columns that are not numbers") from None


def _aligned(folder: Path, runs: list[Run], faults: list[str], kind: str) -> Predictions | None:
    target: Floats | None = None
    cases: list[str] = []
    patients = 0
    scores: list[Floats] = []
    seeds: list[int] = []
    for run in runs:
        try:
            frame = _read_test(folder, run)
            own_target, own_scores = _matrix(frame, "target"), _matrix(frame, "score")
            _check(own_target, own_scores, kind)
            if target is None:
                target, cases = own_target, [str(case) for case in frame["case_id"]]
                patients = int(frame["patient_id"].nunique())
            elif [str(case) for case in frame["case_id"]] != cases:
                raise _Unusable("it predicts other test cases than the first seed")
            elif own_target.shape != target.shape or not np.array_equal(own_target, target):
                raise _Unusable("its targets differ from those of the first seed")
            elif own_scores.shape != scores[0].shape:
                raise _Unusable("it has another number of scores than the first seed")
        except _Unusable as error:
            faults.append(f"Run {run.id} is left out of the plots of predictions: {error}.")
            continue
        scores.append(own_scores)
        seeds.append(run.seed)
    if target is None:
        return None
    first = runs[0]
    return Predictions(
        first.start,
        first.model,
        first.train_size,
        tuple(seeds),
        target,
        np.stack(scores),
        patients,
    )


def _check(target: Floats, scores: Floats, kind: str) -> None:
    if not (np.isfinite(target).all() and np.isfinite(scores).all()):
        raise _Unusable("its targets or scores are not all finite")
    if max(np.abs(target).max(), np.abs(scores).max()) > 1e15:
        raise _Unusable("its targets or scores are absurdly large")
    if kind == "regression" or kind == "multilabel":
        if target.shape != scores.shape:
            raise _Unusable(f"it has {target.shape[1]} targets and {scores.shape[1]} scores")
    elif target.shape[1] != 1:
        raise _Unusable(f"it has {target.shape[1]} targets, expected 1 for a {kind} task")
    if kind in ("binary", "multilabel") and not np.isin(target, (0.0, 1.0)).all():
        raise _Unusable("its targets are not all 0 or 1")
    if kind == "binary" and scores.shape[1] != 1:
        raise _Unusable(f"it has {scores.shape[1]} scores, expected 1 for a binary task")
    if kind == "multiclass" and not np.isin(target, np.arange(scores.shape[1])).all():
        raise _Unusable("its targets are not class indices below the number of scores")
    if kind != "regression" and (scores.min() < -1e-6 or scores.max() > 1 + 1e-6):
        raise _Unusable("its scores are not probabilities between 0 and 1")


def test_predictions(
    comparison: Comparison, folder: Path
) -> tuple[dict[str, list[Predictions]], list[str]]:
    """Read the finished runs at each model's largest training size.

    Returns:
        For each model, the predictions of each start that has any; and a sentence for each run
        whose predictions could not be used.
    """
    faults: list[str] = []
    found: dict[str, list[Predictions]] = {}
    for model in comparison.model_names:
        finished = [r for r in comparison.runs if r.model == model and r.status == "finished"]
        if not finished:
            continue
        largest = max(run.train_size for run in finished)
        for start in comparison.start_names:
            runs = [r for r in finished if r.start == start and r.train_size == largest]
            aligned = _aligned(folder, runs, faults, comparison.task.kind) if runs else None
            if aligned is not None:
                found.setdefault(model, []).append(aligned)
    return found, faults
