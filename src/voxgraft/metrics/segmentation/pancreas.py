"""Pancreatic tumors by patient, by the rules of the SuPreM study.

A predicted label map is cleaned: of the pancreas only the largest component stays, and a tumor
component stays if it is large enough and touches the pancreas widened by one voxel. A scan is
positive if a tumor stays, a patient if a scan of any phase is.

Source:
    Li et al., ICLR 2024, arXiv 2501.11253; sizes in voxels of the scan, 6-connected, widened once
    by 3x3x3, and the score for the ROC curve, as in the evaluation that the authors released.
    There the venous scan is judged for PDAC and cyst and the arterial one for PNET.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Integer
from scipy import ndimage

from voxgraft.errors import MetricError, raise_faults
from voxgraft.metrics.patients import by_patient
from voxgraft.metrics.segmentation.components import (
    Connectivity,
    label_components,
    largest_component,
)
from voxgraft.metrics.segmentation.masks import box_of
from voxgraft.metrics.table import Scored, score_all

PHASE_TUMORS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"venous": ("pdac", "cyst"), "arterial": ("pnet",)}
)
"""Which tumors a scan of a phase is judged for in the study."""


@dataclass(frozen=True)
class PancreasRules:
    """When a predicted tumor counts; the defaults are the study's.

    Attributes:
        min_voxels: Smallest component of each tumor, by name.
        pancreas: Name of the pancreas among the classes.
        connectivity: Which neighbors join voxels to a component.
        widened_voxels: How often the pancreas is widened by a 3x3x3 block.
    """

    min_voxels: Mapping[str, int] = field(
        default_factory=lambda: {"pdac": 30, "cyst": 40, "pnet": 35}
    )
    pancreas: str = "pancreas"
    connectivity: Connectivity = 6
    widened_voxels: int = 1


@dataclass(frozen=True)
class PancreasScan:
    """What one scan says.

    Attributes:
        patient_id: Whose it is.
        tumor: Whether the reference has a tumor that the scan is judged for.
        called: Whether the prediction, cleaned, has one.
        score: For the ROC curve: a probability, or without probabilities a volume in ml.
    """

    patient_id: str
    tumor: bool
    called: bool
    score: float


def clean_pancreas(
    labels: Integer[np.ndarray, "d h w"],
    classes: Mapping[str, int],
    rules: PancreasRules | None = None,
) -> Integer[np.ndarray, "d h w"]:
    """Remove what cannot be pancreas or its tumor.

    Args:
        labels: A predicted label map.
        classes: Index of the pancreas and of each tumor of the rules.
        rules: The study's if None.

    Returns:
        A copy in which removed voxels, and all other classes, are 0.

    Raises:
        MetricError: If a class of the rules has no index, or ``labels`` is no 3D label map.
    """
    chosen = rules or PancreasRules()
    _check(labels, classes, chosen)
    names = (chosen.pancreas, *chosen.min_voxels)
    masks = clean_masks({name: labels == classes[name] for name in names}, chosen)
    cleaned = np.zeros_like(labels)
    for name, mask in masks.items():
        cleaned[mask] = classes[name]
    return cleaned


def clean_masks(
    masks: Mapping[str, Bool[np.ndarray, "d h w"]], rules: PancreasRules | None = None
) -> dict[str, Bool[np.ndarray, "d h w"]]:
    """Remove what cannot be pancreas or its tumor, from masks that may overlap.

    Args:
        masks: Predicted pancreas and tumors, by name, of one shape.
        rules: The study's if None.

    Returns:
        What stays of the pancreas and of each tumor of the rules.

    Raises:
        MetricError: If a structure of the rules has no mask.
    """
    chosen = rules or PancreasRules()
    names = (chosen.pancreas, *chosen.min_voxels)
    missing = [name for name in names if name not in masks]
    if missing:
        raise MetricError(
            f"there is no mask of {', '.join(map(repr, missing))}; the rules are about "
            f"{', '.join(names)}. Give a mask for each, empty where nothing was predicted."
        )
    shape = masks[chosen.pancreas].shape
    box = box_of(functools.reduce(np.logical_or, [masks[name] for name in names]))
    pancreas = largest_component(masks[chosen.pancreas][box], chosen.connectivity)
    near = pancreas
    if chosen.widened_voxels and pancreas.size:
        near = ndimage.binary_dilation(
            pancreas, np.ones((3, 3, 3), np.bool_), iterations=chosen.widened_voxels
        )
    kept = {chosen.pancreas: pancreas}
    for name, fewest in chosen.min_voxels.items():
        components, voxels = label_components(masks[name][box], chosen.connectivity)
        touching = np.zeros(len(voxels) + 1, np.bool_)
        touching[components[near]] = True
        kept[name] = (np.r_[False, voxels >= fewest] & touching)[components]
    whole = {name: np.zeros(shape, np.bool_) for name in names}
    for name, part in kept.items():
        whole[name][box] = part
    return whole


def judge_scan(
    prediction: Integer[np.ndarray, "d h w"],
    reference: Integer[np.ndarray, "d h w"],
    probabilities: Mapping[str, Float[np.ndarray, "d h w"]],
    classes: Mapping[str, int],
    *,
    patient_id: str,
    judged: Sequence[str] = ("pdac", "cyst", "pnet"),
    rules: PancreasRules | None = None,
) -> PancreasScan:
    """Judge one scan.

    The score is the highest over the voxels of the cleaned map: in a tumor its probability, in the
    pancreas the mean probability of the tumors that are judged. A tumor that is missed by the
    label map can so still rank its patient.

    Args:
        prediction: Predicted label map, before it is cleaned.
        reference: Reference label map, of the same shape.
        probabilities: Of each judged tumor, (depth, height, width), in [0, 1].
        classes: Index of the pancreas and of each tumor.
        patient_id: Whose scan it is.
        judged: Tumors that the scan is judged for, for example ``PHASE_TUMORS["venous"]``.
        rules: The study's if None.

    Raises:
        MetricError: If arrays do not fit, a class has no index or no probability, or a probability
            is outside [0, 1].
    """
    chosen = rules or PancreasRules()
    _check(prediction, classes, chosen)
    _check_judged(prediction, reference, probabilities, judged, chosen)
    names = (chosen.pancreas, *chosen.min_voxels)
    cleaned = clean_masks({name: prediction == classes[name] for name in names}, chosen)
    tumor = bool(np.isin(reference, [classes[name] for name in judged]).any())
    return judge_cleaned(
        cleaned, probabilities, tumor=tumor, patient_id=patient_id, judged=judged, rules=chosen
    )


def judge_cleaned(
    cleaned: Mapping[str, Bool[np.ndarray, "d h w"]],
    probabilities: Mapping[str, Float[np.ndarray, "d h w"]] | None,
    *,
    tumor: bool,
    patient_id: str,
    judged: Sequence[str],
    rules: PancreasRules | None = None,
    voxel_ml: float = 1.0,
) -> PancreasScan:
    """Judge a scan by what stayed of its prediction.

    Args:
        cleaned: As :func:`clean_masks` returns it.
        probabilities: Of each judged tumor, as for :func:`judge_scan`. None for predictions that
            have none: then the score is the volume of the largest component of a judged tumor,
            which the study has not.
        tumor: Whether the reference has a judged tumor.
        patient_id: Whose scan it is.
        judged: Tumors that the scan is judged for.
        rules: The study's if None.
        voxel_ml: Volume of a voxel; only without probabilities.
    """
    chosen = rules or PancreasRules()
    score = 0.0
    for name in judged:
        if probabilities is not None:
            score = max(score, _highest(probabilities[name], cleaned[name]))
            continue
        inside = cleaned[name][box_of(cleaned[name])]
        _, voxels = label_components(inside, chosen.connectivity)
        score = max(score, float(voxels.max(initial=0)) * voxel_ml)
    pancreas = cleaned[chosen.pancreas]
    if probabilities is not None and pancreas.any():
        mean = np.mean([probabilities[name][pancreas] for name in judged], axis=0)
        score = max(score, float(mean.max()))
    called = any(bool(cleaned[name].any()) for name in judged)
    return PancreasScan(patient_id, tumor, called, score)


def score_patients(scans: Sequence[PancreasScan]) -> dict[str, Scored]:
    """Score patients: positive, called and scored by the highest of their scans.

    Returns:
        ``sensitivity`` and ``specificity`` of the calls; ``auroc``, ``auprc``,
        ``sensitivity_at_specificity`` and ``specificity_at_sensitivity`` (at 90%) of the scores;
        NaN with a reason where undefined.
    """
    patients = [scan.patient_id for scan in scans]
    tumor = np.array([scan.tumor for scan in scans], np.float64)
    called = np.array([scan.called for scan in scans], np.float64)
    scores = np.array([scan.score for scan in scans], np.float64)
    ranked = by_patient("binary", tumor, scores, patients, "max")
    decided = by_patient("binary", tumor, called, patients, "max").scores[:, 0] > 0
    positive = ranked.target[:, 0] > 0
    names = ["auroc", "auprc", "sensitivity_at_specificity", "specificity_at_sensitivity"]
    return {
        "sensitivity": _share(decided[positive], "no patient has a tumor"),
        "specificity": _share(~decided[~positive], "every patient has a tumor"),
        **score_all("binary", ranked.target, ranked.scores, names),
    }


def _share(right: Bool[np.ndarray, " n"], reason: str) -> Scored:
    return Scored(float(right.mean())) if len(right) else Scored(float("nan"), reason)


def _highest(probability: Float[np.ndarray, "d h w"], where: Bool[np.ndarray, "d h w"]) -> float:
    return float(probability[where].max(initial=0.0))


def _check(
    labels: Integer[np.ndarray, "d h w"], classes: Mapping[str, int], rules: PancreasRules
) -> None:
    faults = [
        f"class {name!r} has no index in classes"
        for name in (rules.pancreas, *rules.min_voxels)
        if name not in classes
    ]
    if labels.ndim != 3 or labels.dtype.kind not in "iu":
        faults.append(
            f"the label map has shape {labels.shape} and dtype {labels.dtype}; "
            "expected integers of (depth, height, width)"
        )
    if rules.widened_voxels < 0:
        faults.append(f"widened_voxels is {rules.widened_voxels}; expected at least 0")
    if faults:
        raise_faults(MetricError, "The scan cannot be cleaned", faults, "Mend them.")


def _check_judged(
    prediction: Integer[np.ndarray, "d h w"],
    reference: Integer[np.ndarray, "d h w"],
    probabilities: Mapping[str, Float[np.ndarray, "d h w"]],
    judged: Sequence[str],
    rules: PancreasRules,
) -> None:
    faults = [] if judged else ["no tumor is judged"]
    if reference.shape != prediction.shape:
        faults.append(f"reference has shape {reference.shape}, prediction {prediction.shape}")
    for name in judged:
        if name not in rules.min_voxels:
            faults.append(f"tumor {name!r} has no smallest size in the rules")
        elif name not in probabilities:
            faults.append(f"tumor {name!r} has no probabilities")
        elif probabilities[name].shape != prediction.shape:
            faults.append(f"probabilities of {name!r} have shape {probabilities[name].shape}")
        elif not ((probabilities[name] >= 0) & (probabilities[name] <= 1)).all():
            faults.append(f"probabilities of {name!r} are not all in [0, 1]")
    if faults:
        raise_faults(MetricError, "The scan cannot be judged", faults, "Mend them.")
