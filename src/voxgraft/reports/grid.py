"""Networks by starts, one grid a training size, with the printed cells of a published table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from voxgraft.reports.comparison import Comparison, Point, Run
from voxgraft.reports.conclusions import mark, supported_best
from voxgraft.reports.several import PrintedCell
from voxgraft.reports.wording import estimate_text, metric_decimals

TOP = "●"
"""Marks the best value of a row."""

NOT_PRINTED = "not printed"
"""Stands where the published table has the network but not this cell."""

KINDS = {"3D": "3D networks", "2D": "Networks on slices (2D)"}
"""What the networks of each kind are called."""

_FLAGS = {"constant": "constant prediction"}


@dataclass(frozen=True, kw_only=True)
class GridCell:
    """A network from one start at one size.

    Attributes:
        text: Its value with the interval, or why there is none.
        words: What is wrong with its runs; empty if nothing is.
        top: Whether its value is the best of the row.
        best: Whether it is supported as better than every other start.
        printed: The cell of the published table; empty where the comparison has no such table.
        mark: Letter of the note on the printed cell; empty if there is none.
    """

    text: str
    words: str = ""
    top: bool = False
    best: bool = False
    printed: str = ""
    mark: str = ""


@dataclass(frozen=True, kw_only=True)
class GridRow:
    """A network.

    Attributes:
        network: Our name.
        printed: The published table's name; empty if it has no such network.
        cells: One a start.
    """

    network: str
    printed: str
    cells: list[GridCell]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All networks and starts at one training size.

    Attributes:
        train_size: Training patients.
        percent: Share of the training patients in the published table; None if it has none.
        starts: Columns.
        groups: Kind of network, in words (may be empty), and its rows.
        baselines: Trivial predictors by name, with their value and interval.
        notes: Letter of each note on printed cells.
    """

    train_size: int
    percent: float | None
    starts: list[str]
    groups: list[tuple[str, list[GridRow]]]
    baselines: list[tuple[str, str]]
    notes: dict[str, str]


def several(comparison: Comparison) -> bool:
    """Say whether two networks or more are each tried from two starts or more."""
    tried = Counter(curve.model for curve in comparison.curves)
    return len(comparison.model_names) > 1 and sum(n > 1 for n in tried.values()) > 1


def grids(comparison: Comparison) -> list[Grid]:
    """Return a grid for each training size; none where there is one network, or one start."""
    if not several(comparison):
        return []
    percents = printed_percents(comparison)
    letters: dict[str, str] = {}
    return [_grid(comparison, size, percents.get(size), letters) for size in comparison.train_sizes]


def printed_percents(comparison: Comparison) -> dict[int, float]:
    """Return the published table's percentage for each of our sizes that is that share.

    A size is a share of the train split's patients if it is less than one patient away from it.
    """
    train = comparison.data.splits.get("train")
    if comparison.published is None or train is None or not train.patients:
        return {}
    percents = [cell.percent for cell in comparison.published.cells]
    percents += [mean.percent for mean in comparison.published.means]
    found: dict[int, tuple[float, float]] = {}
    for percent in dict.fromkeys(percents):
        share = percent / 100 * train.patients
        near = [(abs(size - share), size) for size in comparison.train_sizes]
        away, size = min(near, default=(1.0, 0))
        if away < 1 and away < found.get(size, (1.0, 0.0))[0]:
            found[size] = (away, percent)
    return {size: percent for size, (_, percent) in found.items()}


def kind_rank(kind: str) -> int:
    """Return the place of a kind in a sequence: 3D, then 2D, then others."""
    return ["3D", "2D"].index(kind) if kind in ("3D", "2D") else 2


def kinds_of(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Return the networks by kind in words, 3D first; those of no known kind last."""
    names = comparison.model_names
    kinds = comparison.networks.kinds
    ordered = sorted(kinds, key=kind_rank)
    groups = [(KINDS.get(kind, kind), [n for n in names if n in kinds[kind]]) for kind in ordered]
    known = {name for _, members in groups for name in members}
    groups.append(("Other networks" if known else "", [n for n in names if n not in known]))
    return [(kind, members) for kind, members in groups if members]


def _grid(
    comparison: Comparison, size: int, percent: float | None, letters: dict[str, str]
) -> Grid:
    starts = comparison.start_names
    groups = [
        (kind, [_row(comparison, name, size, percent, letters) for name in members])
        for kind, members in kinds_of(comparison)
    ]
    used = {cell.mark for _, rows in groups for row in rows for cell in row.cells}
    return Grid(
        train_size=size,
        percent=percent,
        starts=starts,
        groups=groups,
        baselines=[
            (baseline.name, estimate_text(baseline, metric_decimals(comparison)))
            for baseline in comparison.baselines
        ],
        notes={letter: note for note, letter in letters.items() if letter in used},
    )


def _row(
    comparison: Comparison,
    model: str,
    size: int,
    percent: float | None,
    letters: dict[str, str],
) -> GridRow:
    decimals = metric_decimals(comparison)
    best = supported_best(comparison, model, size)
    tops = _tops(comparison, model, size)
    names, row = [], []
    for start in comparison.start_names:
        point = comparison.point(start, model, size)
        text, words = _ours(comparison, start, model, size, point, decimals)
        printed = printed_cell(comparison, model, start, percent)
        shown, letter = "", ""
        if percent is not None:
            shown = NOT_PRINTED
            if printed is not None:
                names.append(printed.printed)
                shown = estimate_text(printed, 3)
                if printed.note:
                    letter = letters.setdefault(printed.note, _letter(len(letters)))
        row.append(
            GridCell(
                text=text,
                words=words,
                top=start in tops,
                best=start == best,
                printed=shown,
                mark=letter,
            )
        )
    if not names:  # a network that the paper has not: one word in the name's cell is enough
        row = [GridCell(text=c.text, words=c.words, top=c.top, best=c.best) for c in row]
    return GridRow(network=model, printed=next(filter(None, names), ""), cells=row)


def _ours(
    comparison: Comparison,
    start: str,
    model: str,
    size: int,
    point: Point | None,
    decimals: int,
) -> tuple[str, str]:
    """Return a cell's value, or why there is none, and what is wrong with its runs."""
    runs = [r for r in comparison.runs if (r.start, r.model, r.train_size) == (start, model, size)]
    words = _wrong(runs) or ("; ".join(point.flagged) if point is not None else "")
    if point is not None and point.estimate is not None:
        return mark(comparison, start, model, size) + estimate_text(point, decimals), words
    if words:
        return "no value", words
    if point is not None:
        return "no value", point.why or "no run has been scored"
    tried = any((c.start, c.model) == (start, model) and c.points for c in comparison.curves)
    return ("not tried at this size" if tried else "not tried"), ""


def _wrong(runs: Sequence[Run]) -> str:
    """Return how many runs have each flag: "1 of 3 runs: constant prediction"."""
    found: Counter[str] = Counter()
    for run in runs:
        status = [] if run.status == "finished" else [run.status]
        found.update({_FLAGS.get(flag, flag): 1 for flag in [*status, *run.flags]})
    if len(runs) == 1:
        return "; ".join(found)
    return "; ".join(f"{n} of {len(runs)} runs: {flag}" for flag, n in found.items())


def _tops(comparison: Comparison, model: str, size: int) -> list[str]:
    """Return the starts with the best value of a network, none if all are alike or flagged."""
    values = {}
    for start in comparison.start_names:
        point = comparison.point(start, model, size)
        if point is not None and point.estimate is not None and not point.flagged:
            values[start] = point.estimate
    if len(set(values.values())) < 2:
        return []
    best = max if comparison.task.higher_is_better else min
    return [start for start, value in values.items() if value == best(values.values())]


def printed_cell(
    comparison: Comparison, model: str, start: str, percent: float | None
) -> PrintedCell | None:
    """Return the published cell of a network, start and percentage; None if there is none."""
    if comparison.published is None or percent is None:
        return None
    for cell in comparison.published.cells:
        if (cell.model, cell.start, cell.percent) == (model, start, percent):
            return cell
    return None


def _letter(n: int) -> str:
    """Return a, b, ..., z, aa, ab, ..."""
    text = ""
    while n >= 0:
        text = chr(ord("a") + n % 26) + text
        n = n // 26 - 1
    return text
