"""A table once, written as HTML, CSV, LaTeX and Markdown.

What people read (``rows``) is rounded; what programs read (``records``) keeps full precision.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from voxgraft.files import write_text


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a table.

    Attributes:
        text: What it shows.
        best: Shown in bold.
        span: How many columns it fills.
        group: Whether it heads the rows below it; then it is alone in its row.
    """

    text: str
    best: bool = False
    span: int = 1
    group: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a report.

    Attributes:
        name: Stem of its files.
        caption: One or two sentences that make it stand alone.
        header: Headings of the columns.
        rows: Cells as people read them; a row's spans add up to the header's length.
        records: The same numbers, unrounded, a mapping for each line of the CSV.
        text_columns: How many columns, from the left, hold text (the others align right).
        notes: Lines under the table: reasons, marks.
        prose: Whether the last column holds sentences, which may wrap.
    """

    name: str
    caption: str
    header: list[str]
    rows: list[list[Cell]]
    records: list[dict[str, Any]]
    text_columns: int = 1
    notes: list[str] = field(default_factory=list)
    prose: bool = False


def heading(text: str, columns: int) -> list[Cell]:
    """Return a row that heads the rows below it, over so many columns."""
    return [Cell(text=text, span=columns, group=True)]


def cells(*texts: str) -> list[Cell]:
    """Return a row of plain cells."""
    return [Cell(text=text) for text in texts]


def to_csv(table: Table) -> str:
    """Return the records as CSV; a number keeps its full precision, null is empty."""
    columns = list(dict.fromkeys(key for record in table.records for key in record))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for record in table.records:
        writer.writerow([_plain(record.get(column)) for column in columns])
    return buffer.getvalue()


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def to_markdown(table: Table) -> str:
    """Return the rows as a Markdown table, with the caption above and the notes below."""
    lines = [_markdown_text(table.caption), ""]
    lines.append("| " + " | ".join(_markdown_text(text) for text in table.header) + " |")
    marks = [
        "---" if index < table.text_columns or (table.prose and index == len(table.header) - 1)
        else "---:"
        for index in range(len(table.header))
    ]  # fmt: skip
    lines.append("| " + " | ".join(marks) + " |")
    for row in table.rows:
        shown = []
        for cell in row:
            text = _markdown_text(cell.text)
            text = f"**{text}**" if cell.best or cell.group else text
            shown += [text] + ["" if cell.group else text] * (cell.span - 1)
        lines.append("| " + " | ".join(shown) + " |")
    lines += [""] + [f"{_markdown_text(note)}  " for note in table.notes]
    return "\n".join(lines).rstrip() + "\n"


def _markdown_text(text: str) -> str:
    for character in "\\`*_|<":
        text = text.replace(character, "\\" + character)
    return " ".join(text.split())


_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", "[": "{[}", "]": "{]}",
    "*": "{*}", '"': "''", "−": "$-$", "×": r"$\times$", "±": r"$\pm$",
    "≥": r"$\geq$", "≤": r"$\leq$", "▲": r"$\blacktriangle$", "▼": r"$\blacktriangledown$",
    "—": "---", "–": "--", "…": r"\dots{}", "·": r"\textperiodcentered{}", "°": r"\textdegree{}",
    "†": r"\textdagger{}", "✓": r"$\checkmark$", "←": r"$\leftarrow$", "→": r"$\rightarrow$",
    "ρ": r"$\rho$", "⁻": r"\textsuperscript{--}", "\u00a0": "~",
}  # fmt: skip
_LATEX |= {digit: rf"\textsuperscript{{{n}}}" for n, digit in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")}


def latex_text(text: str) -> str:
    """Return text escaped for LaTeX (UTF-8; with booktabs, amssymb and textcomp)."""
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))


def to_latex(table: Table) -> str:
    """Return the rows as a LaTeX table environment (packages: booktabs, amssymb)."""
    columns = ["l" if n < table.text_columns else "r" for n in range(len(table.header))]
    if table.prose:
        columns[-1] = r"p{0.4\linewidth}"
    lines = [
        "% Needs \\usepackage{booktabs,amssymb}; made by Voxgraft.",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{{''.join(columns)}}}",
        r"\toprule",
        " & ".join(latex_text(text) for text in table.header) + r" \\",
        r"\midrule",
    ]
    for row in table.rows:
        shown = []
        for cell in row:
            text = latex_text(cell.text)
            text = rf"\textbf{{{text}}}" if cell.best or cell.group else text
            side = "l" if cell.group else "c"
            if cell.span > 1:
                text = rf"\multicolumn{{{cell.span}}}{{{side}}}{{{text}}}"
            shown.append(text)
        lines.append(" & ".join(shown) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par\smallskip\footnotesize {latex_text(note)}" for note in table.notes]
    lines.append(r"\end{table}")
    return "\n".join(lines) + "\n"


def write_table(table: Table, folder: Path) -> None:
    """Write ``NAME.csv``, ``NAME.tex`` and ``NAME.md`` into ``folder``."""
    write_text(folder / f"{table.name}.csv", to_csv(table))
    write_text(folder / f"{table.name}.tex", to_latex(table))
    write_text(folder / f"{table.name}.md", to_markdown(table))
