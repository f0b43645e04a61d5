"""All classes of one case's label maps: a row a class."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer
from numpy.typing import NDArray
from scipy import ndimage

from voxgraft.errors import MetricError, raise_faults
from voxgraft.files import atomic_path
from voxgraft.metrics.segmentation.absence import SCORES
from voxgraft.metrics.segmentation.elements import Convention, check_convention
from voxgraft.metrics.segmentation.masks import (
    Box,
    MaskScores,
    check_arrays,
    check_tolerance,
    checked_spacing,
    make_scores,
    score_in_box,
)
from voxgraft.types import Spacing3

Record = dict[str, str | float | int]
"""A line of a CSV file: an undefined number is an empty cell."""


@dataclass(frozen=True)
class ClassRow:
    """The scores of one class in one case.

    Attributes:
        case_id: The case; empty if none was given.
        class_name: The class.
        scores: Its numbers, undefined ones with their reason.
        tolerance_mm: Tolerance of the surface Dice.
        convention: How surfaces were counted.
    """

    case_id: str
    class_name: str
    scores: MaskScores
    tolerance_mm: float
    convention: Convention

    def to_record(self) -> Record:
        """Return the row as a line of a CSV file."""
        numbers = {name: as_cell(self.scores[name]) for name in SCORES}
        return {
            "case_id": self.case_id,
            "class": self.class_name,
            "presence": self.scores.presence,
            **numbers,
            "tolerance_mm": self.tolerance_mm,
            "convention": self.convention,
            "reason": "; ".join(dict.fromkeys(self.scores.reasons.values())),
        }


def as_cell(value: float) -> str | float:
    """Return a number as a cell: empty if it is NaN."""
    return "" if np.isnan(value) else value


def score_case(
    prediction: Integer[np.ndarray, "d h w"],
    reference: Integer[np.ndarray, "d h w"],
    classes: Mapping[str, int],
    spacing_mm: Spacing3,
    annotated: Collection[str] | None,
    tolerance_mm: float | Mapping[str, float],
    *,
    convention: Convention = "area",
    case_id: str = "",
) -> list[ClassRow]:
    """Score every class of a predicted label map.

    One pass over each map finds the classes' boxes; each class is then scored in the box around
    both its masks. Indices that ``classes`` does not name count as background.

    Args:
        prediction: A class index for each voxel.
        reference: The same, of the same shape.
        classes: Index of each class, above 0; both maps use the same ones.
        spacing_mm: Spacing of the voxels.
        annotated: Names of the classes that were annotated in this case; all if None. The others
            are unknown here: their row has no number.
        tolerance_mm: Tolerance of the surface Dice, or one for each class.
        convention: How surfaces are counted; see :func:`score_masks`.
        case_id: Goes into the rows.

    Returns:
        A row a class, in the order of ``classes``.

    Raises:
        MetricError: If the arrays do not fit (see :func:`score_masks`), an index is not above 0 or
            stands for two classes, a name of ``annotated`` is no class, or a class has no
            tolerance.
    """
    spacing = checked_spacing(spacing_mm)
    check_convention(convention)
    check_arrays(prediction, reference)
    _check_classes(classes, annotated)
    tolerances = _tolerances(classes, tolerance_mm)
    predicted_boxes, true_boxes = _boxes(prediction, classes), _boxes(reference, classes)
    rows = []
    for name, index in classes.items():
        if annotated is not None and name not in annotated:
            scores = make_scores("unknown")
        else:
            box = _union(predicted_boxes.get(index), true_boxes.get(index))
            predicted, true = _inside(prediction[box], index), _inside(reference[box], index)
            scores = score_in_box(predicted, true, spacing, tolerances[name], convention)
        rows.append(ClassRow(case_id, name, scores, tolerances[name], convention))
    return rows


def _inside(labels: NDArray[np.integer], index: int) -> Bool[np.ndarray, "d h w"]:
    inside: Bool[np.ndarray, "d h w"] = labels == index
    return inside


def _boxes(labels: NDArray[np.integer], classes: Mapping[str, int]) -> dict[int, Box]:
    """Return the box of each index that occurs, in one pass."""
    if not classes or not labels.size:
        return {}
    whole = labels.view(np.uint8) if labels.dtype == np.bool_ else labels
    found = ndimage.find_objects(whole, max_label=max(classes.values()))
    return {
        index: (box[0], box[1], box[2])
        for index, box in enumerate(found, start=1)
        if box is not None
    }


def _union(one: Box | None, other: Box | None) -> Box:
    if one is None or other is None:
        return one or other or (slice(0, 0),) * 3
    low, middle, high = (
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    return low, middle, high


def _check_classes(classes: Mapping[str, int], annotated: Collection[str] | None) -> None:
    faults: list[str] = []
    names: dict[int, str] = {}
    for name, index in classes.items():
        if isinstance(index, bool) or not isinstance(index, int | np.integer) or index < 1:
            faults.append(f"class {name!r} has index {index!r}; expected an integer above 0")
        elif index in names:
            faults.append(f"index {index} stands for {names[index]!r} and for {name!r}")
        else:
            names[index] = name
    if annotated is not None:
        if isinstance(annotated, str):
            faults.append(f"annotated is the text {annotated!r}; expected a set of names")
        else:
            strangers = sorted(set(annotated) - set(classes))
            faults += [f"annotated names {name!r}, which is no class" for name in strangers]
    if faults:
        raise_faults(
            MetricError,
            "The classes make no sense",
            faults,
            "Give each class that is scored one index of the label maps; 0 is the background.",
        )


def _tolerances(
    classes: Mapping[str, int], tolerance_mm: float | Mapping[str, float]
) -> dict[str, float]:
    if not isinstance(tolerance_mm, Mapping):
        check_tolerance(tolerance_mm)
        return dict.fromkeys(classes, float(tolerance_mm))
    missing = [name for name in classes if name not in tolerance_mm]
    if missing:
        raise MetricError(
            f"tolerance_mm has no entry for {', '.join(missing)}; give one for each class, "
            "or one number for all."
        )
    for name in classes:
        check_tolerance(tolerance_mm[name], f" of {name}")
    return {name: float(tolerance_mm[name]) for name in classes}


def write_records(records: Iterable[Record], path: Path) -> None:
    """Write records of rows or summaries as a CSV file, atomically.

    Raises:
        MetricError: If there is none.
    """
    listed = list(records)
    if not listed:
        raise MetricError(f"there is no row to write into {path}; score a case first.")
    with atomic_path(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(listed[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(listed)
