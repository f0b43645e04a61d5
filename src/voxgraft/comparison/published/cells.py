"""The printed cells, each with a note of what cannot be right or deserves a second look."""

from __future__ import annotations

import csv
import dataclasses
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from voxgraft.comparison.published.ke2023 import MODELS_3D
from voxgraft.errors import ReportError

TABLES = {"ke2023": "ke2023_table1.csv"}
"""File of each table, by name."""

SEVEN_3D = tuple(MODELS_3D.values())
"""The networks of 3D volumes in Ke et al. (2023); the others read slices."""

NARROW = 0.6
"""Of the median width of a data set's intervals: below it, one is too narrow to be believed."""

LOPSIDED = 2.0
"""How much further one end may be from its value than the other."""


@dataclass(frozen=True)
class Cell:
    """One printed AUROC of study-level classification on the test set, with its 95% interval.

    Attributes:
        model: Network, as printed.
        video: Started from video (Kinetics), or for networks of slices from images (ImageNet).
        ct: Then, or only, trained on other chest CT before.
        dataset: ``"RSNA"`` (pulmonary embolism) or ``"LIDC"`` (nodules).
        finetune_pct: Share of the training studies that it was fine-tuned on, in percent.
        auc: AUROC.
        low: Lower end as printed.
        high: Upper end as printed.
        note: What is impossible or suspicious; empty if nothing is.
    """

    model: str
    video: bool
    ct: bool
    dataset: str
    finetune_pct: int
    auc: float
    low: float
    high: float
    note: str = ""

    @property
    def start(self) -> str:
        """What it started from: "none", "video", "CT" or "video, CT"; "image" for 2D networks."""
        first = "video" if self.model in SEVEN_3D else "image"
        return ", ".join(([first] if self.video else []) + (["CT"] if self.ct else [])) or "none"

    @property
    def constant(self) -> bool:
        """Whether all studies got the same score: nothing else has an AUROC of .5 [.5, .5]."""
        return self.auc == self.low == self.high == 0.5


def published_cells(name: str) -> list[Cell]:
    """Return the cells of a printed table.

    Args:
        name: ``"ke2023"``: table 1 of the paper on video pre-training for chest CT, 180 cells.

    Raises:
        ReportError: If no such table is here.

    Source:
        Ke et al. (2023), Medical Imaging with Deep Learning, table 1 (arXiv 2304.00546).
    """
    if name not in TABLES:
        raise ReportError(f"no published table is called {name!r}; there is {', '.join(TABLES)}.")
    place = resources.files("voxgraft.comparison.published") / TABLES[name]
    cells = [
        Cell(
            row["model"],
            row["video_or_image"] == "yes",
            row["ct"] == "yes",
            row["dataset"],
            int(row["finetune_pct"]),
            float(row["auc"]),
            float(row["lo"]),
            float(row["hi"]),
        )
        for row in csv.DictReader(place.read_text("utf-8").splitlines())
    ]
    return noted(cells)


def noted(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells with notes of what is impossible or suspicious in them."""
    widths: dict[str, list[float]] = defaultdict(list)
    twins: dict[tuple[str, int, float, float, float], list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.high > cell.low:
            widths[cell.dataset].append(cell.high - cell.low)
        if not cell.constant:
            twins[_printed(cell)].append(cell)
    usual = {dataset: statistics.median(found) for dataset, found in widths.items()}
    found = []
    for cell in cells:
        remarks = _remarks(cell, usual.get(cell.dataset, 0.0), twins[_printed(cell)])
        found.append(dataclasses.replace(cell, note="; ".join(remarks)))
    return found


def _printed(cell: Cell) -> tuple[str, int, float, float, float]:
    return cell.dataset, cell.finetune_pct, cell.auc, cell.low, cell.high


def _remarks(cell: Cell, usual_width: float, twins: Sequence[Cell]) -> list[str]:
    """Return what is wrong or odd in a cell; the impossible first."""
    if cell.constant:
        return ["constant prediction: all studies got the same score, which is no AUROC of a model"]
    remarks = []
    if cell.low > cell.high:
        remarks.append(f"impossible: the interval's lower end {cell.low:g} lies above its upper")
    if not min(cell.low, cell.high) <= cell.auc <= max(cell.low, cell.high):
        remarks.append(f"impossible: the interval does not hold its value {cell.auc:g}")
    if remarks:
        return remarks
    if cell.high - cell.low < NARROW * usual_width:
        remarks.append(
            f"interval {cell.high - cell.low:.3f} wide where {usual_width:.3f} is usual on these "
            "studies: nearly all scores alike, or a misprint"
        )
    ends = sorted([cell.auc - cell.low, cell.high - cell.auc])
    if ends[1] > LOPSIDED * ends[0]:
        remarks.append("one end is far further from the value than the other: a misprint?")
    if cell.high < 0.5:
        remarks.append("worse than chance beyond its interval: is the label or the score turned?")
    others = [
        f"{other.model}, {other.start}"
        for other in twins
        if (other.model, other.start) != (cell.model, cell.start)
    ]
    if others:
        remarks.append(f"the same value and interval as {' and '.join(others)}")
    return remarks
