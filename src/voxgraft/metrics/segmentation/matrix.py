"""Scores of cases as one matrix: what predictions are stored as and statistics resample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from voxgraft.errors import MetricError, raise_faults
from voxgraft.metrics.segmentation.cases import ClassRow
from voxgraft.metrics.structures import SCORED

_TARGET = {"both": 1.0, "reference": 1.0, "prediction": 0.0, "neither": 0.0, "unknown": np.nan}


def score_matrix(
    rows: Sequence[ClassRow], case_ids: Sequence[str], classes: Sequence[str]
) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n columns"]]:
    """Return what is in the references, and the scores, of cases.

    Args:
        rows: Rows of :func:`~voxgraft.metrics.segmentation.score_case`, in any order: one for
            each case and class.
        case_ids: The cases, in the order of the matrix.
        classes: The classes, in the order of the columns.

    Returns:
        Target ``(n, k)``: 1 where a class is in the reference, 0 where it is not, NaN where the
        case does not annotate it. Scores ``(n, 4 k)``: for each of ``SCORED`` a block of one
        column a class; NaN where undefined.

    Raises:
        MetricError: If a row is missing, stands twice, or is of no such case or class, or rows of
            a class differ in tolerance or convention. All faults are named.
    """
    places = {case_id: row for row, case_id in enumerate(case_ids)}
    columns = {name: column for column, name in enumerate(classes)}
    faults = (
        [
            f"{what} {name!r} is named {count} times"
            for what, names in (("case", case_ids), ("class", classes))
            for name in dict.fromkeys(names)
            if (count := list(names).count(name)) > 1
        ]
        if len(places) < len(case_ids) or len(columns) < len(classes)
        else []
    )
    found: dict[tuple[str, str], ClassRow] = {}
    rules: dict[str, set[str]] = {}
    for row in rows:
        key = (row.case_id, row.class_name)
        if row.case_id not in places or row.class_name not in columns:
            faults.append(f"case {key[0]!r}, class {key[1]!r} was not asked for")
        elif key in found:
            faults.append(f"case {key[0]!r} has class {key[1]!r} twice")
        else:
            found[key] = row
            rules.setdefault(row.class_name, set()).add(
                f"{row.tolerance_mm} mm by {row.convention}"
            )
    faults += [
        f"case {case_id!r} has no row of class {name!r}"
        for case_id in places
        for name in columns
        if (case_id, name) not in found
    ]
    faults += [
        f"class {name!r} was scored by several rules: {', '.join(sorted(several))}"
        for name, several in rules.items()
        if len(several) > 1
    ]
    if faults:
        raise_faults(
            MetricError,
            "These rows make no matrix",
            faults,
            "Score each case once, with the same classes, tolerance and convention.",
        )
    count = len(classes)
    target = np.full((len(case_ids), count), np.nan)
    scores = np.full((len(case_ids), len(SCORED) * count), np.nan)
    for (case_id, name), row in found.items():
        place, column = places[case_id], columns[name]
        target[place, column] = _TARGET[row.scores.presence]
        scores[place, column::count] = [row.scores[score] for score in SCORED]
    return target, scores
