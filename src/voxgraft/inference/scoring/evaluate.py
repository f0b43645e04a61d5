"""Score segmentations of a table's cases against the masks as they were drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from voxgraft.datasets import CaseMasks, Table, case_masks, read_masks, structure_names
from voxgraft.errors import InferenceError, VoxgraftError, raise_faults
from voxgraft.files import content_key, file_sha256
from voxgraft.inference.scoring.class_names import PredictedClasses, parse_classes
from voxgraft.inference.scoring.evaluation import EMPTY_MASKS, SegmentationEvaluation
from voxgraft.inference.scoring.file_predictions import FilePredictions
from voxgraft.inference.scoring.journal import Journal
from voxgraft.inference.scoring.lesion_summary import (
    patients_of,
    summarize_lesions,
    summarize_patients,
)
from voxgraft.inference.scoring.lesions import PHASE, LesionQuestion, score_lesions
from voxgraft.inference.scoring.predicted import Predictions
from voxgraft.inference.scoring.predicted_files import PredictedFolder
from voxgraft.inference.scoring.run_predictions import RunPredictions
from voxgraft.inference.scoring.summary import summarize_scores
from voxgraft.metrics.segmentation import SCORES, ClassRow
from voxgraft.metrics.segmentation.masks import check_tolerance, make_scores
from voxgraft.runs import TrainedSegmentation, score_segmented
from voxgraft.types import Json

TOLERANCE_MM = 2.0
"""Of the surface Dice, for predictions that come without one."""
_VERSION = 1
"""Changes whenever scores of the same files do."""


def evaluate_segmentation(
    run: TrainedSegmentation,
    table: Table,
    *,
    tolerance_mm: float | None = None,
    lesions: LesionQuestion | None = None,
    out: Path | None = None,
    on_case: Callable[[str], None] | None = None,
    on_windows: Callable[[str, int, int], None] | None = None,
) -> SegmentationEvaluation:
    """Segment a table's cases with a run, one at a time, and score them.

    Args:
        run: A trained segmentation.
        table: Scans with masks. All its rows are scored, whatever their split.
        tolerance_mm: Of the surface Dice; the recipe's if None.
        lesions: Also count lesions and judge patients.
        out: Folder that keeps scored cases, so that a killed evaluation goes on.
        on_case: Told of each finished case.
        on_windows: Told of a case in work how many windows were seen, and of how many.

    Raises:
        TableError: If the table has no masks, or they cannot be used.
        InferenceError: If run and table share no class, lesions are asked of other classes, or
            cases cannot be scored; all are named, and the others are kept in ``out``.
    """
    tolerance = run.settings.surface_tolerance_mm if tolerance_mm is None else tolerance_mm
    _drawn_classes(table)
    drawn = structure_names(table)
    kept: tuple[str, ...] = ()
    if lesions is not None and lesions.patient_score == "probability":
        kept = lesions.classes
    predictions = RunPredictions(run, table, drawn, kept, on_windows)
    about: Json = {"run": str(run.folder)}
    return _evaluate(predictions, table, about, tolerance, lesions, out, on_case)


def evaluate_predictions(
    folder: Path,
    table: Table,
    *,
    classes: str | PredictedClasses = "",
    tolerance_mm: float = TOLERANCE_MM,
    lesions: LesionQuestion | None = None,
    out: Path | None = None,
    on_case: Callable[[str], None] | None = None,
) -> SegmentationEvaluation:
    """Score predictions that any tool has written against a table's masks.

    Args:
        folder: A label map a case, or a folder a case; see :class:`PredictedFolder`.
        table: Scans with masks.
        classes: What the predictions call their classes: as for ``--classes``, see
            :func:`parse_classes`.
        tolerance_mm: Of the surface Dice.
        lesions: Also count lesions and judge patients, by volume.
        out: Folder that keeps scored cases.
        on_case: Told of each finished case.

    Raises:
        TableError: If the table has no masks, or they cannot be used.
        InferenceError: If predictions are missing or cannot be scored; all are named.
    """
    if lesions is not None and lesions.patient_score == "probability":
        raise InferenceError(
            "files of predictions have no probabilities, so patients cannot be ranked by them. "
            "Rank them by volume (--patient-score volume)."
        )
    found = PredictedFolder(folder)
    said = parse_classes(classes, folder) if isinstance(classes, str) else classes
    needed = _drawn_classes(table)
    predictions = FilePredictions(found, table, needed, structure_names(table), said)
    about: Json = {"predictions": str(folder)}
    return _evaluate(predictions, table, about, tolerance_mm, lesions, out, on_case)


def _drawn_classes(table: Table) -> dict[str, tuple[str, ...]]:
    """Return the structures that each case annotates."""
    return {case_id: found.annotated for case_id, found in case_masks(table).items()}


def _evaluate(
    predictions: Predictions,
    table: Table,
    about: Json,
    tolerance_mm: float,
    lesions: LesionQuestion | None,
    out: Path | None,
    on_case: Callable[[str], None] | None,
) -> SegmentationEvaluation:
    check_tolerance(tolerance_mm)
    classes = predictions.classes
    if lesions is not None:
        lesions.check(classes)
    masks = case_masks(table)
    journal = Journal(out)
    about |= {
        "table": None if table.path is None else str(table.path),
        "table_sha256": table.sha256,
        "classes": list(classes),
        "n_cases": len(table),
        "n_patients": len(table.patients),
        "tolerance_mm": tolerance_mm,
        "empty_masks": EMPTY_MASKS,
        "interval": "95%, over patients",
    }
    if lesions is not None:
        about["lesion_rules"] = lesions.to_dict()
    rules = [_VERSION, list(classes), tolerance_mm, about.get("lesion_rules")]
    contents: dict[str, Json] = {}
    faults: list[str] = []
    kept = 0
    phases = table.frame[PHASE].astype(str) if PHASE in table.frame else [""] * len(table)
    for case_id, patient_id, phase in zip(
        table.case_ids, table.frame["patient_id"], phases, strict=True
    ):
        known = [name for name in masks[case_id].annotated if name in classes]
        if not known:
            contents[case_id] = _unknown(case_id, classes, tolerance_mm)
        else:
            try:
                parts = [predictions.digest(case_id), _masks_digest(masks[case_id], known)]
                key = content_key([*rules, *parts, phase])
                content = journal.find(case_id, key)
                if content is None:
                    content = _score_case(
                        predictions, table, case_id, known, tolerance_mm, lesions, patient_id, phase
                    )
                    journal.add(case_id, key, content)
                else:
                    kept += 1
            except (VoxgraftError, OSError) as error:
                faults.append(_fault(case_id, error))
                continue
            contents[case_id] = content
        if on_case is not None:
            on_case(case_id)
    if faults:
        others = (
            " With an output folder (--out) the others would be kept."
            if out is None
            else f" The others are kept in {out}."
        )
        raise_faults(
            InferenceError,
            f"{len(faults)} of {len(table)} cases cannot be scored",
            faults,
            f"Mend or leave out those cases.{others}",
        )
    return _gather(predictions, table, about, contents, kept)


def _fault(case_id: str, error: Exception) -> str:
    said = str(error)
    if isinstance(error, OSError) and error.strerror:
        said = f"{error.filename}: {error.strerror}. Check the path in the table."
    case = f"case {case_id!r}: "
    return said if said.startswith(case) else case + said


def _score_case(
    predictions: Predictions,
    table: Table,
    case_id: str,
    known: list[str],
    tolerance_mm: float,
    lesions: LesionQuestion | None,
    patient_id: str,
    phase: str,
) -> Json:
    """Return the scores of one case as JSON."""
    masks = read_masks(table, case_id, known)
    predicted = predictions.read(case_id)
    scan = predicted.scan
    found = torch.from_numpy(scan.found) if isinstance(scan.found, np.ndarray) else scan.found
    rows = score_segmented(
        found,
        scan.affine,
        scan.shape,
        scan.affine,
        masks,
        predictions.classes,
        tolerance_mm=tolerance_mm,
        case_id=case_id,
    )
    counted: list[Json] = []
    judged: list[Json] = []
    if lesions is not None and set(lesions.classes) & set(known):
        counted, judged = score_lesions(
            lesions, predicted, masks, patient_id=patient_id, phase=phase
        )
    return {
        "rows": [dict(row.to_record()) for row in rows],
        "lesions": counted,
        "judged": judged,
        "notes": list(predicted.notes),
    }


def _unknown(case_id: str, classes: tuple[str, ...], tolerance_mm: float) -> Json:
    """Return the rows of a case that annotates none of the classes."""
    rows = [
        dict(ClassRow(case_id, name, make_scores("unknown"), tolerance_mm, "area").to_record())
        for name in classes
    ]
    return {"rows": rows, "lesions": [], "judged": [], "notes": []}


def _masks_digest(masks: CaseMasks, known: list[str]) -> str:
    structures = masks.structures
    if structures.kind == "label_map":
        said = {name: list(structures.values(name)) for name in known}
        ignored = list(structures.ignored_values)
        return content_key([file_sha256(masks.path), said, ignored])
    files = {name: [file_sha256(masks.path / f) for f in structures.files(name)] for name in known}
    return content_key(files)


def _gather(
    predictions: Predictions, table: Table, about: Json, contents: dict[str, Json], kept: int
) -> SegmentationEvaluation:
    columns = ["case_id", "patient_id", *(c for c in ("site", "split") if c in table.frame)]
    about_case = {row["case_id"]: row for row in table.frame[columns].to_dict(orient="records")}
    frames = {}
    for part in ("rows", "lesions", "judged"):
        records = [
            about_case[case_id] | {k: v for k, v in record.items() if k != "case_id"}
            for case_id, content in contents.items()
            for record in content[part]
        ]
        frames[part] = pd.DataFrame(records)
    cases = frames["rows"]
    for name in SCORES:
        cases[name] = pd.to_numeric(cases[name])
    patients = patients_of(frames["judged"])
    patient_metrics, roc = summarize_patients(patients)
    notes = list(predictions.notes)
    told: dict[str, list[str]] = {}
    for case_id, content in contents.items():
        for note in content["notes"]:
            told.setdefault(note, []).append(case_id)
    notes += [_told(note, case_ids) for note, case_ids in told.items()]
    return SegmentationEvaluation(
        about=about,
        cases=cases,
        metrics=summarize_scores(cases, predictions.classes),
        lesions=frames["lesions"],
        lesion_metrics=summarize_lesions(frames["lesions"]),
        patients=patients,
        patient_metrics=patient_metrics,
        roc=roc,
        notes=tuple(notes),
        kept=kept,
    )


def _told(note: str, case_ids: list[str]) -> str:
    shown = ", ".join(case_ids[:5]) + (f" and {len(case_ids) - 5} more" * (len(case_ids) > 5))
    return f"case{'s' * (len(case_ids) > 1)} {shown}: {note}"
