"""How the kind and the classes of a target are read off its columns."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from voxgraft.datasets.columns import as_text
from voxgraft.errors import TableError

MAX_CLASSES = 20
"""A column with more values than this is not taken for classes without being told."""
_ORDERED_PAIRS = (
    ("false", "true"),
    ("f", "t"),
    ("no", "yes"),
    ("n", "y"),
    ("negative", "positive"),
    ("neg", "pos"),
    ("absent", "present"),
    ("benign", "malignant"),
    ("normal", "abnormal"),
    ("normal", "disease"),
    ("healthy", "disease"),
    ("healthy", "diseased"),
    ("healthy", "sick"),
    ("control", "case"),
    ("control", "patient"),
    ("controls", "cases"),
    ("alive", "dead"),
    ("low", "high"),
)
_NUMERAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def require_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse target columns that the table does not have.

    Raises:
        TableError: If one is missing; near names are suggested.
    """
    if not names:
        raise TableError("no target column is named. Name the column that is to be predicted.")
    missing = [name for name in names if name not in frame.columns]
    if not missing:
        return
    near = difflib.get_close_matches(missing[0], list(frame.columns), n=3)
    hint = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
    raise TableError(
        f"the table has no column {', '.join(map(repr, missing))}; found "
        f"{', '.join(frame.columns)}.{hint}"
    )


def column_number(cell: Any) -> float:
    """Return a cell as a float, NaN if it is no number."""
    try:
        return float(cell)
    except (TypeError, ValueError):
        return math.nan


def class_texts(column: pd.Series[Any]) -> list[str]:
    """Return the known cells of a column as class names, each once."""
    return [text for text in dict.fromkeys(as_text(cell) for cell in column.tolist()) if text]


def infer_kind(frame: pd.DataFrame, names: tuple[str, ...], classes: tuple[str, ...] | None) -> str:
    """Return the kind of target that columns hold; see ``Target.infer`` for the rule.

    Raises:
        TableError: If there is one value only, or the column is ambiguous.
    """
    if len(names) > 1:
        return _multilabel(frame, names)
    name = names[0]
    column = frame[name]
    if classes is not None:
        return "binary" if len(classes) == 2 else "multiclass"
    texts = class_texts(column)
    if not texts:
        raise TableError(f"column {name!r} is empty in all {len(frame)} cases. Fill it in.")
    if len(texts) == 1:
        raise TableError(
            f"column {name!r} is {texts[0]!r} in all cases, so there is nothing to learn. "
            "Add cases of another class (or name all classes)."
        )
    if _is_float(column, texts):
        return "regression"
    if len(texts) <= MAX_CLASSES:
        return "binary" if len(texts) == 2 else "multiclass"
    what = "whole numbers" if all(_NUMERAL.fullmatch(text) for text in texts) else "texts"
    choice = "'regression' or 'multiclass'" if what == "whole numbers" else "'multiclass'"
    raise TableError(
        f"column {name!r} holds {len(texts)} different {what}, so its kind is ambiguous (at most "
        f"{MAX_CLASSES} are taken for classes). Set kind to {choice}."
    )


def natural_order(names: tuple[str, ...], texts: Sequence[str]) -> tuple[str, ...]:
    """Return class names in their natural order.

    Raises:
        TableError: If two names differ only in case.
    """
    found = list(dict.fromkeys(texts))
    folded: dict[str, list[str]] = {}
    for text in found:
        folded.setdefault(text.casefold(), []).append(text)
    twice = [group for group in folded.values() if len(group) > 1]
    if twice:
        raise TableError(
            f"column {', '.join(names)} writes one class in several ways: "
            f"{'; '.join(' / '.join(map(repr, group)) for group in twice)}. Write each in one way."
        )
    for pair in _ORDERED_PAIRS:
        if set(folded) == set(pair):
            return tuple(folded[word][0] for word in pair)
    if all(_NUMERAL.fullmatch(text) for text in found):
        return tuple(sorted(found, key=float))
    return tuple(sorted(found, key=lambda text: (text.casefold(), text)))


def _is_float(column: pd.Series[Any], texts: list[str]) -> bool:
    """Say whether numbers are measurements: floats, unless whole only because cells are missing."""
    if not pd.api.types.is_float_dtype(column):
        return False
    if not all(re.fullmatch(r"[+-]?\d+", text) for text in texts):
        return True
    return not (set(texts) <= {"0", "1"} or bool(column.isna().any()))


def _multilabel(frame: pd.DataFrame, names: tuple[str, ...]) -> str:
    values = {text for name in names for text in class_texts(frame[name])}
    odd = [name for name in names if len(class_texts(frame[name])) > 2]
    if len(values) > 2 or odd:
        shown = ", ".join(sorted(values)[:8])
        raise TableError(
            f"several target columns ({', '.join(names)}) are a multilabel target with two values "
            f"in all of them, such as 0 and 1; found {len(values)} values ({shown}). "
            "Name one column, or write each label as 0 and 1."
        )
    return "multilabel"
