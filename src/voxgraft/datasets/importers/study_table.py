"""What an import of studies leaves out and why, and the files that it writes."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool

from voxgraft.datasets.slice_labels import COLUMN, write_slice_labels
from voxgraft.datasets.table import Table, write_table
from voxgraft.errors import TableError, raise_faults
from voxgraft.files import atomic_path

Notice = Callable[[str], None]
"""Called with a sentence that the person who imports should read."""
LEFT_OUT = "left_out.csv"


@dataclass
class Found:
    """Studies as an import collects them.

    Attributes:
        rows: One row a study, with ``case_id``, ``patient_id``, ``image`` (relative to the root of
            the data set) and others.
        labels: Which slices of each case are positive.
        faults: (what, why): studies that cannot be used; what is the case, file or folder.
        passed_over: (what, why): left out by the rules of the import; nobody's fault.
        notices: Sentences for the person who imports.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    labels: dict[str, Bool[np.ndarray, "depth k"] | None] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def finish_studies(
    found: Found,
    *,
    root: Path,
    table_path: Path,
    left_out_path: Path,
    sidecar_columns: Sequence[str],
    leave_out_faulty: bool,
    on_notice: Notice | None,
    noun: str = "studies",
) -> Table:
    """Write left-out studies, slice labels and, last, the table.

    Args:
        found: Studies.
        root: Data set, for messages.
        table_path: Where the table goes; slice labels go beside it.
        left_out_path: Where all that is left out is listed, also if that is an error; removed if
            there is nothing.
        sidecar_columns: Target columns with labels a slice; without any, no sidecar is written.
        leave_out_faulty: Write the table without the studies that cannot be used; otherwise they
            are an error.
        on_notice: Called with each notice.
        noun: What the cases are called in messages.

    Returns:
        The table, as written.

    Raises:
        TableError: If studies cannot be used (all are named), or none is left.
    """
    left_out = [("fault", *item) for item in found.faults]
    left_out += [("passed over", *item) for item in found.passed_over]
    _write_left_out(left_out_path, left_out)
    if found.faults and not leave_out_faulty:
        raise_faults(
            TableError,
            f"{root}: {noun} that cannot be used",
            [f"{what}: {why}" for what, why in found.faults],
            f"All stand in {left_out_path}. Repair them, or import with --leave-out-faulty "
            "(leave_out_faulty=True): the table is then written without them.",
        )
    if not found.rows:
        shown = [f"{what}: {why}" for what, why in (found.faults + found.passed_over)]
        raise_faults(TableError, f"{root}: no {noun} are left", shown, "Check the folder.")
    frame = pd.DataFrame(found.rows)
    base = root.resolve()
    if sidecar_columns:
        sidecar = table_path.with_name("slice_labels.csv")
        cases = {case_id: found.labels[case_id] for case_id in frame["case_id"]}
        write_slice_labels(sidecar, sidecar_columns, cases)
        frame[COLUMN] = os.path.relpath(sidecar.resolve(), base)
    table = write_table(Table(frame, base), table_path)
    notices = list(found.notices)
    if left_out:
        notices.append(f"{len(left_out)} left out; {left_out_path} says which and why")
    if on_notice is not None:
        for notice in notices:
            on_notice(notice)
    return table


def _write_left_out(path: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    if not rows:
        path.unlink(missing_ok=True)
        return
    try:
        with (
            atomic_path(path) as temporary,
            temporary.open("w", encoding="utf-8", newline="") as handle,
        ):
            out = csv.writer(handle, lineterminator="\n")
            out.writerow(["kind", "what", "why"])
            out.writerows(rows)
    except OSError as error:
        raise TableError(f"{path}: cannot be written: {error}") from error
