"""What cases score together: each class's mean with its interval over patients, by site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd

from voxgraft.metrics import METRICS, metric_names
from voxgraft.metrics.segmentation import (
    DISTANCES,
    OVERLAPS,
    SCORED,
    SCORES,
    Presence,
    ratio_of_sums,
)
from voxgraft.metrics.segmentation.absence import undefined_scores
from voxgraft.statistics import Interval, performance_interval
from voxgraft.types import Json

ALL_CLASSES = "mean of classes"
"""What stands for the class in rows that are means over classes."""
ALL_SITES = "all"
_ABSOLUTE = "volume_error"
"""Of a class: the mean absolute relative volume error, as the mean over classes has it."""
_INFINITE = float("inf")
_BOUNDS = dict.fromkeys(OVERLAPS, (0.0, 1.0))
_BOUNDS |= dict.fromkeys((*DISTANCES, "reference_ml", "predicted_ml", _ABSOLUTE), (0.0, _INFINITE))


def summarize_scores(cases: pd.DataFrame, classes: Sequence[str]) -> pd.DataFrame:
    """Summarize the scores of cases and classes, as a whole and by ``site``.

    A mean is over the cases that define the score; ``undefined`` counts the annotated ones that do
    not, and ``reason`` says by which rule. The interval is over the patients of those cases.

    Args:
        cases: A row a case and class, with ``presence`` and every score.
        classes: In the order of the rows.

    Returns:
        ``site, class, metric, value, low, high, median, n_cases, n_patients, n_present, undefined,
        reason, note``; ``n_cases`` annotate the class, ``n_present`` of them have it; ``note`` says
        why there is no interval.
    """
    parts = [(ALL_SITES, cases)]
    if "site" in cases and cases["site"].nunique() > 1:
        parts += [(str(site), part) for site, part in cases.groupby("site", sort=True)]
    rows: list[Json] = []
    for site, part in parts:
        rows += [{"site": site} | row for row in _over_classes(part, classes)]
        for name in classes:
            known = part[(part["class"] == name) & (part["presence"] != "unknown")]
            rows += [{"site": site, "class": name} | row for row in _of_class(known)]
    return pd.DataFrame(rows)


def interval_of_mean(
    values: np.ndarray, patients: np.ndarray, bounds: tuple[float, float]
) -> Interval:
    """Return the mean of values with its interval over patients.

    Args:
        values: ``(n,)``, all defined.
        patients: ``(n,)`` ids.
        bounds: Lowest and highest possible value.
    """
    ones = np.ones((len(values), 1))
    return performance_interval(
        ratio_of_sums, ones, values[None], patients, bounds=bounds, undefined=True
    )


def _of_class(known: pd.DataFrame) -> list[Json]:
    """Return a row for each score of one class, over the cases that annotate it."""
    patients = known["patient_id"].to_numpy(str)
    presence = known["presence"].to_numpy(str)
    why = {kind: undefined_scores(kind) for kind in get_args(Presence)}
    rows = []
    for metric in (*SCORES, _ABSOLUTE):
        score = "relative_volume_error" if metric == _ABSOLUTE else metric
        values = known[score].to_numpy(np.float64)
        values = np.abs(values) if metric == _ABSOLUTE else values
        defined = ~np.isnan(values)
        reasons = Counter(why[kind][score] for kind in presence[~defined])
        row: Json = {
            "metric": metric,
            "value": float("nan"),
            "low": float("nan"),
            "high": float("nan"),
            "median": float("nan"),
            "n_cases": len(known),
            "n_patients": len(set(patients)),
            "n_present": int(np.isin(presence, ("both", "reference")).sum()),
            "undefined": int((~defined).sum()),
            "reason": "; ".join(f"{count} {reason}" for reason, count in reasons.items()),
            "note": "",
        }
        if not len(known):
            row["reason"] = "annotated in no case"
        if defined.any():
            bounds = _BOUNDS.get(metric, (-_INFINITE, _INFINITE))
            found = interval_of_mean(values[defined], patients[defined], bounds)
            row |= {"value": found.estimate, "low": found.low, "high": found.high}
            row["median"] = float(np.median(values[defined]))
            row["note"] = found.note if np.isnan(found.low) else ""
        rows.append(row)
    return rows


def _over_classes(part: pd.DataFrame, classes: Sequence[str]) -> list[Json]:
    """Return a row for each mean over classes, as the statistics of comparisons have it."""
    wide = {
        score: part.pivot(index="case_id", columns="class", values=score).reindex(
            columns=list(classes)
        )
        for score in (*SCORED, "presence")
    }
    ids = wide["presence"].index
    patients = part.drop_duplicates("case_id").set_index("case_id")["patient_id"].loc[ids]
    presence = wide["presence"].to_numpy(str)
    target = np.where(np.isin(presence, ("both", "reference")), 1.0, 0.0)
    target[presence == "unknown"] = np.nan
    scores = np.concatenate([wide[score].to_numpy(np.float64) for score in SCORED], axis=1)
    some = ~np.isnan(target).all(axis=1)
    target, scores, ids_of = target[some], scores[some], patients.to_numpy(str)[some]
    rows = []
    for name in metric_names("segmentation"):
        metric = METRICS[name]
        row: Json = {
            "class": ALL_CLASSES,
            "metric": name,
            "value": float("nan"),
            "low": float("nan"),
            "high": float("nan"),
            "median": float("nan"),
            "n_cases": int(some.sum()),
            "n_patients": len(set(ids_of)),
            "n_present": int((target == 1).any(axis=1).sum()),
            "undefined": 0,
            "reason": "" if some.any() else "no class is annotated in any case",
            "note": "",
        }
        if some.any():
            found = performance_interval(
                metric.function("segmentation"),
                target,
                scores[None],
                ids_of,
                bounds=metric.bounds,
                undefined=True,
            )
            row |= {"value": found.estimate, "low": found.low, "high": found.high}
            row["note"] = found.note if np.isnan(found.low) else ""
        rows.append(row)
    return rows
