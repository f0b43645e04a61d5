"""The ROC curve of patients, point by point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from voxgraft.errors import MetricError
from voxgraft.metrics.contract import check_zero_one, numbers, one_column, same_length
from voxgraft.metrics.segmentation.cases import Record


@dataclass(frozen=True)
class RocPoint:
    """What calling every patient positive whose score is at least a threshold gives.

    Attributes:
        threshold: The lowest score that is called; infinite where none is.
        sensitivity: Share of positive patients that are called; NaN without any.
        specificity: Share of negative patients that are not; NaN without any.
        true_positives: Positive patients that are called.
        false_positives: Negative patients that are called.
    """

    threshold: float
    sensitivity: float
    specificity: float
    true_positives: int
    false_positives: int

    def to_record(self) -> Record:
        """Return the point as a line of a CSV file; no threshold where nobody is called."""
        return {
            "threshold": "" if np.isinf(self.threshold) else self.threshold,
            "sensitivity": "" if np.isnan(self.sensitivity) else self.sensitivity,
            "specificity": "" if np.isnan(self.specificity) else self.specificity,
            "true_positives": self.true_positives,
            "false_positives": self.false_positives,
        }


def roc_points(target: ArrayLike, score: ArrayLike) -> list[RocPoint]:
    """Return every point of the ROC curve, from nobody called to all.

    Args:
        target: ``(n,)`` of 0 and 1, one a patient.
        score: ``(n,)``, higher for positive.

    Returns:
        One point for each different score, and before them that of nobody.

    Raises:
        MetricError: If shapes differ, the target is not 0 and 1, or a score is not finite.
    """
    truth, values = one_column(numbers(target, "target"), "target"), numbers(score, "score")
    values = one_column(values, "score")
    same_length(truth, values)
    check_zero_one(truth)
    if not len(truth):
        raise MetricError("there is no patient, so no ROC curve; give at least one.")
    order = np.argsort(-values, kind="stable")
    ranked, sorted_truth = values[order], truth[order]
    last = np.flatnonzero(np.r_[np.diff(ranked) != 0, True])
    called = np.cumsum(sorted_truth)[last]
    positives, negatives = int(truth.sum()), int((1 - truth).sum())
    points = [(float("inf"), 0, 0)]
    points += [
        (float(ranked[place]), int(hits), int(place + 1 - hits))
        for place, hits in zip(last, called, strict=True)
    ]
    return [
        RocPoint(
            threshold,
            hits / positives if positives else float("nan"),
            1 - false / negatives if negatives else float("nan"),
            hits,
            false,
        )
        for threshold, hits, false in points
    ]
