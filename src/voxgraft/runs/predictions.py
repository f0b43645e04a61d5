"""The columns of ``predictions.parquet``, and the scoring of such a frame."""

from __future__ import annotations

import numpy as np
import pandas as pd
from jaxtyping import Float

from voxgraft.datasets import Target
from voxgraft.metrics import Scored, by_patient, score_all


def score_columns(frame: pd.DataFrame) -> list[str]:
    """Return the names ``score_0, score_1, …`` of a frame of predictions."""
    return [str(name) for name in frame if str(name).startswith("score_")]


def scores_of(frame: pd.DataFrame) -> Float[np.ndarray, "n k"]:
    """Return the scores of a frame of predictions, as tasks decode them."""
    return frame[score_columns(frame)].to_numpy(np.float64)


def truth_of(frame: pd.DataFrame) -> Float[np.ndarray, "n k"]:
    """Return the encoded targets of a frame of predictions."""
    names = [str(name) for name in frame if str(name).startswith("target_")]
    return frame[names].to_numpy(np.float64)


def squeeze(values: Float[np.ndarray, "*n k"]) -> Float[np.ndarray, "*m"]:
    """Drop the last axis where it has one column, as metrics want it."""
    return values[..., 0] if values.shape[-1] == 1 else values


def score_frame(target: Target, frame: pd.DataFrame) -> dict[str, dict[str, Scored]]:
    """Score a frame of predictions, per case and per patient.

    Args:
        target: What was predicted.
        frame: ``patient_id``, ``target_*`` and ``score_*`` columns.

    Returns:
        ``{"case": ..., "patient": ...}``. ``patient`` is left out for a multi-class target where
        a patient has cases of several classes.
    """
    truth, scores = truth_of(frame), scores_of(frame)
    scored = {"case": score_all(target.kind, truth, scores)}
    classes = frame.groupby("patient_id")["target_0"].nunique()
    if target.kind != "multiclass" or bool((classes == 1).all()):
        level = by_patient(target.kind, truth, scores, frame["patient_id"].to_numpy(str))
        scored["patient"] = score_all(target.kind, level.target, level.scores)
    return scored
