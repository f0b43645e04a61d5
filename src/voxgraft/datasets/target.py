"""What is to be predicted: its kind, its columns, and its classes in order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float

from voxgraft.datasets.columns import as_text
from voxgraft.datasets.target_rules import (
    MAX_CLASSES,
    class_texts,
    column_number,
    infer_kind,
    natural_order,
    require_columns,
)
from voxgraft.errors import TableError, raise_faults
from voxgraft.types import Json

MASKS = "masks"
"""Column of a table with the masks of each case, and of a segmentation's target."""

Kind = Literal["binary", "multiclass", "multilabel", "regression", "segmentation"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """What is to be predicted of a case.

    Attributes:
        kind: ``"binary"``, ``"multiclass"``, ``"multilabel"``, ``"regression"`` or
            ``"segmentation"``.
        columns: Column of the table; for multilabel, one column a label; for segmentation,
            ``masks``.
        classes: Names in order, as text. Binary: (negative, positive); multilabel: the values
            that mean (absent, present); regression: none; segmentation: the structures, without
            background.
        unit: Unit of a regression target (``"years"``).
    """

    kind: Kind
    columns: tuple[str, ...]
    classes: tuple[str, ...] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "classes", tuple(as_text(name) for name in self.classes))
        if self.kind not in get_args(Kind):
            raise TableError(
                f"target kind is {self.kind!r}; expected one of {', '.join(get_args(Kind))}."
            )
        if not self.columns or len(set(self.columns)) != len(self.columns):
            raise TableError(f"target columns are {self.columns}; expected one or more, each once.")
        if self.kind != "multilabel" and len(self.columns) != 1:
            raise TableError(
                f"a {self.kind} target has one column, found {', '.join(self.columns)}. "
                "Several columns of 0/1 are a multilabel target."
            )
        if self.kind == "segmentation" and self.columns != (MASKS,):
            raise TableError(
                f"a segmentation target has the column {MASKS!r}, found {self.columns[0]!r}. "
                "Name the structures as its classes."
            )
        self._check_classes()

    def _check_classes(self) -> None:
        count = len(self.classes)
        wanted = {"binary": count == 2, "multilabel": count == 2, "regression": count == 0}
        wanted["segmentation"] = count >= 1
        if not wanted.get(self.kind, count >= 2):
            expected = {
                "multiclass": "two or more",
                "regression": "none",
                "segmentation": "one or more",
            }.get(self.kind, "two")
            raise TableError(
                f"a {self.kind} target over {', '.join(self.columns)} has {count} classes "
                f"{self.classes}; expected {expected}. Name all classes, in order."
            )
        if len(set(self.classes)) != count or "" in self.classes:
            raise TableError(f"classes are {self.classes}; expected each name once, none empty.")

    @classmethod
    def infer(
        cls,
        frame: pd.DataFrame,
        columns: str | Sequence[str],
        kind: str | None = None,
        classes: Sequence[Any] | None = None,
        unit: str = "",
    ) -> Target:
        """Find out what kind of target the columns hold.

        A text or integer column with 2 values is binary, with 3 to 20 multiclass; floats are
        regression; several columns of two common values (0/1) are multilabel. Missing cells are
        ignored. Classes are in natural order (False < True, 0 < 1, no < yes, benign < malignant,
        numbers by size, else by the alphabet), so the second of two is the positive one.

        Args:
            frame: The table's rows.
            columns: One column name or several.
            kind: Kind to take instead of the inferred one.
            classes: Classes in order, instead of those found; values outside them are refused
                by :meth:`encode`.
            unit: Unit of a regression target.

        Raises:
            TableError: If a column is missing, holds one value only, or is ambiguous.
        """
        names = (columns,) if isinstance(columns, str) else tuple(columns)
        require_columns(frame, names)
        if kind == "segmentation" or (kind is None and names == (MASKS,)):
            if not classes:
                raise TableError(
                    "a segmentation's classes are names of structures, which the rows do not hold. "
                    "Name them (structure_names lists those of a table)."
                )
            return cls(kind="segmentation", columns=names, classes=tuple(classes))
        if kind is not None and kind not in get_args(Kind):
            raise TableError(
                f"target kind is {kind!r}; expected one of {', '.join(get_args(Kind))}."
            )
        given = None if classes is None else tuple(as_text(name) for name in classes)
        found = kind or infer_kind(frame, names, given)
        if found == "regression":
            if given:
                raise TableError(
                    f"a regression target has no classes, found {given}. "
                    "Leave them out, or set kind to binary or multiclass."
                )
            return cls(kind="regression", columns=names, unit=unit)
        if given is None:
            texts = [text for name in names for text in class_texts(frame[name])]
            given = natural_order(names, texts)
            if found == "multilabel" and set(given) <= {"0", "1"}:
                given = ("0", "1")
        if found == "multiclass" and len(given) > 50 * MAX_CLASSES:
            raise TableError(
                f"column {names[0]!r} has {len(given)} classes. Is it a name or an id?"
            )
        return cls(kind=found, columns=names, classes=given)  # type: ignore[arg-type]

    @property
    def positive(self) -> str:
        """The class whose probability a binary score is.

        Raises:
            TableError: If the target is not binary.
        """
        if self.kind != "binary":
            raise TableError(f"a {self.kind} target has no positive class.")
        return self.classes[1]

    def describe(self) -> str:
        """Return one line for people: kind, columns, classes in order, the positive one."""
        names = ", ".join(self.columns)
        if self.kind == "binary":
            return f"binary {names}: {self.classes[1]!r} (positive) against {self.classes[0]!r}"
        if self.kind == "multiclass":
            return f"multiclass {names}: {', '.join(map(repr, self.classes))}"
        if self.kind == "segmentation":
            return f"segmentation of {', '.join(self.classes)}"
        if self.kind == "multilabel":
            return f"multilabel {names}: {self.classes[1]!r} means present"
        return f"regression {names}{f' ({self.unit})' if self.unit else ''}"

    def encode(self, frame: pd.DataFrame) -> Float[np.ndarray, "n k"]:
        """Return targets as numbers.

        Args:
            frame: Rows with the target columns.

        Returns:
            (n, 1): 0 or 1 for binary, class index for multiclass, the value for regression;
            (n, columns) of 0 and 1 for multilabel.

        Raises:
            TableError: If a value is missing, not a number, or no class; all cases are named. Or
                if the target is a segmentation, whose masks are no numbers.
        """
        if self.kind == "segmentation":
            raise TableError(
                "a segmentation's target is masks, not numbers of a case. Read them with "
                "read_masks; known_structures says which structures each case annotates."
            )
        require_columns(frame, self.columns)
        values, faults = self.encode_known(frame)
        if faults:
            ids = frame["case_id"].tolist() if "case_id" in frame else list(range(len(frame)))
            raise_faults(
                TableError,
                f"target {', '.join(self.columns)} cannot be used",
                [f"case {ids[row]}: {message}" for row, message in faults],
                "Correct these cells, or remove the cases.",
            )
        return values

    def encode_known(
        self, frame: pd.DataFrame
    ) -> tuple[Float[np.ndarray, "n k"], list[tuple[int, str]]]:
        """Return targets, NaN where they cannot be used, and (row, reason) for each of those.

        A segmentation has a row of NaN for each case, and no reasons: ``check_table`` looks at
        the masks themselves.
        """
        if self.kind == "segmentation":
            return np.full((len(frame), 1), math.nan), []
        values = np.full((len(frame), len(self.columns)), math.nan)
        faults: list[tuple[int, str]] = []
        index = {name: float(position) for position, name in enumerate(self.classes)}
        for place, column in enumerate(self.columns):
            for row, cell in enumerate(frame[column].tolist()):
                text = as_text(cell)
                if text == "":
                    faults.append((row, f"{column} is missing"))
                elif self.kind == "regression":
                    number = column_number(cell)
                    values[row, place] = number
                    if not math.isfinite(number):
                        faults.append((row, f"{column} is {text!r}, expected a finite number"))
                        values[row, place] = math.nan
                elif text in index:
                    values[row, place] = index[text]
                else:
                    known = ", ".join(map(repr, self.classes[:12]))
                    faults.append((row, f"{column} is {text!r}, no class; expected {known}"))
        return values, sorted(faults)

    def decode(self, encoded: Float[np.ndarray, "n k"]) -> list[list[str]]:
        """Return names for encoded targets: for each row, the class of each column.

        Regression values are written as numbers.
        """
        rows = np.asarray(encoded, dtype=np.float64).reshape(-1, len(self.columns))
        if self.kind == "regression":
            return [[f"{value:g}" for value in row] for row in rows]
        return [[self.classes[round(value)] for value in row] for row in rows]

    def to_dict(self) -> Json:
        """Return a JSON object that :meth:`from_dict` reads."""
        return {
            "kind": self.kind,
            "columns": list(self.columns),
            "classes": list(self.classes),
            "unit": self.unit,
        }

    @classmethod
    def from_dict(cls, value: Json) -> Target:
        """Return the target of a JSON object.

        Raises:
            TableError: If keys are missing or unknown.
        """
        known = {"kind", "columns", "classes", "unit"}
        if not {"kind", "columns"} <= set(value) <= known:
            raise TableError(
                f"a target has keys {', '.join(sorted(value))}; expected kind, columns, classes, "
                "unit."
            )
        return cls(
            kind=value["kind"],
            columns=tuple(value["columns"]),
            classes=tuple(value.get("classes", ())),
            unit=value.get("unit", ""),
        )
