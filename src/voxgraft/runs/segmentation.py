"""A segmentation's cases, segmented whole and scored on their own grids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Integer
from torch import Tensor

from voxgraft.datasets import Masks, Table, read_masks
from voxgraft.metrics import Scored, score_all
from voxgraft.metrics.segmentation import ClassRow, score_case, score_masks, write_records
from voxgraft.metrics.segmentation.matrix import score_matrix
from voxgraft.models import SegmentationNetwork
from voxgraft.recipes import SegmentationSettings
from voxgraft.runs.predictions import scores_of, truth_of
from voxgraft.runs.slices import MOST_CASES, SegmentedSlice, chosen_slice
from voxgraft.sliding import PackedMasks
from voxgraft.sliding.on_scan import labels_on_scan, masks_on_scan
from voxgraft.training import SlidCases, segment_stored
from voxgraft.types import Size3, Spacing3
from voxgraft.volumes import Affine

SCORES_FILE = "segmentation.csv"
"""In a run's folder: a row for each case and class, with every score on the scan's own grid."""

_LABELS = Integer[np.ndarray, "d h w"]


def segment_and_score(
    network: SegmentationNetwork,
    table: Table,
    frame: pd.DataFrame,
    cases: SlidCases,
    classes: tuple[str, ...],
    settings: SegmentationSettings,
    slices: list[SegmentedSlice] | None = None,
    on_case: Callable[[int, int], None] | None = None,
) -> tuple[pd.DataFrame, list[ClassRow]]:
    """Segment whole cases and score them where and as they were drawn.

    Args:
        network: Trained.
        table: With the masks.
        frame: The cases' rows, in the order of ``cases``.
        cases: Stored volumes, and how windows go over them.
        classes: The target's.
        settings: The recipe's.
        slices: Where a slice of each of the first cases goes; None keeps none.
        on_case: Told (done, total) after each case.

    Returns:
        A frame of predictions (``target_*`` and ``score_*`` as
        :func:`~voxgraft.metrics.segmentation.matrix.score_matrix` has them), and the rows that it
        was made of.

    Raises:
        VoxgraftError: If masks or stored volumes cannot be read.
    """
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    rows: list[ClassRow] = []
    try:
        for position in range(len(frame)):
            kept = slices if slices is not None and len(slices) < MOST_CASES else None
            rows += _score_one(network, table, position, cases, classes, settings, kept)
            if on_case is not None:
                on_case(position + 1, len(frame))
    finally:
        for module, training in modes:
            module.training = training
    target, scores = score_matrix(rows, list(frame["case_id"]), classes)
    columns = ["case_id", "patient_id", *(c for c in ("site",) if c in frame)]
    predictions = frame[columns].reset_index(drop=True).copy()
    for place in range(target.shape[1]):
        predictions[f"target_{place}"] = target[:, place]
    for place in range(scores.shape[1]):
        predictions[f"score_{place}"] = scores[:, place]
    return predictions, rows


def _score_one(
    network: SegmentationNetwork,
    table: Table,
    position: int,
    cases: SlidCases,
    classes: tuple[str, ...],
    settings: SegmentationSettings,
    slices: list[SegmentedSlice] | None,
) -> list[ClassRow]:
    prepared, case_id = cases.cases.prepared, cases.cases.case_ids[position]
    image = prepared.read(case_id)
    sliding = cases.sliding_over(position)
    found = segment_stored(network, image, sliding, overlapping=settings.overlapping)
    scan = prepared.scan(case_id)
    known = cases.cases.masks.known_of((case_id,))[0]
    names = [name for name, here in zip(classes, known, strict=True) if here]
    masks = read_masks(table, case_id, names) if names else None
    place = None if slices is None or masks is None else chosen_slice(masks)
    seen = None if place is None else SegmentedSlice(case_id, *place)
    if slices is not None and seen is not None:
        slices.append(seen)
    return score_segmented(
        found,
        prepared.affine(case_id),
        scan.shape,
        scan.affine,
        masks,
        classes,
        tolerance_mm=settings.surface_tolerance_mm,
        case_id=case_id,
        seen=seen,
    )


def score_segmented(
    found: Integer[Tensor, "d h w"] | PackedMasks,
    affine: Affine,
    scan_shape: Size3,
    scan_affine: Affine,
    masks: Masks | None,
    classes: tuple[str, ...],
    *,
    tolerance_mm: float,
    case_id: str,
    seen: SegmentedSlice | None = None,
) -> list[ClassRow]:
    """Score what a network saw of one case against its masks, on the scan's own grid.

    Args:
        found: On the grid that the network saw; k + 1 (or mask k) is class k.
        affine: Where that lies.
        scan_shape: (depth, height, width) of the scan.
        scan_affine: Where the scan lies.
        masks: What was drawn, of the classes that are annotated; None if none is.
        classes: All classes, in order.
        tolerance_mm: Of the surface Dice.
        case_id: Goes into the rows.
        seen: Keeps its slice of the annotated classes; None where none is wanted.

    Returns:
        A row a class; a class that the case does not annotate has no number.
    """
    spacing_mm: Spacing3 = scan_affine.spacing_mm
    annotated = () if masks is None else masks.annotated
    single = masks is None or (len(masks.layers) == 1 and masks.ignored is None)
    if not isinstance(found, PackedMasks) and single:
        own = labels_on_scan(found, affine, scan_shape, scan_affine)
        reference = np.zeros(scan_shape, own.dtype)
        if masks is not None:
            lookup = np.zeros(int(masks.layers[0].max()) + 1, own.dtype)
            for index, name in enumerate(classes):
                value = masks.places.get(name, (0, len(lookup)))[1]
                if value < len(lookup):
                    lookup[value] = index + 1
            reference = lookup[masks.layers[0]]
        if seen is not None:
            plane = seen.plane(own)
            for index, name in enumerate(classes):
                if name in annotated:
                    seen.keep(name, plane == index + 1)
        numbers = {name: index + 1 for index, name in enumerate(classes)}
        return score_case(
            own, reference, numbers, spacing_mm, annotated, tolerance_mm, case_id=case_id
        )
    empty = np.zeros((1, 1, 1), np.uint8)
    rows = []
    for index, mask in _class_masks(found, affine, scan_shape, scan_affine, len(classes)):
        name = classes[index]
        if masks is None or name not in annotated:
            numbers = {name: 1}
            rows += score_case(empty, empty, numbers, spacing_mm, (), tolerance_mm, case_id=case_id)
            continue
        truth = masks.mask(name)
        if masks.ignored is not None:
            mask, truth = mask & ~masks.ignored, truth & ~masks.ignored
        if seen is not None:
            seen.keep(name, seen.plane(mask))
        scores = score_masks(mask, truth, spacing_mm, tolerance_mm=tolerance_mm)
        rows.append(ClassRow(case_id, name, scores, float(tolerance_mm), "area"))
    return rows


def _class_masks(
    found: Integer[Tensor, "d h w"] | PackedMasks,
    affine: Affine,
    scan_shape: Size3,
    scan_affine: Affine,
    classes: int,
) -> Iterator[tuple[int, Bool[np.ndarray, "D H W"]]]:
    if isinstance(found, PackedMasks):
        yield from masks_on_scan(found, affine, scan_shape, scan_affine)
        return
    own = labels_on_scan(found, affine, scan_shape, scan_affine)
    for index in range(classes):
        yield index, own == index + 1


def write_rows(rows: list[ClassRow], splits: list[str], path: Path) -> None:
    """Write the scores of cases and classes, with the split of each."""
    records = [{"split": split, **row.to_record()} for row, split in zip(rows, splits, strict=True)]
    write_records(records, path)


def score_segmentations(
    frame: pd.DataFrame, classes: tuple[str, ...]
) -> dict[str, dict[str, Scored]]:
    """Score a frame of predictions of a segmentation, per case."""
    found = score_all("segmentation", truth_of(frame), scores_of(frame), classes=classes)
    return {"case": found}
