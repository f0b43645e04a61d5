"""What is predicted for the cases of a table, whoever predicts it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from voxgraft.inference.scoring.probabilities import SeenProbabilities
from voxgraft.inference.segmented import SegmentedScan


@dataclass(frozen=True, eq=False)
class Predicted:
    """What was predicted for one case.

    Attributes:
        scan: On the scan's own grid, with the classes that are scored.
        probabilities: Of the classes that were asked for; None if there are none.
        notes: What is to be known of it.
    """

    scan: SegmentedScan
    probabilities: SeenProbabilities | None = None
    notes: tuple[str, ...] = field(default=())


class Predictions(Protocol):
    """Predictions of a table's cases."""

    classes: tuple[str, ...]
    """Structures of the table that are scored, in order."""
    notes: tuple[str, ...]
    """What is to be known of all of them."""

    def digest(self, case_id: str) -> str:
        """Return what tells a case's prediction from another."""
        ...

    def read(self, case_id: str) -> Predicted:
        """Return a case's prediction."""
        ...


def left_out(predicted: Sequence[str], drawn: Sequence[str], *, by: str) -> tuple[str, ...]:
    """Return what is not scored, in words.

    Args:
        predicted: Classes that the table has no masks of.
        drawn: Structures that are not predicted.
        by: What does not predict them.
    """
    notes = []
    if predicted:
        notes.append(f"not scored, as the table has no masks of it: {', '.join(predicted)}")
    if drawn:
        notes.append(f"not scored, as it is not predicted by {by}: {', '.join(drawn)}")
    return tuple(notes)
