"""``train.csv`` of RSNA-STR Pulmonary Embolism Detection: labels of studies and of slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Integer, Shaped

from voxgraft.errors import TableError, raise_faults

UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
ON_SLICE = "pe_present_on_image"
ON_STUDY = (
    "negative_exam_for_pe",
    "qa_motion",
    "qa_contrast",
    "flow_artifact",
    "rv_lv_ratio_gte_1",
    "rv_lv_ratio_lt_1",
    "leftsided_pe",
    "chronic_pe",
    "true_filling_defect_not_pe",
    "rightsided_pe",
    "acute_and_chronic_pe",
    "central_pe",
    "indeterminate",
)
"""Columns that say something of the whole study, in every row of it."""
_SHOWN = 5


@dataclass(frozen=True)
class StudyLabels:
    """Rows of one study.

    Attributes:
        study: StudyInstanceUID.
        series: SeriesInstanceUID of its rows, each once.
        uids: SOPInstanceUID of each row.
        on_slice: Whether an embolism is to be seen there.
        values: Columns of the whole study to 0 or 1.
        faults: Sentences on rows that contradict each other.
    """

    study: str
    series: tuple[str, ...]
    uids: Shaped[np.ndarray, " rows"] = field(repr=False)
    on_slice: Bool[np.ndarray, " rows"] = field(repr=False)
    values: dict[str, int]
    faults: tuple[str, ...]

    @property
    def slices(self) -> dict[str, bool]:
        """SOPInstanceUID to whether an embolism is to be seen there."""
        return dict(zip(self.uids.tolist(), self.on_slice.tolist(), strict=True))


def read_rsna_labels(path: Path) -> pd.DataFrame:
    """Read ``train.csv``: UIDs as text, labels as 0 and 1.

    Raises:
        TableError: If it is missing or no CSV, lacks columns, or has empty UIDs or labels that are
            not 0 or 1; all are named.
    """
    if not path.is_file():
        raise TableError(
            f"{path}: no such file. Expected the folder of the competition: train.csv, and "
            "train/<StudyInstanceUID>/<SeriesInstanceUID>/<SOPInstanceUID>.dcm beside it."
        )
    wanted = (*UIDS, ON_SLICE, *ON_STUDY)
    try:
        found = list(pd.read_csv(path, nrows=0, encoding="utf-8-sig").columns)
        missing = [name for name in wanted if name not in found]
        if missing:
            raise TableError(
                f"{path}: lacks the columns {', '.join(missing)}; found {', '.join(found[:20])}. "
                "Expected train.csv as it was published."
            )
        frame = pd.read_csv(
            path,
            usecols=list(wanted),
            dtype="str",
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    except (OSError, ValueError) as error:
        raise TableError(f"{path}: cannot be read as CSV: {error}. Download it again.") from error
    _check_cells(path, frame)
    if frame.empty:
        raise TableError(f"{path}: has no rows. Expected one for each slice of each study.")
    for name in (ON_SLICE, *ON_STUDY):
        frame[name] = (frame[name] == "1").to_numpy(np.int8)
    return frame


def labels_by_study(frame: pd.DataFrame) -> Iterator[StudyLabels]:
    """Yield the labels of each study, by StudyInstanceUID."""
    rows_of = frame.groupby("StudyInstanceUID", observed=True).indices
    series, uids = frame[UIDS[1]].to_numpy(), frame[UIDS[2]].to_numpy()
    on_slice = frame[ON_SLICE].to_numpy()
    on_study = frame[list(ON_STUDY)].to_numpy()
    for study, rows in sorted((str(name), rows) for name, rows in rows_of.items()):
        values = on_study[rows]
        faults = []
        twice = len(rows) - len(set(uids[rows].tolist()))
        if twice:
            faults.append(f"{twice} SOPInstanceUIDs stand in two rows")
        mixed = [
            name
            for column, name in enumerate(ON_STUDY)
            if values[:, column].min() != values[:, column].max()
        ]
        if mixed:
            faults.append(f"its rows do not agree on {', '.join(mixed)}")
        whole = {name: int(values[0, column]) for column, name in enumerate(ON_STUDY)}
        if whole["negative_exam_for_pe"] and whole["indeterminate"]:
            faults.append("is both negative_exam_for_pe and indeterminate")
        yield StudyLabels(
            study=study,
            series=tuple(dict.fromkeys(series[rows].tolist())),
            uids=uids[rows],
            on_slice=on_slice[rows] == 1,
            values=whole,
            faults=tuple(faults),
        )


def _check_cells(path: Path, frame: pd.DataFrame) -> None:
    faults = []
    for name in UIDS:
        rows = np.flatnonzero((frame[name].str.strip() == "").to_numpy())
        if rows.size:
            faults.append(f"{name} is empty in {_lines(rows)}")
    for name in (ON_SLICE, *ON_STUDY):
        rows = np.flatnonzero(~frame[name].isin(["0", "1"]).to_numpy())
        if rows.size:
            value = frame[name].iloc[int(rows[0])]
            faults.append(f"{name} is {value!r} in {_lines(rows)}, expected 0 or 1")
    if faults:
        raise_faults(
            TableError, f"{path}: labels that cannot be used", faults, "Download it again."
        )


def _lines(rows: Integer[np.ndarray, " n"]) -> str:
    shown = ", ".join(str(row + 2) for row in rows[:_SHOWN])
    more = f" and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""
    return f"line{'s' * (len(rows) > 1)} {shown}{more}"
