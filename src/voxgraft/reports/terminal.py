"""The conclusions of a comparison for a terminal, and as plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxgraft.reports.comparison import Comparison
from voxgraft.reports.conclusions import estimates_table, needed_text, saved_text
from voxgraft.reports.reading import parse_comparison
from voxgraft.reports.tables import Cell, Table
from voxgraft.reports.wording import ABSENT

if TYPE_CHECKING:
    from rich.console import RenderableType

NO_ANSWER = "No conclusion: the comparison holds no verdict yet."


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
    table = estimates_table(parsed)
    shown = RichTable(box=box.SIMPLE_HEAD, caption_justify="left", pad_edge=False)
    for n, heading in enumerate(table.header):
        shown.add_column(Text(heading), justify="left" if n < table.text_columns else "right")
    for row in table.rows:
        texts = []
        for cell in row:
            style = "bold" if cell.best or cell.group else ""
            texts += [Text(cell.text, style=style)] + [Text(_ditto(cell))] * (cell.span - 1)
        shown.add_row(*texts)
    parts: list[RenderableType] = [Text(parsed.answer or NO_ANSWER, style="bold"), Text()]
    parts.append(Text(table.caption))
    parts.append(shown)
    parts += [Text(note) for note in table.notes]
    parts += [Text(f"Label savings: {line}") for line in savings_lines(parsed)]
    parts += [Text(f"Overlap: {line}", style="bold") for line in overlap_lines(parsed)]
    parts.append(Text(f"Runs: {run_counts(parsed)}."))
    return Group(*parts)


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
    table = estimates_table(parsed)
    lines = [parsed.answer or NO_ANSWER, "", table.caption, "", *_aligned(table), ""]
    lines += table.notes
    lines += [f"Label savings: {line}" for line in savings_lines(parsed)]
    lines += [f"Overlap: {line}" for line in overlap_lines(parsed)]
    lines.append(f"Runs: {run_counts(parsed)}.")
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
