"""Lesions of one case: which were found, what was invented, and what its patient scores."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool

from voxgraft.datasets import Masks
from voxgraft.errors import InferenceError, raise_faults
from voxgraft.inference.scoring.predicted import Predicted
from voxgraft.metrics.segmentation import (
    PHASE_TUMORS,
    LesionCounts,
    LesionRules,
    PancreasRules,
    clean_masks,
    count_lesions,
    judge_cleaned,
)
from voxgraft.metrics.segmentation.masks import box_of
from voxgraft.types import Json, Spacing3

PatientScore = Literal["volume", "probability"]
"""What ranks patients: the largest predicted lesion in ml, or the highest probability."""
PANCREAS = "pancreatic tumors"
"""What the patients of the pancreas rules are listed under."""
PHASE = "phase"
"""Column of a table that says which tumors the pancreas rules judge a scan for."""


@dataclass(frozen=True)
class LesionQuestion:
    """What is asked about lesions.

    Attributes:
        classes: Structures whose connected components are lesions; of the pancreas rules, the
            tumors that have a smallest size there.
        rules: When a lesion is found; or the rules of the SuPreM study for pancreatic tumors,
            which clean the prediction first.
        patient_score: What ranks patients for the ROC curve. Under the pancreas rules
            ``probability`` is the study's score.

    Raises:
        InferenceError: If there are no classes, or some without a size in the pancreas rules.
    """

    classes: tuple[str, ...]
    rules: LesionRules | PancreasRules = field(default_factory=LesionRules)
    patient_score: PatientScore = "volume"

    def __post_init__(self) -> None:
        faults = [] if self.classes else ["no class is named"]
        twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
        faults += [f"{name} is named twice" for name in twice]
        if self.patient_score not in get_args(PatientScore):
            faults.append(
                f"patient_score is {self.patient_score!r}; expected volume or probability"
            )
        if isinstance(self.rules, PancreasRules):
            faults += [
                f"{name} has no smallest size in the pancreas rules"
                for name in self.classes
                if name not in self.rules.min_voxels
            ]
        if faults:
            raise_faults(InferenceError, "lesions cannot be counted so", faults, "Correct these.")

    @property
    def needed(self) -> tuple[str, ...]:
        """Structures that must be predicted."""
        if isinstance(self.rules, PancreasRules):
            return (self.rules.pancreas, *self.rules.min_voxels)
        return self.classes

    def check(self, classes: Sequence[str]) -> None:
        """See that all structures that are needed are scored.

        Raises:
            InferenceError: Naming all that are not.
        """
        absent = [name for name in self.needed if name not in classes]
        if absent:
            raise InferenceError(
                f"lesions: {', '.join(absent)} cannot be counted; scored are "
                f"{', '.join(classes)}. Name classes that are both predicted and in the table."
            )

    def describe(self) -> str:
        """Say in words what counts as found."""
        rules = self.rules
        if isinstance(rules, PancreasRules):
            sizes = ", ".join(f"{name} {size}" for name, size in rules.min_voxels.items())
            return (
                f"pancreas rules (Li et al. 2024): of the predicted {rules.pancreas} the largest "
                f"component stays; a tumor component stays with at least so many voxels ({sizes}) "
                f"if it touches the {rules.pancreas} widened by {rules.widened_voxels} voxel(s); "
                f"{rules.connectivity}-connected; a lesion is found if a component that stays "
                "shares a voxel with it"
            )
        found = (
            "a predicted component shares a voxel with it"
            if rules.matching == "any"
            else f"it is paired, one to one, with a component of an IoU of at least {rules.min_iou}"
        )
        small = (
            f"; below {rules.min_volume_mm3:g} mm3, predicted components are removed and drawn "
            "lesions ignored"
            if rules.min_volume_mm3
            else ""
        )
        return f"a lesion is found if {found}; {rules.connectivity}-connected{small}"

    def describe_score(self) -> str:
        """Say in words what ranks patients."""
        if self.patient_score == "volume":
            return "volume of the largest predicted lesion, in ml; of several scans the largest"
        if isinstance(self.rules, PancreasRules):
            return (
                "highest tumor probability in the tumors that stay, or mean tumor probability in "
                "the pancreas; of several scans the highest"
            )
        return "highest probability of the class in the scan; of several scans the highest"

    def to_dict(self) -> Json:
        """Return the question as JSON."""
        kind = "pancreas" if isinstance(self.rules, PancreasRules) else self.rules.matching
        rules = asdict(self.rules) | {"kind": kind}
        if isinstance(self.rules, PancreasRules):
            rules["min_voxels"] = dict(self.rules.min_voxels)
        return {
            "classes": list(self.classes),
            "rules": rules,
            "patient_score": self.patient_score,
            "found": self.describe(),
            "score": self.describe_score(),
        }


def score_lesions(
    question: LesionQuestion,
    predicted: Predicted,
    masks: Masks | None,
    *,
    patient_id: str,
    phase: str = "",
) -> tuple[list[Json], list[Json]]:
    """Count the lesions of a case, and judge it for its patient.

    Classes that the case does not annotate give nothing. A case whose only drawn lesions are
    ignored ones is neither positive nor negative, and is not judged.

    Args:
        question: What is asked.
        predicted: On the scan's own grid.
        masks: What was drawn; None if no class that is asked for is annotated.
        patient_id: Whose case it is.
        phase: Of the contrast; under the pancreas rules it decides what is judged.

    Returns:
        A record for each class, and one for each thing that patients are judged for.
    """
    if masks is None:
        return [], []
    spacing = predicted.scan.affine.spacing_mm
    if isinstance(question.rules, PancreasRules):
        return _pancreas(question, question.rules, predicted, masks, patient_id, phase)
    counted, judged = [], []
    for name in question.classes:
        if name not in masks.annotated:
            continue
        marked = _predicted_mask(predicted, name, masks)
        counts = count_lesions(marked, _drawn(masks, name), spacing, question.rules)
        counted.append(_record(name, counts))
        if counts.lesions or not counts.ignored:
            probabilities = predicted.probabilities
            judged.append(
                {
                    "judged_for": name,
                    "positive": bool(counts.lesions),
                    "called": counts.largest_predicted_mm3 > 0,
                    "score": probabilities.highest(name)
                    if probabilities is not None
                    else counts.largest_predicted_mm3 / 1000.0,
                }
            )
    return counted, judged


def _pancreas(
    question: LesionQuestion,
    rules: PancreasRules,
    predicted: Predicted,
    masks: Masks,
    patient_id: str,
    phase: str,
) -> tuple[list[Json], list[Json]]:
    spacing: Spacing3 = predicted.scan.affine.spacing_mm
    raw = {name: _predicted_mask(predicted, name, masks) for name in question.needed}
    cleaned = clean_masks(raw, rules)
    own = LesionRules(connectivity=rules.connectivity)
    annotated = [name for name in question.classes if name in masks.annotated]
    drawn = {name: _drawn(masks, name) for name in annotated}
    counted = [
        _record(name, count_lesions(cleaned[name], drawn[name], spacing, own)) for name in annotated
    ]
    asked = PHASE_TUMORS.get(phase.strip().lower(), question.classes)
    judged = [name for name in question.classes if name in asked]
    positive = any(bool(drawn[name].any()) for name in judged if name in drawn)
    if not judged or not (positive or set(judged) <= set(annotated)):
        return counted, []
    probabilities, part = None, cleaned
    if predicted.probabilities is not None:
        box = box_of(functools.reduce(np.logical_or, raw.values()))
        part = {name: mask[box] for name, mask in cleaned.items()}
        probabilities = {
            name: predicted.probabilities.in_box(name, box, predicted.scan.affine)
            for name in judged
        }
    scan = judge_cleaned(
        part,
        probabilities,
        tumor=positive,
        patient_id=patient_id,
        judged=judged,
        rules=rules,
        voxel_ml=predicted.scan.voxel_ml,
    )
    record = {
        "judged_for": PANCREAS,
        "positive": scan.tumor,
        "called": scan.called,
        "score": scan.score,
    }
    return counted, [record]


def _record(name: str, counts: LesionCounts) -> Json:
    return {
        "class": name,
        "lesions": counts.lesions,
        "found": counts.found,
        "predicted": counts.predicted,
        "false_positives": counts.false_positives,
        "ignored": counts.ignored,
        "largest_predicted_ml": counts.largest_predicted_mm3 / 1000.0,
    }


def _predicted_mask(predicted: Predicted, name: str, masks: Masks) -> Bool[np.ndarray, "d h w"]:
    mask = predicted.scan.mask(predicted.scan.classes.index(name))
    return mask if masks.ignored is None else mask & ~masks.ignored


def _drawn(masks: Masks, name: str) -> Bool[np.ndarray, "d h w"]:
    mask = masks.mask(name)
    return mask if masks.ignored is None else mask & ~masks.ignored
