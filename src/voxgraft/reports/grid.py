"""Networks by starts, one grid a training size, with the printed cells of a published table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from voxgraft.reports.comparison import Comparison, Point, Run
from voxgraft.reports.conclusions import FLAG, mark, supported_best
from voxgraft.reports.remarks import estimate_notes
from voxgraft.reports.several import PrintedCell
from voxgraft.reports.tables import Cell, Table, cells, heading
from voxgraft.reports.wording import ALPHA, direction, estimate_text, metric_decimals, number

TOP = "●"
"""Marks the best value of a row."""

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
        table: The same as a table, for files and the terminal.
    """

    train_size: int
    percent: float | None
    starts: list[str]
    groups: list[tuple[str, list[GridRow]]]
    table: Table = field(repr=False)


def several(comparison: Comparison) -> bool:
    """Say whether two networks or more are each tried from two starts or more."""
    tried = Counter(curve.model for curve in comparison.curves)
    return len(comparison.model_names) > 1 and sum(n > 1 for n in tried.values()) > 1


def grids(comparison: Comparison) -> list[Grid]:
    """Return a grid for each training size; none where there is one network, or one start."""
    if not several(comparison):
        return []
    percents = printed_percents(comparison)
    return [_grid(comparison, size, percents.get(size)) for size in comparison.train_sizes]


def printed_percents(comparison: Comparison) -> dict[int, float]:
    """Return the published table's percentage for each of our sizes that is that share.

    A size is a share of the train split's patients if it is less than one patient away from it.
    """
    train = comparison.data.splits.get("train")
    if comparison.published is None or train is None or not train.patients:
        return {}
    rows = [*comparison.published.cells, *comparison.published.means]
    found: dict[int, tuple[float, float]] = {}
    for percent in dict.fromkeys(row.percent for row in rows):
        share = percent / 100 * train.patients
        near = [(abs(size - share), size) for size in comparison.train_sizes]
        away, size = min(near, default=(1.0, 0))
        if away < 1 and away < found.get(size, (1.0, 0.0))[0]:
            found[size] = (away, percent)
    return {size: percent for size, (_, percent) in found.items()}


def kinds_of(comparison: Comparison) -> list[tuple[str, list[str]]]:
    """Return the networks by kind in words, 3D first; those of no known kind last."""
    names = comparison.model_names
    kinds = comparison.networks.kinds
    ordered = sorted(kinds, key=lambda kind: (kind != "3D", kind != "2D"))
    groups = [(KINDS.get(kind, kind), [n for n in names if n in kinds[kind]]) for kind in ordered]
    known = {name for _, members in groups for name in members}
    groups.append(("Other networks" if known else "", [n for n in names if n not in known]))
    return [(kind, members) for kind, members in groups if members]


def _grid(comparison: Comparison, size: int, percent: float | None) -> Grid:
    letters: dict[str, str] = {}
    starts = comparison.start_names
    groups = [
        (kind, [_row(comparison, name, size, percent, letters) for name in members])
        for kind, members in kinds_of(comparison)
    ]
    return Grid(
        train_size=size,
        percent=percent,
        starts=starts,
        groups=groups,
        table=_table(comparison, size, percent, groups, letters),
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
        printed = _printed(comparison, model, start, percent)
        shown, letter = "", ""
        if percent is not None:
            shown = "not printed"
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
        found.update(dict.fromkeys(_FLAGS.get(flag, flag) for flag in [*status, *run.flags]))
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


def _printed(
    comparison: Comparison, model: str, start: str, percent: float | None
) -> PrintedCell | None:
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


def _table(
    comparison: Comparison,
    size: int,
    percent: float | None,
    groups: list[tuple[str, list[GridRow]]],
    letters: dict[str, str],
) -> Table:
    starts = comparison.start_names
    rows: list[list[Cell]] = []
    for kind, members in groups:
        if kind:
            rows.append(heading(kind, 1 + len(starts)))
        for row in members:
            rows += _lines(row)
    for baseline in comparison.baselines:
        text = estimate_text(baseline, metric_decimals(comparison))
        rows.append([*cells(f"Baseline: {baseline.name}"), Cell(text=text, span=len(starts))])
    beside = ""
    if percent is not None and comparison.published is not None:
        share = number(percent, 0 if percent == round(percent) else 1)
        beside = f" In parentheses: printed in {comparison.published.name}, {share}%."
    task = comparison.task
    return Table(
        name=f"networks-n{size}",
        caption=f"{task.label} per {task.level} on the test split ({direction(task)}) at "
        f"N = {size:,} training patients, by network and start: estimate [low, high] "
        f"({comparison.interval_name}).{beside}",
        header=["Network", *starts],
        rows=rows,
        records=_records(comparison, size, percent),
        notes=_notes(comparison, size, groups, letters),
    )


def _lines(row: GridRow) -> list[list[Cell]]:
    """Return a row's values, below them what is wrong with runs, then the printed cells."""
    values = [
        Cell(text=f"{TOP} {cell.text}" if cell.top else cell.text, best=cell.best)
        for cell in row.cells
    ]
    lines = [[*cells(row.network), *values]]
    if any(cell.words for cell in row.cells):
        words = [f"{FLAG} {cell.words}" if cell.words else "" for cell in row.cells]
        lines.append(cells("", *words))
    if row.printed:
        printed = [f"({c.printed}){f' {c.mark}' if c.mark else ''}" for c in row.cells]
        lines.append(cells(f"  ({row.printed})", *printed))
    return lines


def _records(comparison: Comparison, size: int, percent: float | None) -> list[dict[str, object]]:
    records = []
    for kind, members in kinds_of(comparison):
        for model in members:
            for start in comparison.start_names:
                point = comparison.point(start, model, size)
                if point is None:
                    continue
                record: dict[str, object] = {"kind": kind, "model": model, "start": start}
                record |= point.model_dump() | {"metric": comparison.task.metric}
                cell = _printed(comparison, model, start, percent)
                for key in ("printed", "percent", "estimate", "low", "high", "note"):
                    name = key if key == "printed" else f"printed_{key}"
                    record[name] = None if cell is None else getattr(cell, key)
                records.append(record)
    return records


def _notes(
    comparison: Comparison,
    size: int,
    groups: list[tuple[str, list[GridRow]]],
    letters: dict[str, str],
) -> list[str]:
    shown = [cell for _, members in groups for row in members for cell in row.cells]
    notes = []
    if any(cell.top for cell in shown):
        notes.append(
            f"{TOP} the best value of its row, among starts without a flagged run: the value "
            "alone, which is no finding."
        )
    if any(cell.text.startswith(("▲", "▼")) for cell in shown):
        notes.append(
            f"▲ better, ▼ worse than {comparison.baseline_start} with the same network: the "
            "interval of the paired difference leaves out zero and its p-value after Holm's "
            f"correction is below {ALPHA}."
        )
    if any(cell.best for cell in shown):
        notes.append("Bold: supported as better than every other start with that network.")
    notes += estimate_notes(comparison, [size])
    notes += [f"{letter} Printed cell: {note}." for note, letter in letters.items()]
    if comparison.published is not None and any(cell.printed == "not printed" for cell in shown):
        notes.append("not printed: the paper has no such cell.")
    return notes
