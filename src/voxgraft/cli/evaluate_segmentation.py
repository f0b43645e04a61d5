"""``voxgraft evaluate`` of segmentations: every class's scores, lesions, patients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from voxgraft.cli.lists import listed
from voxgraft.cli.output import emit_json, emit_table, say
from voxgraft.errors import UsageError

if TYPE_CHECKING:
    from voxgraft.datasets import Table
    from voxgraft.inference.scoring import LesionQuestion, SegmentationEvaluation

_SHOWN = {
    "dice": "dice",
    "surface_dice": "surface_dice",
    "hausdorff95_mm": "hd95_mm",
    "volume_error": "volume_error",
}
"""Metrics that are printed, and their columns."""
_COUNTS = {"cases": "n_cases", "patients": "n_patients", "present": "n_present"}
_RULES = ("any", "iou", "pancreas")
_NOTES = 12


def lesion_question(
    classes: str | None,
    rules: str,
    *,
    min_iou: float,
    min_lesion_mm3: float,
    patient_score: str | None,
    of_run: bool,
) -> LesionQuestion | None:
    """Return what the options ask about lesions; None if they ask nothing.

    Raises:
        UsageError: If an option makes no sense.
    """
    from voxgraft.inference.scoring import LesionQuestion
    from voxgraft.metrics.segmentation import LesionRules, PancreasRules

    if rules not in _RULES:
        raise UsageError(f"--lesion-rules {rules}: expected one of {', '.join(_RULES)}.")
    if patient_score not in (None, "volume", "probability"):
        raise UsageError(f"--patient-score {patient_score}: expected volume or probability.")
    told = listed(classes) or []
    if rules == "pancreas":
        if min_lesion_mm3 or min_iou != 0.1:
            raise UsageError(
                "--lesion-rules pancreas has its own smallest sizes (CLASS=VOXELS) and needs no "
                "--min-iou or --min-lesion-mm3. Leave them out."
            )
        sizes = _sizes(told) if told else dict(PancreasRules().min_voxels)
        score = patient_score or ("probability" if of_run else "volume")
        return LesionQuestion(tuple(sizes), PancreasRules(min_voxels=sizes), score)  # type: ignore[arg-type]
    if not told:
        if classes is not None or min_lesion_mm3 or min_iou != 0.1 or rules != "any":
            raise UsageError("lesions of which class? Give --lesions CLASS,CLASS.")
        if patient_score is not None:
            raise UsageError("--patient-score needs --lesions CLASS, by which patients are judged.")
        return None
    chosen = LesionRules(
        matching="iou" if rules == "iou" else "any", min_iou=min_iou, min_volume_mm3=min_lesion_mm3
    )
    return LesionQuestion(tuple(told), chosen, patient_score or "volume")  # type: ignore[arg-type]


def evaluate_masks(
    run: Path | None,
    predictions: Path | None,
    table: Table,
    *,
    classes: str,
    tolerance_mm: float | None,
    question: LesionQuestion | None,
    device: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Score a run or predictions on a table with masks, write the files, and print the numbers."""
    from voxgraft.inference import place_on
    from voxgraft.inference.scoring import (
        TOLERANCE_MM,
        evaluate_predictions,
        evaluate_segmentation,
    )
    from voxgraft.progress import Parts, progress_bar
    from voxgraft.runs import load_segmentation

    trained = None if run is None else load_segmentation(run)
    if trained is not None:
        say(f"on {place_on(trained.network, device)}")
    with progress_bar(len(table), "evaluating") as bar:
        parts = Parts(bar)

        if trained is not None:
            found = evaluate_segmentation(
                trained,
                table,
                tolerance_mm=tolerance_mm,
                lesions=question,
                out=out,
                on_case=parts.whole,
                on_windows=lambda case_id, seen, all_: parts.part(
                    seen / all_, f"{case_id}: window {seen:,} of {all_:,}"
                ),
            )
        elif predictions is not None:
            found = evaluate_predictions(
                predictions,
                table,
                classes=classes,
                tolerance_mm=TOLERANCE_MM if tolerance_mm is None else tolerance_mm,
                lesions=question,
                out=out,
                on_case=parts.whole,
            )
        else:
            raise AssertionError("there is a run, or predictions")
    _tell(found, out)
    if as_json:
        emit_json(found.to_dict())
        return
    _print_scores(found)
    if not found.lesion_metrics.empty:
        say("")
        say(str(found.about["lesion_rules"]["found"]))
        _print_lesions(found)
    if not found.patient_metrics.empty:
        say("")
        say(f"patients, ranked by: {found.about['lesion_rules']['score']}")
        _print_patients(found)


def _sizes(told: list[str]) -> dict[str, int]:
    """Return each tumor's smallest size: said, or the study's."""
    from voxgraft.metrics.segmentation import PancreasRules

    known = PancreasRules().min_voxels
    sizes: dict[str, int] = {}
    for part in told:
        name, sign, size = part.partition("=")
        if sign and not size.isdigit():
            raise UsageError(f"--lesions {part}: expected CLASS=VOXELS, as pancreas_tumor=30.")
        if not sign and name not in known:
            raise UsageError(
                f"--lesions {name}: the pancreas rules have a smallest size for {', '.join(known)} "
                f"only. Say it, as {name}=30."
            )
        sizes[name] = int(size) if sign else known[name]
    return sizes


def _tell(found: SegmentationEvaluation, out: Path | None) -> None:
    """Say what is to be known of an evaluation, and write its files."""
    for note in found.notes[:_NOTES]:
        say(f"note: {note}")
    if len(found.notes) > _NOTES:
        say(f"note: … and {len(found.notes) - _NOTES} more (--json has all)")
    if found.kept:
        say(f"{found.kept} of {found.about['n_cases']} cases had been scored before and are kept")
    if out is not None:
        names = [path.name for path in found.write(out)]
        say(f"wrote {out}/: {', '.join(names)}")


def _print_scores(found: SegmentationEvaluation) -> None:
    """Print a line a class over all sites, and the mean over classes of each site."""
    from voxgraft.inference.scoring import ALL_CLASSES, ALL_SITES

    metrics = found.metrics
    sites = list(dict.fromkeys(metrics["site"]))
    order = [(ALL_SITES, name) for name in (*found.about["classes"], ALL_CLASSES)]
    order += [(site, ALL_CLASSES) for site in sites if site != ALL_SITES]
    found_rows = []
    for site, name in order:
        own = metrics[(metrics["site"] == site) & (metrics["class"] == name)]
        found_rows.append((site, name, own.set_index("metric").to_dict(orient="index")))
    counts = dict(_COUNTS)
    if all(row["dice"]["n_present"] == row["dice"]["n_cases"] for *_, row in found_rows):
        del counts["present"]
    lines = [
        [
            *([site] if len(sites) > 1 else []),
            name,
            *(row["dice"][key] for key in counts.values()),
            *(_shown(row[metric]) for metric in _SHOWN),
        ]
        for site, name, row in found_rows
    ]
    say("")
    say(
        f"mean [95% interval over patients]; surface Dice within "
        f"{found.about['tolerance_mm']:g} mm; volume error relative, without its sign"
    )
    columns = ["class", *counts, *_SHOWN.values()]
    emit_table([*(["site"] if len(sites) > 1 else []), *columns], lines)
    undefined = _undefined(metrics[metrics["site"] == ALL_SITES])
    if undefined:
        say("left out of means, being undefined:")
        for line in undefined:
            say(f"  {line}")


def _undefined(metrics: pd.DataFrame) -> list[str]:
    """Return how often each score that is shown is undefined, and by which rule."""
    lines = []
    for metric in _SHOWN:
        own = metrics[(metrics["metric"] == metric) & (metrics["undefined"] > 0)]
        if own.empty:
            continue
        parts = [
            f"{row['class']} {row['undefined']} of {row['n_cases']} ({row['reason']})"
            for row in own.to_dict(orient="records")
        ]
        more = f"; and {len(parts) - 4} more classes" if len(parts) > 4 else ""
        lines.append(f"{metric}: {'; '.join(parts[:4])}{more}")
    return lines


def _print_lesions(found: SegmentationEvaluation) -> None:
    frame = found.lesion_metrics
    several = frame["site"].nunique() > 1
    columns = ["class", "scans", "lesions", "found"]
    columns += ["ignored"] if frame["ignored"].any() else []
    lines = [
        [
            *([row["site"]] if several else []),
            *(row[name] for name in columns),
            _with_ends(row, "sensitivity"),
            _with_ends(row, "false_positives_per_scan"),
            _number(row["precision"]),
            _number(row["f1"]),
        ]
        for row in frame.to_dict(orient="records")
    ]
    rates = ["sensitivity", "fp_per_scan", "precision", "f1"]
    emit_table([*(["site"] if several else []), *columns, *rates], lines)


def _print_patients(found: SegmentationEvaluation) -> None:
    frame = found.patient_metrics
    several = frame["site"].nunique() > 1
    columns = ["judged_for", "patients", "positive"]
    rates = ["sensitivity", "specificity", "auroc"]
    told = bool((frame["reason"] != "").any())
    lines = [
        [
            *([row["site"]] if several else []),
            *(row[name] for name in columns),
            *(_with_ends(row, name) for name in rates),
            *([row["reason"]] if told else []),
        ]
        for row in frame.to_dict(orient="records")
    ]
    emit_table(
        [*(["site"] if several else []), *columns, *rates, *(["note"] if told else [])], lines
    )


def _shown(row: Mapping[Any, Any]) -> str:
    return _text(row["value"], row["low"], row["high"])


def _with_ends(row: Mapping[Any, Any], name: str) -> str:
    return _text(row[name], row[f"{name}_low"], row[f"{name}_high"])


def _text(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "-"
    ends = "" if math.isnan(low) else f" [{_number(low, 2)},{_number(high, 2)}]"
    return f"{_number(value)}{ends}"


def _number(value: float, decimals: int = 3) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.{decimals}f}" if abs(value) < 10 else f"{value:.1f}"
