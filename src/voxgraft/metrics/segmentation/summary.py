"""A class over all cases: mean and median, how many cases they are of, and who was left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from voxgraft.errors import MetricError, raise_faults
from voxgraft.metrics.segmentation.absence import SCORES
from voxgraft.metrics.segmentation.cases import ClassRow, Record, as_cell


@dataclass(frozen=True)
class ClassSummary:
    """One score of one class over cases.

    Attributes:
        class_name: The class.
        score: Name of the score, one of ``SCORES``.
        mean: Over the cases that define it; NaN if none does.
        median: The same.
        n: How many cases define it.
        left_out: How many do not.
        reasons: How many for each reason.
        tolerance_mm: Tolerance of the surface Dice.
        convention: How surfaces were counted.
    """

    class_name: str
    score: str
    mean: float
    median: float
    n: int
    left_out: int
    reasons: Mapping[str, int]
    tolerance_mm: float
    convention: str

    def to_record(self) -> Record:
        """Return the summary as a line of a CSV file."""
        return {
            "class": self.class_name,
            "score": self.score,
            "mean": as_cell(self.mean),
            "median": as_cell(self.median),
            "n": self.n,
            "left_out": self.left_out,
            "reasons": "; ".join(f"{count} {reason}" for reason, count in self.reasons.items()),
            "tolerance_mm": self.tolerance_mm,
            "convention": self.convention,
        }


def summarize(rows: Iterable[ClassRow]) -> list[ClassSummary]:
    """Summarize rows of any number of cases.

    Args:
        rows: Rows of :func:`score_case`, in any order.

    Returns:
        One for each class (in order of appearance) and score.

    Raises:
        MetricError: If a case has a class twice, or rows of one class were scored with different
            tolerances or conventions, whose mean would be of nothing.
    """
    by_class: dict[str, list[ClassRow]] = {}
    for row in rows:
        by_class.setdefault(row.class_name, []).append(row)
    faults = [fault for name, listed in by_class.items() for fault in _faults(name, listed)]
    if faults:
        raise_faults(
            MetricError,
            "These rows cannot be summarized together",
            faults,
            "Score each case once, with the same tolerance and convention.",
        )
    return [_summary(name, listed, score) for name, listed in by_class.items() for score in SCORES]


def _faults(class_name: str, rows: list[ClassRow]) -> list[str]:
    faults = [
        f"class {class_name!r} stands {count} times for case {case_id!r}"
        for case_id, count in Counter(row.case_id for row in rows if row.case_id).items()
        if count > 1
    ]
    for what, found in (
        ("tolerances (mm)", {str(row.tolerance_mm) for row in rows}),
        ("conventions", {row.convention for row in rows}),
    ):
        if len(found) > 1:
            faults.append(f"class {class_name!r} has several {what}: {', '.join(sorted(found))}")
    return faults


def _summary(class_name: str, rows: list[ClassRow], score: str) -> ClassSummary:
    values = np.array([row.scores[score] for row in rows])
    defined = values[~np.isnan(values)]
    reasons = Counter(row.scores.reasons[score] for row in rows if score in row.scores.reasons)
    return ClassSummary(
        class_name,
        score,
        float(defined.mean()) if len(defined) else float("nan"),
        float(np.median(defined)) if len(defined) else float("nan"),
        len(defined),
        len(values) - len(defined),
        dict(reasons),
        rows[0].tolerance_mm,
        rows[0].convention,
    )
