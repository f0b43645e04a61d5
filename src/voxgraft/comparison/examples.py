"""Example test cases for the report: typical ones and the worst errors, as small volumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from voxgraft.datasets import Target
from voxgraft.files import atomic_path
from voxgraft.runs import scores_of, truth_of
from voxgraft.types import Json
from voxgraft.volumes import Affine

Explain = Callable[
    [Float[np.ndarray, "c d h w"], Affine, pd.Series], tuple[dict[str, np.ndarray], Json]
]
"""From a preprocessed study, its place and its row: arrays to store, and what they show."""

_MOST_VOXELS = 96**3


def case_errors(target: Target, frame: pd.DataFrame) -> Float[np.ndarray, " n"]:
    """Return how wrong each case's score is; 0 is right.

    Args:
        target: What was predicted.
        frame: Predictions with ``target_*`` and ``score_*`` columns.

    Returns:
        For classes 1 minus the probability of the truth (multilabel: its mean over labels); for
        regression the absolute error in the target's unit.
    """
    scores, truth = scores_of(frame), truth_of(frame)
    if target.kind == "multiclass":
        rows = np.arange(len(frame))
        return np.asarray(1.0 - scores[rows, truth[:, 0].astype(int)])
    return np.asarray(np.abs(scores - truth).mean(axis=1))


def choose_examples(
    target: Target, frame: pd.DataFrame, *, typical: int = 3, worst: int = 5
) -> list[tuple[str, str]]:
    """Choose cases to show: (case id, why), the worst errors first.

    Args:
        target: What was predicted.
        frame: Mean predictions of one start on the test split.
        typical: How many cases with the middle error.
        worst: How many with the largest error.
    """
    errors = case_errors(target, frame)
    order = [int(row) for row in np.argsort(-errors, kind="stable")]
    ids = [str(case) for case in frame["case_id"]]
    chosen = [(ids[row], "worst error") for row in order[:worst]]
    rest = order[worst:]
    middle = len(rest) // 2
    first = max(0, middle - typical // 2)
    return chosen + [(ids[row], "typical") for row in rest[first : first + typical]]


def describe_truth(target: Target, row: pd.Series) -> str:
    """Say a case's truth in words: its class, its labels, or its value with the unit."""
    values = [float(row[f"target_{column}"]) for column in range(len(target.columns))]
    if target.kind == "multilabel":
        marked = [name for name, value in zip(target.columns, values, strict=True) if value > 0.5]
        return ", ".join(marked) or "none"
    if target.kind == "regression":
        return f"{values[0]:.4g} {target.unit}".strip()
    return target.classes[int(values[0])]


def write_examples(
    folder: Path,
    target: Target,
    frames: Mapping[str, pd.DataFrame],
    shown: str,
    read_image: Callable[[str], tuple[Float[np.ndarray, "c d h w"], Affine]],
    explain: Explain,
) -> list[Json]:
    """Save example volumes as ``examples/<n>.npz`` and return their rows for the report.

    Args:
        folder: The comparison's folder.
        target: What was predicted.
        frames: Per start, mean predictions on the test split (largest size).
        shown: The start whose errors choose the cases.
        read_image: Gives a case's preprocessed volume and where it lies.
        explain: Gives why a network scores it as it does, see
            :class:`~voxgraft.comparison.explained.Explainer`.
    """
    rows: list[Json] = []
    for number, (case_id, why) in enumerate(choose_examples(target, frames[shown])):
        image, affine = read_image(case_id)
        first = frames[shown]
        row = first[first["case_id"] == case_id].iloc[0]
        arrays, heat = explain(image, affine, row)
        step = max(1, int(np.ceil((image[0].size / _MOST_VOXELS) ** (1 / 3))))
        path = folder / "examples" / f"example{number}.npz"
        with atomic_path(path) as temporary:
            np.savez_compressed(
                temporary,
                image=image[0, ::step, ::step, ::step].astype(np.float32),
                spacing_mm=np.asarray(affine.spacing_mm, dtype=np.float64) * step,
                **arrays,  # type: ignore[arg-type]
            )
        scores = {}
        for start, frame in frames.items():
            found = frame[frame["case_id"] == case_id]
            if not found.empty:
                scores[start] = _told_score(target, found.iloc[0])
        rows.append(
            {
                "case_id": case_id,
                "patient_id": str(row["patient_id"]),
                "file": f"examples/{path.name}",
                "target": describe_truth(target, row),
                "scores": scores,
                "why": why,
                "heat": heat,
            }
        )
    return rows


def _told_score(target: Target, row: pd.Series) -> float:
    """Return the score to show: of the positive class, of the true class, or the prediction."""
    if target.kind == "multiclass":
        return float(row[f"score_{int(row['target_0'])}"])
    return float(row["score_0"])
