"""Test cases of a segmentation as slices: what was drawn and what each start found there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Shaped, UInt8

from voxgraft.comparison.evidence import ArmEvidence, Evidence
from voxgraft.comparison.matrix import Study, run_id
from voxgraft.datasets import Table, read_masks
from voxgraft.errors import RunError, VoxgraftError
from voxgraft.files import atomic_path
from voxgraft.runs.slices import SLICES_FILE, SegmentedSlice, chosen_slice, read_slices
from voxgraft.training.progress import finite
from voxgraft.transforms import Preprocessing, Window
from voxgraft.types import Json
from voxgraft.volumes import Affine, read_volume

MOST_RUNS = 6
"""More starts (and networks) than these are not drawn."""

MOST_STRUCTURES = 8
"""Of more structures in a slice, those with the most voxels in the reference are drawn."""

_Masks = Mapping[str, Bool[np.ndarray, "h w"]]


@dataclass(frozen=True)
class _Drawn:
    """A run whose slices are drawn."""

    start: str
    model: str
    run: str
    seed: int
    slices: dict[str, SegmentedSlice]
    dice: Float[np.ndarray, "n k"]
    """Of each test case and structure in this run; NaN where undefined."""


def contour_rows(study: Study, evidence: Evidence, table: Table, folder: Path) -> Json | None:
    """Save three test cases of the largest size as ``examples/contours<n>.npz``; return their rows.

    Cases are ordered by Dice: its mean over the structures of the case, the starts and the seeds.
    The best, the middle and the worst are saved, with what the first usable run of each start
    found there. The slice is the one that runs keep: see :mod:`voxgraft.runs.slices`.

    Args:
        study: The study.
        evidence: Of its runs.
        table: The cases, with masks.
        folder: The comparison's folder.

    Returns:
        ``train_size, n_cases, runs, cases, found, faults``: a row of ``found`` for each case and
        run. None for other targets, and where no run of the largest size is usable.
    """
    if not study.segments:
        return None
    arms = [
        arm
        for model, start in study.plan.pairs()
        if (arm := evidence.find(model.name, start.name, study.sizes[-1])) is not None
    ]
    if not arms:
        return None
    drawn, faults = _drawn(study, arms[:MOST_RUNS], folder)
    if len(arms) > MOST_RUNS:
        faults.append(f"starts beyond the first {MOST_RUNS} are not drawn: {len(arms) - MOST_RUNS}")
    dice = _case_dice(study, arms)
    cases = [str(case) for case in evidence.test.frame["case_id"]]
    usable = [
        place
        for place, case in enumerate(cases)
        if drawn and np.isfinite(dice[place]) and all(case in own.slices for own in drawn)
    ]
    rows, found = [], []
    for number, (place, why) in enumerate(_chosen(sorted(usable, key=lambda at: -dice[at]))):
        row: Json = {
            "case_id": cases[place],
            "patient_id": str(evidence.test.frame["patient_id"].iloc[place]),
            "why": why,
            "dice": float(dice[place]),
        }
        file = folder / "examples" / f"contours{number}.npz"
        try:
            row |= _save(file, study, evidence, table, place, drawn)
        except VoxgraftError as error:  # the page says it in the picture's place
            row["reason"] = str(error)
        else:
            row["file"] = str(file.relative_to(folder))
            found += [_found(own, study, place, row) for own in drawn]
        rows.append(row)
    return {
        "train_size": study.sizes[-1],
        "n_cases": len(usable),
        "runs": [
            {"start": own.start, "model": own.model, "run": own.run, "seed": own.seed}
            for own in drawn
        ],
        "cases": rows,
        "found": found,
        "faults": faults,
    }


def _drawn(
    study: Study, arms: Sequence[ArmEvidence], folder: Path
) -> tuple[list[_Drawn], list[str]]:
    """Return the first usable run of each arm that kept slices, and what is wrong with others."""
    drawn, faults = [], []
    for arm in arms:
        run = run_id(arm.arm, arm.seeds[0])
        try:
            slices = read_slices(folder / "runs" / run / SLICES_FILE)
        except RunError as error:
            faults.append(str(error))
            continue
        dice = arm.scores[0][:, : len(study.target.classes)]
        drawn.append(
            _Drawn(arm.arm.start.name, arm.arm.model.name, run, arm.seeds[0], slices, dice)
        )
    return drawn, faults


def _case_dice(study: Study, arms: Sequence[ArmEvidence]) -> Float[np.ndarray, " n"]:
    """Return the mean Dice of each case over its structures, the arms and their seeds."""
    count = len(study.target.classes)
    each = [_mean(arm.scores[:, :, :count]).mean(axis=0) for arm in arms]
    found: Float[np.ndarray, " n"] = np.stack(each).mean(axis=0)
    return found


def _mean(values: Float[np.ndarray, "*rows k"]) -> Float[np.ndarray, "*rows"]:
    """Return the mean of what is defined along the last axis; NaN where nothing is."""
    defined = np.isfinite(values)
    number = defined.sum(axis=-1)
    total = np.where(defined, values, 0.0).sum(axis=-1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _chosen(order: Sequence[int]) -> list[tuple[int, str]]:
    """Return the best, the middle and the worst of an order, best first."""
    if len(order) < 3:
        return list(zip(order, ("best", "worst")[: len(order)], strict=True))
    return [(order[0], "best"), (order[(len(order) - 1) // 2], "middle"), (order[-1], "worst")]


def _save(
    file: Path,
    study: Study,
    evidence: Evidence,
    table: Table,
    place: int,
    drawn: Sequence[_Drawn],
) -> Json:
    """Write a case's slice with its masks, and return what it shows."""
    classes, case_id = study.target.classes, str(evidence.test.frame["case_id"].iloc[place])
    known = np.isfinite(evidence.test.target[place])
    masks = read_masks(table, case_id, [classes[k] for k in np.flatnonzero(known)])
    at = chosen_slice(masks)
    kept = [own.slices[case_id] for own in drawn]
    if at is None or any((own.axis, own.index) != at for own in kept):
        raise RunError(
            f"case {case_id!r}: its masks have changed since the runs kept a slice of it. Delete "
            "the runs and train them again to have its picture."
        )
    axis, index = at
    reference = {name: np.take(mask, index, axis) for name, mask in masks.masks()}
    parts: list[_Masks] = [reference, *(own.masks for own in kept)]
    shown, more = _structures(classes, parts)
    voxels = np.take(read_volume(table.image_path(case_id)).voxels[0], index, axis)
    image, window = _gray(voxels, study.plan.preprocessing)
    empty = np.zeros(image.shape, bool)
    stack = np.array([[part.get(name, empty) for name in shown] for part in parts])
    turn = Screen.of(masks.affine, axis)
    with atomic_path(file) as temporary, temporary.open("wb") as handle:
        np.savez_compressed(
            handle,
            image=turn.turned(image),
            masks=turn.turned(stack),
            pixel_mm=np.array(turn.pixel_mm, np.float64),
        )
    return {
        "slice": index + 1,
        "slices": int(masks.layers.shape[1 + axis]),
        "window": window,
        "structures": shown,
        "more_structures": more,
    }


def _found(own: _Drawn, study: Study, place: int, case: Json) -> Json:
    """Return the Dice of a case with one run: its mean, and of the structures that are drawn."""
    classes = study.target.classes
    return {
        "case_id": case["case_id"],
        "start": own.start,
        "model": own.model,
        "dice": finite(float(_mean(own.dice[place]))),
        "structures": [finite(own.dice[place, classes.index(n)]) for n in case["structures"]],
    }


def _structures(classes: Sequence[str], parts: Sequence[_Masks]) -> tuple[list[str], int]:
    """Return which structures are drawn, in the target's order, and how many are left out."""
    found = [name for name in classes if any(name in part and part[name].any() for part in parts)]
    voxels = {name: int(parts[0][name].sum()) if name in parts[0] else 0 for name in found}
    most = sorted(found, key=lambda name: -voxels[name])[:MOST_STRUCTURES]
    return [name for name in found if name in most], len(found) - len(most)


def _gray(
    voxels: Shaped[np.ndarray, "h w"], preprocessing: Preprocessing
) -> tuple[UInt8[np.ndarray, "h w"], str]:
    """Return a slice in gray, in the window of the preprocessing, and that window in words."""
    values = voxels.astype(np.float64)
    if isinstance(preprocessing.intensity, Window):
        low, high = preprocessing.intensity.low, preprocessing.intensity.high
        words = f"gray from {low:g} to {high:g} HU"
    else:
        low, high = (float(value) for value in np.nanpercentile(values, (0.5, 99.5)))
        words = "gray from the 0.5th to the 99.5th percentile of the slice"
    share = np.nan_to_num((values - low) / max(high - low, 1e-12))
    return np.rint(255.0 * share.clip(0.0, 1.0)).astype(np.uint8), words


@dataclass(frozen=True)
class Screen:
    """How a slice of a volume stands on a radiologist's screen: anterior up, right at the left."""

    transpose: bool
    flip_rows: bool
    flip_columns: bool
    pixel_mm: tuple[float, float]
    """Height and width of a pixel."""

    @classmethod
    def of(cls, affine: Affine, axis: int) -> Screen:
        """Return it for slices across an axis."""
        first, second = (other for other in range(3) if other != axis)
        direction = affine.direction
        transpose = bool(abs(direction[0, first]) > abs(direction[0, second]))
        row, column = (second, first) if transpose else (first, second)
        spacing = affine.spacing_mm
        return cls(
            transpose,
            bool(direction[1, row] > 0),  # rows run to posterior
            bool(direction[0, column] > 0),  # columns run from the patient's right to the left
            (spacing[row], spacing[column]),
        )

    def turned(self, planes: Shaped[np.ndarray, "*any h w"]) -> Shaped[np.ndarray, "*any i j"]:
        """Turn planes, whose axes are in the volume's order."""
        planes = np.swapaxes(planes, -1, -2) if self.transpose else planes
        planes = planes[..., ::-1, :] if self.flip_rows else planes
        return np.ascontiguousarray(planes[..., ::-1] if self.flip_columns else planes)
