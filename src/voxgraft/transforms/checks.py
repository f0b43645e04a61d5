"""Whether a setting is a number, and how impossible settings are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeGuard

import numpy as np

from voxgraft.errors import PreprocessingError, raise_faults


def is_number(value: object, largest: float = 1e30) -> TypeGuard[float]:
    """Return whether a value is a finite real number below a size; True and False are none."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return bool(-largest < value < largest)


def is_whole(value: object) -> TypeGuard[int]:
    """Return whether a value is a whole number of an integer type."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def number_faults(where: str, values: Mapping[str, object]) -> list[str]:
    """Return a fault for each value that is no finite number, named by setting."""
    return [
        f"{where}.{name} is {value!r}. Expected a finite number."
        for name, value in values.items()
        if not is_number(value)
    ]


def raise_if(faults: list[str], remedy: str) -> None:
    """Refuse an intensity setting if it has faults.

    Raises:
        PreprocessingError: Naming all of them.
    """
    if faults:
        raise_faults(PreprocessingError, "the intensity setting is impossible", faults, remedy)
