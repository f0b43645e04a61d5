"""The rows of a small CSV file as they are written, with their line numbers."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from voxgraft.errors import TableError

_SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Rows:
    """Cells as text.

    Attributes:
        header: Names of the columns.
        rows: Each with the number of the (last) line that it stands in.
        separator: Comma, semicolon or tab.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[int, list[str]], ...]
    separator: str


def read_rows(path: Path, remedy: str) -> Rows:
    """Read a CSV file: UTF-8, with or without a byte-order mark; empty lines are passed over.

    Args:
        path: The file; semicolons and tabs are recognized by the header line.
        remedy: What to do about a file that cannot be read.

    Raises:
        TableError: If the file is missing, empty, or no CSV, or names a column twice.
    """
    if not path.is_file():
        raise TableError(f"{path}: no such file. {remedy}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = next((line for line in text.splitlines() if line.strip()), "")
        separator = max(_SEPARATORS, key=first.count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}: cannot be read as CSV (UTF-8): {error}. {remedy}") from error
    if not rows:
        raise TableError(f"{path}: is empty; expected a header line. {remedy}")
    header = tuple(name.strip() for name in rows[0][1])
    double = sorted({name for name in header if header.count(name) > 1})
    if double:
        raise TableError(
            f"{path}, line {rows[0][0]}: has the column {', '.join(map(repr, double))} twice. "
            f"{remedy}"
        )
    return Rows(header, tuple(rows[1:]), separator)
