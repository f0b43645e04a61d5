"""Lesions found and missed: components of a prediction matched with those of a reference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy.optimize import linear_sum_assignment

from voxgraft.errors import MetricError, raise_faults
from voxgraft.metrics.segmentation.components import Connectivity, label_components
from voxgraft.metrics.segmentation.masks import box_of, check_arrays, checked_spacing
from voxgraft.types import Spacing3

Matching = Literal["any", "iou"]
"""What counts as found: one shared voxel, or an IoU of at least a threshold, one to one."""


@dataclass(frozen=True)
class LesionRules:
    """When a lesion counts as found.

    Attributes:
        matching: ``"any"``: a lesion is found if a predicted component shares a voxel with it, and
            a component may find several. ``"iou"``: components and lesions are paired one to one,
            as many as possible, among pairs of at least ``min_iou``.
        min_iou: Threshold of ``"iou"``, in (0, 1].
        connectivity: 6, 18 or 26: which neighbors join voxels to one lesion.
        min_volume_mm3: Smaller predicted components are removed. Smaller lesions of the reference
            are ignored: neither to be found, nor is it a false alarm to mark one.
    """

    matching: Matching = "any"
    min_iou: float = 0.1
    connectivity: Connectivity = 26
    min_volume_mm3: float = 0.0

    def __post_init__(self) -> None:
        faults = []
        if self.matching not in get_args(Matching):
            faults.append(f"matching is {self.matching!r}; expected 'any' or 'iou'")
        if not 0 < self.min_iou <= 1:
            faults.append(f"min_iou is {self.min_iou!r}; expected more than 0, at most 1")
        if self.connectivity not in get_args(Connectivity):
            faults.append(f"connectivity is {self.connectivity!r}; expected 6, 18 or 26")
        if not 0 <= self.min_volume_mm3 < float("inf"):
            faults.append(f"min_volume_mm3 is {self.min_volume_mm3!r}; expected at least 0")
        if faults:
            raise_faults(MetricError, "These lesion rules make no sense", faults, "Mend them.")


@dataclass(frozen=True)
class LesionCounts:
    """Lesions of one scan, or of several together (counts add up).

    Attributes:
        scans: How many scans.
        lesions: Lesions of the reference.
        found: Those of them that were found.
        predicted: Predicted components, without those that only mark ignored lesions.
        false_positives: Those of them that match no lesion.
        ignored: Lesions of the reference below the smallest size.
        largest_predicted_mm3: Volume of the largest predicted component that was not removed; 0
            without one.
    """

    scans: int
    lesions: int
    found: int
    predicted: int
    false_positives: int
    ignored: int
    largest_predicted_mm3: float = 0.0

    @property
    def sensitivity(self) -> float:
        """Share of lesions that were found; NaN without a lesion."""
        return self.found / self.lesions if self.lesions else float("nan")

    @property
    def precision(self) -> float:
        """Share of predicted components that match a lesion; NaN without a component."""
        true = self.predicted - self.false_positives
        return true / self.predicted if self.predicted else float("nan")

    @property
    def false_positives_per_scan(self) -> float:
        """Predicted components that match no lesion, a scan; NaN without a scan."""
        return self.false_positives / self.scans if self.scans else float("nan")

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and precision.

        0 if one of them is 0 or undefined; NaN if there is neither lesion nor component.
        """
        if not self.lesions and not self.predicted:
            return float("nan")
        if not self.found:
            return 0.0
        return 2 * self.sensitivity * self.precision / (self.sensitivity + self.precision)


def count_lesions(
    prediction: Shaped[np.ndarray, "d h w"],
    reference: Shaped[np.ndarray, "d h w"],
    spacing_mm: Spacing3,
    rules: LesionRules | None = None,
) -> LesionCounts:
    """Match the lesions of one scan.

    Args:
        prediction: Booleans, or integers of which all but 0 are inside.
        reference: The same, of the same shape.
        spacing_mm: Spacing of the voxels.
        rules: What counts as found; any overlap, 26-connected, any size, if None.

    Raises:
        MetricError: If shapes differ, a dtype is not boolean or integer, or the spacing makes no
            sense.
    """
    chosen = rules or LesionRules()
    spacing = checked_spacing(spacing_mm)
    check_arrays(prediction, reference)
    marked, real = prediction != 0, reference != 0
    box = box_of(marked | real)
    predicted, predicted_voxels = label_components(marked[box], chosen.connectivity)
    true, true_voxels = label_components(real[box], chosen.connectivity)
    voxel_mm3 = float(np.prod(spacing))
    smallest = chosen.min_volume_mm3 / voxel_mm3 - 1e-9
    kept, counted = predicted_voxels >= smallest, true_voxels >= smallest
    pairs, shared = _overlaps(predicted, true)
    if chosen.matching == "iou":
        union = predicted_voxels[pairs[:, 0]] + true_voxels[pairs[:, 1]] - shared
        iou = shared / union
    else:
        iou = np.ones(len(pairs))
    meets = kept[pairs[:, 0]] & (iou >= (chosen.min_iou if chosen.matching == "iou" else 0.0))
    on_counted = meets & counted[pairs[:, 1]]
    matched = pairs[on_counted]
    if chosen.matching == "iou":
        matched = _one_to_one(matched, iou[on_counted])
    true_alarm = _marked(matched[:, 0], len(kept))
    excused = _marked(pairs[meets & ~counted[pairs[:, 1]], 0], len(kept)) & ~true_alarm
    judged = kept & ~excused
    return LesionCounts(
        scans=1,
        lesions=int(counted.sum()),
        found=len(np.unique(matched[:, 1])),
        predicted=int(judged.sum()),
        false_positives=int((judged & ~true_alarm).sum()),
        ignored=int((~counted).sum()),
        largest_predicted_mm3=float(predicted_voxels[kept].max(initial=0)) * voxel_mm3,
    )


def pool_lesions(counts: Iterable[LesionCounts]) -> LesionCounts:
    """Add the counts of scans: sensitivity is then per lesion, over all scans."""
    listed = list(counts)
    return LesionCounts(
        scans=sum(one.scans for one in listed),
        lesions=sum(one.lesions for one in listed),
        found=sum(one.found for one in listed),
        predicted=sum(one.predicted for one in listed),
        false_positives=sum(one.false_positives for one in listed),
        ignored=sum(one.ignored for one in listed),
        largest_predicted_mm3=max((one.largest_predicted_mm3 for one in listed), default=0.0),
    )


def _overlaps(
    predicted: Int[np.ndarray, "d h w"], true: Int[np.ndarray, "d h w"]
) -> tuple[Int[np.ndarray, "pairs 2"], Int[np.ndarray, " pairs"]]:
    """Return the pairs (predicted, true) of components that overlap, from 0, and by how much."""
    both = (predicted > 0) & (true > 0)
    stacked = np.stack([predicted[both], true[both]], axis=1)
    pairs, shared = np.unique(stacked, axis=0, return_counts=True)
    return pairs.astype(np.int64) - 1, shared.astype(np.int64)


def _one_to_one(
    pairs: Int[np.ndarray, "pairs 2"], iou: Float[np.ndarray, " pairs"]
) -> Int[np.ndarray, "kept 2"]:
    """Pair as many as possible, and of such pairings the one with the highest IoU in sum."""
    if not len(pairs):
        return pairs
    rows, row = np.unique(pairs[:, 0], return_inverse=True)
    columns, column = np.unique(pairs[:, 1], return_inverse=True)
    gain = np.zeros((len(rows), len(columns)))
    gain[row, column] = 1 + iou / (min(gain.shape) + 1)
    chosen_row, chosen_column = linear_sum_assignment(gain, maximize=True)
    real = gain[chosen_row, chosen_column] > 0
    return np.stack([rows[chosen_row[real]], columns[chosen_column[real]]], axis=1)


def _marked(places: Int[np.ndarray, " n"], length: int) -> Bool[np.ndarray, " length"]:
    marks = np.zeros(length, np.bool_)
    marks[places] = True
    return marks
