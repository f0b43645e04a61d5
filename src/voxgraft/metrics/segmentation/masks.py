"""The numbers of one class in one case, from two masks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Shaped

from voxgraft.errors import MetricError, raise_faults
from voxgraft.metrics.segmentation.absence import SCORES, Presence, presence_of, undefined_scores
from voxgraft.metrics.segmentation.elements import Convention, check_convention
from voxgraft.metrics.segmentation.surfaces import surface_distances
from voxgraft.types import Spacing3

MM3_PER_ML = 1000.0

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class MaskScores:
    """The scores of two masks.

    Attributes:
        presence: Which of them is empty; see :mod:`voxgraft.metrics.segmentation.absence`.
        values: Every name of ``SCORES``; NaN where undefined. ``dice``, ``iou``, ``precision``,
            ``recall`` and ``surface_dice`` are shares; names in ``_mm`` and ``_ml`` say their unit.
            ``volume_error_ml`` is predicted minus reference, ``relative_volume_error`` that by the
            reference.
        reasons: Why, for each undefined one.
    """

    presence: Presence
    values: Mapping[str, float]
    reasons: Mapping[str, str]

    def __getitem__(self, name: str) -> float:
        """Return a score by its name.

        Raises:
            MetricError: If there is none of that name.
        """
        if name not in self.values:
            raise MetricError(f"no score is called {name!r}; there are {', '.join(SCORES)}.")
        return self.values[name]


def make_scores(presence: Presence, values: dict[str, float] | None = None) -> MaskScores:
    """Return scores of which all are NaN that are not given."""
    every = dict.fromkeys(SCORES, float("nan")) | (values or {})
    return MaskScores(presence, every, undefined_scores(presence))


def score_masks(
    prediction: Shaped[np.ndarray, "d h w"],
    reference: Shaped[np.ndarray, "d h w"],
    spacing_mm: Spacing3,
    *,
    tolerance_mm: float,
    convention: Convention = "area",
) -> MaskScores:
    """Score a predicted mask against a reference.

    Args:
        prediction: Booleans, or integers of which all but 0 are inside.
        reference: The same, of the same shape.
        spacing_mm: Spacing of the voxels.
        tolerance_mm: How far the surfaces may lie apart for the surface Dice.
        convention: How surfaces are counted. ``"area"`` (the default) gives the numbers of
            ``surface-distance``: an element counts with its mm², so thick slices and staircases do
            not change what a surface weighs. ``"voxel"`` gives MONAI's, for a table that was made
            with it. Distances and surface Dice of the two cannot stand in one column.

    Returns:
        Its scores, undefined ones with their reason.

    Raises:
        MetricError: If shapes differ or are not 3D, a dtype is not boolean or integer, the spacing
            or the tolerance makes no sense, or the convention is unknown.
    """
    spacing = checked_spacing(spacing_mm)
    check_tolerance(tolerance_mm)
    check_convention(convention)
    check_arrays(prediction, reference)
    predicted, true = prediction != 0, reference != 0
    box = box_of(predicted | true)
    return score_in_box(predicted[box], true[box], spacing, tolerance_mm, convention)


def score_in_box(
    prediction: Bool[np.ndarray, "d h w"],
    reference: Bool[np.ndarray, "d h w"],
    spacing_mm: Spacing3,
    tolerance_mm: float,
    convention: Convention,
) -> MaskScores:
    """Score checked masks that were cropped so that no voxel of either lies outside."""
    predicted, true = int(np.count_nonzero(prediction)), int(np.count_nonzero(reference))
    shared = int(np.count_nonzero(prediction & reference))
    presence = presence_of(in_reference=true > 0, in_prediction=predicted > 0)
    ml = float(np.prod(spacing_mm)) / MM3_PER_ML
    values = {"reference_ml": true * ml, "predicted_ml": predicted * ml}
    if presence == "neither":
        return make_scores(presence, values)
    values |= {
        "dice": 2 * shared / (predicted + true),
        "iou": shared / (predicted + true - shared),
        "volume_error_ml": (predicted - true) * ml,
        "surface_dice": 0.0,
    }
    if predicted:
        values["precision"] = shared / predicted
    if true:
        values["recall"] = shared / true
        values["relative_volume_error"] = (predicted - true) / true
    if presence == "both":
        apart = surface_distances(prediction, reference, spacing_mm, convention)
        values |= {
            "surface_dice": apart.surface_dice(tolerance_mm),
            "hausdorff95_mm": apart.hausdorff_mm(95.0),
            "hausdorff_mm": apart.hausdorff_mm(),
            "assd_mm": apart.average_mm(),
        }
    return make_scores(presence, values)


def box_of(mask: Bool[np.ndarray, "d h w"]) -> Box:
    """Return the smallest box around a mask; an empty one for an empty mask."""
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(mask.any(axis=others))
        sides.append(slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0))
    return sides[0], sides[1], sides[2]


def checked_spacing(spacing_mm: Spacing3) -> Spacing3:
    """Return a spacing as three floats.

    Raises:
        MetricError: If it is not three finite numbers above 0.
    """
    try:
        numbers = [float(number) for number in spacing_mm]
    except (TypeError, ValueError) as error:
        raise MetricError(
            f"spacing_mm is {spacing_mm!r}; expected three numbers (depth, height, width) in mm."
        ) from error
    if len(numbers) != 3 or not all(np.isfinite(number) and number > 0 for number in numbers):
        raise MetricError(
            f"spacing_mm is {spacing_mm!r}; expected three finite numbers above 0, "
            "(depth, height, width) in mm."
        )
    return numbers[0], numbers[1], numbers[2]


def check_tolerance(tolerance_mm: float, where: str = "") -> None:
    """Refuse a tolerance that is no finite number of at least 0."""
    if not (isinstance(tolerance_mm, int | float) and 0 <= tolerance_mm < float("inf")):
        raise MetricError(
            f"tolerance_mm{where} is {tolerance_mm!r}; expected a finite number of mm, at least 0."
        )


def check_arrays(prediction: object, reference: object) -> None:
    """Refuse arrays that are not a pair of 3D masks or label maps.

    Raises:
        MetricError: Naming all faults.
    """
    faults, shapes = [], []
    for name, array in (("prediction", prediction), ("reference", reference)):
        if not isinstance(array, np.ndarray):
            faults.append(f"{name} is a {type(array).__name__}, not a numpy array")
            continue
        shapes.append(array.shape)
        if array.ndim != 3:
            faults.append(f"{name} has shape {array.shape}; expected (depth, height, width)")
        if array.dtype.kind not in "biu":
            faults.append(f"{name} has dtype {array.dtype}; expected booleans or integers")
    if not faults and shapes[0] != shapes[1]:
        faults.append(f"prediction has shape {shapes[0]}, reference {shapes[1]}")
    if faults:
        raise_faults(
            MetricError,
            "These arrays cannot be scored",
            faults,
            "Bring both onto one grid, as integers (decode probabilities first).",
        )
