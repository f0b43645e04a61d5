"""Numbers on labelled cases: a trained run on other data, other sites."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from voxgraft.datasets import Table
from voxgraft.errors import MetricError, StatisticsError, TableError, VoxgraftError, raise_faults
from voxgraft.inference.predict import check_predicts_scans, score_image
from voxgraft.metrics import METRICS
from voxgraft.runs import TrainedRun, score_frame, scores_of, squeeze, truth_of
from voxgraft.statistics import performance_interval
from voxgraft.transforms import preprocess
from voxgraft.volumes import read_volume


@dataclass(frozen=True)
class Evaluation:
    """What a run reaches on a table."""

    predictions: pd.DataFrame
    """One row a case, as in a run's ``predictions.parquet``."""
    metrics: pd.DataFrame
    """``site, level, metric, value, low, high, n_cases, n_patients, reason``; site ``all`` is
    the whole table, without refitting anything."""


def evaluate(
    run: TrainedRun, table: Table, *, on_case: Callable[[str], None] | None = None
) -> Evaluation:
    """Score a run on the labelled cases of a table, as a whole and by ``site``.

    Args:
        run: A trained run.
        table: Cases with the run's target columns. All its rows are scored, whatever their split.
        on_case: Told of each finished case.

    Raises:
        TableError: If targets are missing or outside the classes, or scans cannot be read; all
            faults are named.
    """
    check_predicts_scans(run)
    target = run.recipe.target
    missing = [name for name in target.columns if name not in table.frame]
    if missing:
        raise TableError(
            f"{table.path} has no column {', '.join(map(repr, missing))}; the run in {run.folder} "
            "was trained for it. Add it, or use `voxgraft predict` on unlabelled scans."
        )
    truth = target.encode(table.frame)
    faults: list[str] = []
    scores = []
    for case_id in table.frame["case_id"]:
        try:
            volume = preprocess(read_volume(table.image_path(case_id)), run.recipe.preprocessing)
        except VoxgraftError as error:
            faults.append(f"{case_id}: {error}")
            continue
        scores.append(score_image(run, volume.voxels))
        if on_case is not None:
            on_case(case_id)
    if faults:
        raise_faults(
            TableError, f"{table.path} cannot be evaluated", faults, "Mend or leave out those rows."
        )
    columns = ["case_id", "patient_id", *(c for c in ("site", "split") if c in table.frame)]
    frame = table.frame[columns].reset_index(drop=True).copy()
    for column in range(truth.shape[1]):
        frame[f"target_{column}"] = truth[:, column]
    stacked = np.stack(scores)
    for column in range(stacked.shape[1]):
        frame[f"score_{column}"] = stacked[:, column]
    parts = [("all", frame)]
    if "site" in frame and frame["site"].nunique() > 1:
        parts += [(str(site), part) for site, part in frame.groupby("site", sort=True)]
    rows = [row for site, part in parts for row in _rows(run, site, part)]
    return Evaluation(predictions=frame, metrics=pd.DataFrame(rows))


def _rows(run: TrainedRun, site: str, frame: pd.DataFrame) -> list[dict[str, object]]:
    kind = run.recipe.target.kind
    truth, scores = squeeze(truth_of(frame)), squeeze(scores_of(frame))
    patients = frame["patient_id"].to_numpy(str)
    rows: list[dict[str, object]] = []
    for level, table in score_frame(run.recipe.target, frame).items():
        for name, scored in table.items():
            row: dict[str, object] = {
                "site": site,
                "level": level,
                "metric": name,
                "value": scored.value,
                "low": np.nan,
                "high": np.nan,
                "n_cases": len(frame),
                "n_patients": frame["patient_id"].nunique(),
                "reason": scored.reason or scored.note,
            }
            if level == "case" and not scored.reason:
                try:
                    interval = performance_interval(
                        METRICS[name].function(kind),
                        truth,
                        scores[None],
                        patients,
                        bounds=METRICS[name].bounds,
                    )
                except (StatisticsError, MetricError) as error:
                    row["reason"] = f"no interval: {error}"
                else:
                    row |= {"low": interval.low, "high": interval.high}
            rows.append(row)
    return rows
