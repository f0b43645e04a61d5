"""The conclusions of a comparison for a terminal, and as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxgraft.reports.comparison import Comparison
from voxgraft.reports.conclusions import estimates_table, needed_text, saved_text
from voxgraft.reports.grid import grids
from voxgraft.reports.grid_table import grid_notes, grid_table
from voxgraft.reports.networks import best_lines, headline, mean_lines, rests_on
from voxgraft.reports.reading import parse_comparison
from voxgraft.reports.tables import Cell, Table
from voxgraft.reports.wording import ABSENT, plural

if TYPE_CHECKING:
    from rich.console import RenderableType

NO_ANSWER = "No conclusion: the comparison holds no verdict yet."

FEW = 8
"""So many label savings are said one by one."""


def savings_lines(comparison: Comparison) -> list[str]:
    """Return a sentence for each label saving."""
    lines = []
    for saving in comparison.label_savings:
        text = saving.text
        if not text:
            text = f"{saving.start} against {saving.against}: {needed_text(saving)} patients needed"
            if saved_text(saving) != ABSENT:
                text += f", {saved_text(saving)} of the labels saved"
            text += f" ({saving.reason})" if saving.reason else ""
        lines.append(text)
    return lines


def overlap_lines(comparison: Comparison) -> list[str]:
    """Return a sentence for each start that has seen the test data, or may have."""
    marks = tuple(f"{start}: " for start in comparison.data.overlap_flags)
    return [line for line in comparison.data.overlap if marks and line.startswith(marks)]


def run_counts(comparison: Comparison) -> str:
    """Return how many runs finished, failed and diverged, in words."""
    parts = []
    for status in ("finished", "diverged", "failed"):
        n = sum(run.status == status for run in comparison.runs)
        if n:
            parts.append(f"{n:,} {status}")
    flagged = sum(bool(run.flags) for run in comparison.runs)
    text = ", ".join(parts) or "none"
    return f"{text}; {flagged:,} flagged" if flagged else text


def comparison_table(comparison: dict[str, Any]) -> RenderableType:
    """Return the sentence, the table of starts by sizes, and the savings, for a rich console.

    Args:
        comparison: What ``comparison.json`` holds.

    Raises:
        ReportError: If it is not a comparison.
    """
    from rich import box
    from rich.console import Group
    from rich.table import Table as RichTable
    from rich.text import Text

    parsed = parse_comparison(comparison, "the comparison")
    parts: list[RenderableType] = [Text(line, style="bold") for line in _answers(parsed)]
    parts.append(Text())
    for table in _tables(parsed):
        shown = RichTable(box=box.SIMPLE_HEAD, caption_justify="left", pad_edge=False)
        for n, heading in enumerate(table.header):
            shown.add_column(Text(heading), justify="left" if n < table.text_columns else "right")
        for row in table.rows:
            texts = []
            for cell in row:
                style = "bold" if cell.best or cell.group else ""
                texts += [Text(cell.text, style=style)] + [Text(_ditto(cell))] * (cell.span - 1)
            shown.add_row(*texts)
        parts += [Text(table.caption), shown]
    for line in _notes(parsed):
        parts.append(Text(line, style="bold" if line.startswith("Overlap: ") else ""))
    return Group(*parts)


def _answers(comparison: Comparison) -> list[str]:
    """Return the conclusions: over networks where there are several, or else the answer."""
    over = headline(comparison)
    lines = over or [comparison.answer or NO_ANSWER]
    lines += best_lines(comparison)
    if over and comparison.statements:
        n = len(comparison.statements)
        lines.append(f"The report has {plural(n, 'finding')} on single networks.")
    return lines


def _tables(comparison: Comparison) -> list[Table]:
    found = [grid_table(comparison, grid) for grid in grids(comparison)]
    return found or [estimates_table(comparison)]


def _notes(comparison: Comparison) -> list[str]:
    """Return what stands below the tables."""
    shown = grids(comparison)
    lines = grid_notes(comparison, shown) if shown else estimates_table(comparison).notes
    if comparison.networks.means:
        lines = [*lines, *(f"Mean over {line}." for line in mean_lines(comparison))]
        lines.append(rests_on(comparison))
    savings = savings_lines(comparison)
    if len(savings) > FEW:
        reached = sum(saving.reached is True for saving in comparison.label_savings)
        lines.append(
            f"Label savings: {reached} of {len(savings)} networks and starts reach the "
            "reference's value at the sizes tried; the report has each."
        )
    else:
        lines += [f"Label savings: {line}" for line in savings]
    lines += [f"Overlap: {line}" for line in overlap_lines(comparison)]
    return [*lines, f"Runs: {run_counts(comparison)}."]


def _ditto(cell: Cell) -> str:
    return "" if cell.group else "″"


def plain_text_summary(comparison: dict[str, Any]) -> str:
    """Return the sentence, the table of starts by sizes, and the savings, as plain text.

    Args:
        comparison: What ``comparison.json`` holds.

    Raises:
        ReportError: If it is not a comparison.
    """
    parsed = parse_comparison(comparison, "the comparison")
    lines = [*_answers(parsed), ""]
    for table in _tables(parsed):
        lines += [table.caption, "", *_aligned(table), ""]
    lines += _notes(parsed)
    return "\n".join(lines) + "\n"


def _aligned(table: Table) -> list[str]:
    rows = [table.header]
    for line in table.rows:
        texts: list[str] = []
        for cell in line:
            texts += [" ".join(cell.text.split())] + [_ditto(cell)] * (cell.span - 1)
        rows.append(texts)
    widths = [max(len(row[n]) for row in rows) for n in range(len(table.header))]
    lines = []
    for row in rows:
        shown = [
            text.ljust(width) if n < table.text_columns else text.rjust(width)
            for n, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(shown).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return lines
