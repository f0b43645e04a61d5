"""Values of DICOM elements as texts and numbers; empty ones as None, impossible ones refused."""

from __future__ import annotations

from typing import Any

import numpy as np


def text_of(value: Any) -> str:
    """Return a value as text without spaces around it; empty if there is none."""
    return "" if value is None else str(value).strip()


def is_empty(value: Any) -> bool:
    """Whether an element is not there, or has no value."""
    return value is None or (isinstance(value, str) and not value.strip())


def values_of(value: Any) -> list[Any]:
    """Return the values of an element that may have several."""
    if value is None:
        return []
    return [value] if isinstance(value, str) or not hasattr(value, "__iter__") else list(value)


def numbers_of(value: Any, count: int) -> tuple[float, ...] | None:
    """Return ``count`` finite numbers, or None if the element holds anything else."""
    values = values_of(value)
    if len(values) != count or any(is_empty(item) for item in values):
        return None
    numbers = tuple(float(item) for item in values)
    return numbers if all(np.isfinite(numbers)) else None


def length_of(*candidates: Any) -> float | None:
    """Return the first number that is there and not 0, without its sign."""
    for value in candidates:
        if not is_empty(value) and float(value) != 0.0 and np.isfinite(float(value)):
            return abs(float(value))
    return None


def integer_of(value: Any) -> int | None:
    """Return an integer that nothing depends on, or None if it is none."""
    try:
        return None if is_empty(value) else int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def finite_of(name: str, value: Any, default: float, *, zero: bool = True) -> float:
    """Return a number; ``default`` without a value.

    Raises:
        ValueError: If it is not finite, or 0 where ``zero`` says that it may not be.
    """
    number = default if is_empty(value) else float(value)
    if not np.isfinite(number) or (number == 0.0 and not zero):
        wanted = "a finite number" if zero else "a finite number other than 0"
        raise ValueError(f"{name} is {number}, expected {wanted}")
    return number
