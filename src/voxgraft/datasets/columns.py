"""The cells of a table: text as written, numbers, truth values, and what counts as missing."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

REQUIRED = ("case_id", "patient_id", "image")
"""Columns that every table has."""
TEXT = (*REQUIRED, "site", "split", "slice_labels", "masks", "structures", "annotated")
"""Columns that stay text, whatever they look like: ``001`` is not 1."""
MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "<NA>")
"""Cells that mean "not known" outside the text columns. ``None`` is text: it may be a class."""
_INTEGER = re.compile(r"[+-]?\d{1,18}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.IGNORECASE)
_LEADING_ZERO = re.compile(r"[+-]?0\d+")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


def as_text(value: Any) -> str:
    """Return a cell as text: ``""`` if missing, ``"1"`` for 1 and 1.0, text without outer blanks.

    Truth values become ``"False"`` and ``"True"``.
    """
    if value is None or value is pd.NA or value is pd.NaT:
        return ""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | np.integer):
        return str(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isnan(number):
            return ""
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else repr(number)
    return str(value).strip()


def text_column(values: Sequence[Any]) -> pd.Series[Any]:
    """Return cells as text, missing ones as ``""``."""
    return pd.Series([as_text(value) for value in values], dtype=object)


def typed_column(cells: Sequence[str], *, decimal_comma: bool = False) -> pd.Series[Any]:
    """Give the cells of a text file their type.

    Args:
        cells: As written.
        decimal_comma: Whether ``1,5`` means 1.5 (files with semicolons).

    Returns:
        Text if a cell is a numeral with leading zeros (a code); integers if all cells are; floats
        (missing as NaN) if all known cells are numbers; truth values if all are true/false; else
        text with None for missing.
    """
    stripped = [cell.strip() for cell in cells]
    known = [cell for cell in stripped if cell not in MISSING]
    complete = len(known) == len(stripped)
    if decimal_comma and known and any(_DECIMAL_COMMA.fullmatch(cell) for cell in known):
        dotted = [cell.replace(",", ".") for cell in stripped]
        if all(_NUMBER.fullmatch(cell) for cell in dotted if cell not in MISSING):
            stripped = dotted
            known = [cell for cell in stripped if cell not in MISSING]
    if any(_LEADING_ZERO.fullmatch(cell) for cell in known):
        return pd.Series([None if cell in MISSING else cell for cell in stripped], dtype=object)
    if known and complete and all(_INTEGER.fullmatch(cell) for cell in known):
        return pd.Series([int(cell) for cell in known], dtype=np.int64)
    if known and all(_NUMBER.fullmatch(cell) for cell in known):
        return pd.Series(
            [math.nan if cell in MISSING else float(cell) for cell in stripped], dtype=np.float64
        )
    if known and complete and all(cell.lower() in ("true", "false") for cell in known):
        return pd.Series([cell.lower() == "true" for cell in known], dtype=bool)
    if not known:
        return pd.Series([math.nan] * len(stripped), dtype=np.float64)
    return pd.Series([None if cell in MISSING else cell for cell in stripped], dtype=object)
