"""What an evaluation of a segmentation gives, and its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from voxgraft.files import atomic_path, write_json
from voxgraft.types import Json

EMPTY_MASKS = (
    "a class that reference and prediction both lack has no score there; one that is missed, or "
    "invented, has Dice and surface Dice 0 and no distance; one that a case does not annotate is "
    "unknown there and enters nothing"
)
"""The rule for empty masks, in words."""


@dataclass(frozen=True, eq=False)
class SegmentationEvaluation:
    """Scores of segmentations on the scans' own grids.

    Attributes:
        about: What was scored and by which rules, as JSON.
        cases: A row a case and class: ``case_id, patient_id, [site, split,] class, presence`` and
            every score; NaN where undefined, with the reason.
        metrics: Each class and the mean over classes, see :func:`summarize_scores`.
        lesions: A row a case and class with its lesions; empty if none were asked for.
        lesion_metrics: See :func:`summarize_lesions`.
        patients: A row a patient: positive, called, score.
        patient_metrics: See :func:`summarize_patients`.
        roc: Points of the ROC curves.
        notes: What is to be known of it.
        kept: How many cases had been scored before.
    """

    about: Json
    cases: pd.DataFrame = field(repr=False)
    metrics: pd.DataFrame = field(repr=False)
    lesions: pd.DataFrame = field(repr=False)
    lesion_metrics: pd.DataFrame = field(repr=False)
    patients: pd.DataFrame = field(repr=False)
    patient_metrics: pd.DataFrame = field(repr=False)
    roc: pd.DataFrame = field(repr=False)
    notes: tuple[str, ...] = ()
    kept: int = 0

    def to_dict(self) -> Json:
        """Return rules and summaries as JSON; cases stand in the CSV files."""
        found: Json = {**self.about, "notes": list(self.notes), "metrics": _records(self.metrics)}
        if not self.lesion_metrics.empty:
            found["lesions"] = _records(self.lesion_metrics)
        if not self.patient_metrics.empty:
            found["patients"] = _records(self.patient_metrics)
        return found

    def write(self, folder: Path | str) -> list[Path]:
        """Write ``summary.json`` and a CSV file for each table that is not empty.

        Args:
            folder: Made if need be; files of an evaluation before are replaced.

        Returns:
            The files.
        """
        folder = Path(folder)
        tables = {
            "cases": self.cases,
            "metrics": self.metrics,
            "lesions": self.lesions,
            "lesion_metrics": self.lesion_metrics,
            "patients": self.patients,
            "patient_metrics": self.patient_metrics,
            "roc": self.roc,
        }
        written = []
        for name, frame in tables.items():
            path = folder / f"{name}.csv"
            if frame.empty:
                path.unlink(missing_ok=True)
                continue
            with atomic_path(path) as temporary:
                frame.to_csv(temporary, index=False)
            written.append(path)
        write_json(folder / "summary.json", self.to_dict())
        return [*written, folder / "summary.json"]


def _records(frame: pd.DataFrame) -> list[Json]:
    return [
        {str(name): value for name, value in record.items()}
        for record in frame.to_dict(orient="records")
    ]
