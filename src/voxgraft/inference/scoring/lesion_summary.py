"""Lesions and patients over all cases: rates with intervals, and the ROC curve."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy import stats

from voxgraft.inference.scoring.summary import ALL_SITES
from voxgraft.metrics import METRICS
from voxgraft.metrics.segmentation import LesionCounts, pool_lesions, ratio_of_sums, roc_points
from voxgraft.statistics import performance_interval
from voxgraft.types import Json

_LEVEL = 0.95
_NAN = float("nan")


def summarize_lesions(counts: pd.DataFrame) -> pd.DataFrame:
    """Summarize the lesions of cases, as a whole and by ``site``.

    ``sensitivity`` is per lesion, over all scans; its interval is over patients, whose lesions
    stay together. So is that of ``false_positives_per_scan``; without any false positive its upper
    end is the exact one of a Poisson count.

    Args:
        counts: A row a case and class, see :func:`score_lesions`, with ``patient_id``.

    Returns:
        ``site, class, scans, patients, lesions, found, predicted, false_positives, ignored`` and
        the rates with ``_low`` and ``_high``.

    Source:
        Garwood (1936), Biometrika 28, for the count of none.
    """
    rows: list[Json] = []
    for site, part in _sites(counts):
        for name, own in part.groupby("class", sort=False):
            pooled = pool_lesions(_counts_of(own))
            patients = own["patient_id"].to_numpy(str)
            found, lesions, false = (
                own[column].to_numpy(np.float64)
                for column in ("found", "lesions", "false_positives")
            )
            some = lesions > 0
            sensitivity = _ratio(found[some], lesions[some], patients[some], (0.0, 1.0))
            scans = np.ones(len(own))
            rate = _ratio(false, scans, patients, (0.0, math.inf))
            if pooled.false_positives == 0:
                rate = (0.0, -math.log((1 - _LEVEL) / 2) / pooled.scans)
            rows.append(
                {
                    "site": site,
                    "class": name,
                    "scans": pooled.scans,
                    "patients": len(set(patients)),
                    "lesions": pooled.lesions,
                    "found": pooled.found,
                    "predicted": pooled.predicted,
                    "false_positives": pooled.false_positives,
                    "ignored": pooled.ignored,
                    "sensitivity": pooled.sensitivity,
                    "sensitivity_low": sensitivity[0],
                    "sensitivity_high": sensitivity[1],
                    "false_positives_per_scan": pooled.false_positives_per_scan,
                    "false_positives_per_scan_low": rate[0],
                    "false_positives_per_scan_high": rate[1],
                    "precision": pooled.precision,
                    "f1": pooled.f1,
                }
            )
    return pd.DataFrame(rows)


def patients_of(judged: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each patient and thing that it is judged for.

    A patient is positive, and called, if any of its scans is; its score is the highest.

    Args:
        judged: A row a case, see :func:`score_lesions`, with ``patient_id``.

    Returns:
        ``judged_for, patient_id, [site,] positive, called, score, n_scans``.
    """
    if judged.empty:
        return pd.DataFrame()
    columns = ["judged_for", "patient_id", *(["site"] if "site" in judged else [])]
    grouped = judged.groupby(columns, sort=False)
    found = grouped.agg(
        positive=("positive", "max"), called=("called", "max"), score=("score", "max")
    )
    found["n_scans"] = grouped.size()
    return found.reset_index()


def summarize_patients(patients: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Summarize patients, as a whole and by ``site``, and return the points of the ROC curves.

    Sensitivity and specificity are those of the calls (a predicted lesion stays), with Wilson's
    interval. The AUROC's is DeLong's by the jackknife.

    Args:
        patients: As :func:`patients_of` returns it.

    Returns:
        ``site, judged_for, patients, positive, sensitivity, specificity, auroc`` with ``_low`` and
        ``_high``, and ``reason``; and ``site, judged_for`` with each point of
        :func:`~voxgraft.metrics.segmentation.roc_points`.
    """
    rows: list[Json] = []
    points: list[Json] = []
    for site, part in _sites(patients):
        for name, own in part.groupby("judged_for", sort=False):
            # A patient with scans of several sites stands once among all.
            one = own.groupby("patient_id", sort=False)[["positive", "called", "score"]].max()
            positive = one["positive"].to_numpy(bool)
            called, score = one["called"].to_numpy(bool), one["score"].to_numpy(np.float64)
            row: Json = {
                "site": site,
                "judged_for": name,
                "patients": len(one),
                "positive": int(positive.sum()),
            }
            row |= _share("sensitivity", called[positive])
            row |= _share("specificity", ~called[~positive])
            row |= {"auroc": _NAN, "auroc_low": _NAN, "auroc_high": _NAN, "reason": ""}
            if positive.all() or not positive.any():
                row["reason"] = f"{'every' if positive.all() else 'no'} patient is positive"
            else:
                metric = METRICS["auroc"]
                found = performance_interval(
                    metric.function("binary"),
                    positive.astype(np.float64),
                    score[None],
                    one.index.to_numpy(str),
                    bounds=metric.bounds,
                )
                row |= {
                    "auroc": found.estimate,
                    "auroc_low": found.low,
                    "auroc_high": found.high,
                    "reason": found.note if np.isnan(found.low) else "",
                }
            rows.append(row)
            points += [
                {"site": site, "judged_for": name} | point.to_record()
                for point in roc_points(positive.astype(np.float64), score)
            ]
    return pd.DataFrame(rows), pd.DataFrame(points)


def _sites(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    if frame.empty:
        return []
    parts = [(ALL_SITES, frame)]
    if "site" in frame and frame["site"].nunique() > 1:
        parts += [(str(site), part) for site, part in frame.groupby("site", sort=True)]
    return parts


def _counts_of(part: pd.DataFrame) -> list[LesionCounts]:
    names = ("lesions", "found", "predicted", "false_positives", "ignored")
    return [
        LesionCounts(1, *(int(number) for number in row)) for row in part[list(names)].to_numpy()
    ]


def _ratio(
    above: np.ndarray, below: np.ndarray, patients: np.ndarray, bounds: tuple[float, float]
) -> tuple[float, float]:
    """Return the ends of the interval of a ratio of sums."""
    if not len(above):
        return _NAN, _NAN
    found = performance_interval(
        ratio_of_sums, below[:, None], above[None], patients, bounds=bounds, undefined=True
    )
    return found.low, found.high


def _share(name: str, right: np.ndarray) -> Json:
    if not len(right):
        return {name: _NAN, f"{name}_low": _NAN, f"{name}_high": _NAN}
    ends = stats.binomtest(int(right.sum()), len(right)).proportion_ci(_LEVEL, "wilson")
    return {
        name: float(right.mean()),
        f"{name}_low": float(ends.low),
        f"{name}_high": float(ends.high),
    }
