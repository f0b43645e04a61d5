"""Whether scans are CT in Hounsfield units, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from voxgraft.planning.case_facts import CaseFacts

_AIR_HU = -500.0
"""Scans whose lowest values lie below have air in them, as CT in HU has (-1000)."""
_FAT_HU = -50.0
"""Scans without air whose lowest values lie below have fat in them, as CT in HU has (-100)."""
_LIMITS_HU = (-5000.0, 40000.0)
"""Beyond these, 0.1 and 99.9 percentiles are no Hounsfield units (padding and metal included)."""


@dataclass(frozen=True, kw_only=True)
class Modality:
    """What scans are, judged by headers and values.

    Attributes:
        kind: CT in Hounsfield units, or anything else.
        sure: ``"certain"`` where headers say it; ``"likely"`` where all values look so;
            ``"possible"`` where they look so weakly, or not in all cases.
        why: In words.
    """

    kind: Literal["ct", "other"]
    sure: Literal["certain", "likely", "possible"]
    why: str


def guess_modality(facts: Mapping[str, CaseFacts]) -> Modality:
    """Judge scans by their DICOM headers, else by their values.

    Args:
        facts: Case to what was measured; at least one.
    """
    said = {case.modality for case in facts.values()}
    if said == {"CT"}:
        return Modality(kind="ct", sure="certain", why="the DICOM headers say CT")
    if "" not in said and "CT" not in said:
        shown = ", ".join(sorted(said))
        return Modality(kind="other", sure="certain", why=f"the DICOM headers say {shown}")
    looks = {case_id: _look(case) for case_id, case in facts.items()}
    lowest = min(case.lowest for case in facts.values())
    highest = max(case.highest for case in facts.values())
    span = f"values run from {lowest:.4g} to {highest:.4g} (0.1 and 99.9 percentiles)"
    ct = [case_id for case_id, look in looks.items() if look != "other"]
    odd = [case_id for case_id in looks if (case_id in ct) != (2 * len(ct) > len(looks))]
    if odd:
        named = ", ".join(odd[:5]) + (f" and {len(odd) - 5} more" if len(odd) > 5 else "")
        kind: Literal["ct", "other"] = "ct" if 2 * len(ct) > len(looks) else "other"
        what = "do not look like CT in HU" if kind == "ct" else "look like CT in HU"
        return Modality(kind=kind, sure="possible", why=f"{span}, but {len(odd)} {what}: {named}")
    if not ct:
        why = f"{span}: not air at -1000 and fat at -100, as CT in Hounsfield units has"
        return Modality(kind="other", sure="likely" if lowest >= 0 else "possible", why=why)
    if all(look == "air" for look in looks.values()):
        return Modality(
            kind="ct", sure="likely", why=f"{span}, whole numbers, with air as in CT in HU"
        )
    return Modality(
        kind="ct", sure="possible", why=f"{span}: like CT in HU, but not all have air in them"
    )


def _look(case: CaseFacts) -> Literal["ct", "air", "other"]:
    if case.modality:
        return "air" if case.modality == "CT" else "other"
    if case.lowest < _LIMITS_HU[0] or case.highest > _LIMITS_HU[1]:
        return "other"
    if case.lowest <= _AIR_HU:
        return "air" if case.whole else "ct"
    return "ct" if case.lowest <= _FAT_HU and case.whole else "other"
