"""What is wrong with a table's slice labels: against the scans' depths, and the study labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from voxgraft.datasets.slice_labels import (
    COLUMN,
    SliceLabels,
    read_slice_labels,
    sidecar_columns,
)
from voxgraft.datasets.table import Table
from voxgraft.datasets.target import Target
from voxgraft.errors import TableError, listed

Finding = tuple[str, str, bool]
"""(where, message, is a notice only)."""


def look_at_slice_labels(
    table: Table, target: Target | None, depths: Mapping[str, int]
) -> Iterator[Finding]:
    """Yield what is wrong with the sidecar of a table; nothing where there is none.

    Args:
        table: Cases.
        target: What is to be predicted; without it, all columns of the sidecar are looked at.
        depths: Slices of each case's scan, for the scans that can be read.

    Yields:
        Faults: a sidecar that cannot be read, a slice beyond a scan, a positive slice of a study
        that is labelled negative. Notices: targets without labels a slice, positive studies
        without a positive slice.
    """
    if COLUMN not in table.frame:
        return
    try:
        labelled = sidecar_columns(table)
        columns = labelled if target is None else target.columns
        absent = [name for name in columns if name not in labelled]
        if absent:
            yield (
                "slice_labels",
                f"label {listed(labelled)} slice by slice, not {listed(absent)}: windows cannot "
                "take labels from slices.",
                True,
            )
            return
        labels = read_slice_labels(table, columns) if columns else None
    except TableError as error:
        yield ("slice_labels", str(error), False)
        return
    if labels is None:
        yield ("slice_labels", "has no column of labels. Add one a target column.", False)
        return
    yield from _beyond(labels, depths)
    if target is not None and target.kind in ("binary", "multilabel"):
        yield from _against_studies(table, target, labels)


def _beyond(labels: SliceLabels, depths: Mapping[str, int]) -> Iterator[Finding]:
    for case_id, depth in depths.items():
        try:
            labels.positive(case_id, depth)
        except TableError as error:
            yield (f"case {case_id}", str(error), False)


def _against_studies(table: Table, target: Target, labels: SliceLabels) -> Iterator[Finding]:
    known, _ = target.encode_known(table.frame)
    for place, column in enumerate(target.columns):
        without = []
        for case_id, value in zip(table.case_ids, known[:, place].tolist(), strict=True):
            slices = labels.of(case_id)
            if slices is None:
                continue
            if value == 0 and slices[place]:
                yield (
                    f"case {case_id}",
                    f"{column} says {target.classes[0]!r}, but {len(slices[place])} of its slices "
                    f"are labelled positive, such as slice {slices[place][0]}. Correct one.",
                    False,
                )
            if value == 1 and not slices[place]:
                without.append(case_id)
        if without:
            yield (
                f"case{'s' * (len(without) > 1)} {listed(without)}",
                f"{column} says {target.classes[1]!r}, but no slice is labelled positive. Right "
                "where the finding is to be seen in no single slice.",
                True,
            )
