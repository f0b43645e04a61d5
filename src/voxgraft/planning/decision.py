"""One setting that was decided: what it is, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One setting of a training.

    Attributes:
        what: The setting (``"spacing"``).
        value: What was decided, in words.
        why: The reason; where data and start disagree, what is done about it and what it costs.
        from_data: What the data say, if anything.
        from_start: What the start's input contract says, if anything.
        differs: Whether data and start disagree.
    """

    what: str
    value: str
    why: str
    from_data: str = ""
    from_start: str = ""
    differs: bool = False


def times(values: Sequence[float]) -> str:
    """Return "2 × 1 × 1"."""
    return " × ".join(f"{value:.3g}" if value < 1000 else f"{value:.0f}" for value in values)


def gib(count: float) -> str:
    """Return bytes as "1.5 GiB"."""
    return f"{count / 2**30:.3g} GiB"
