"""What a class scores where there is nothing to compare: the one place that says so.

| reference | prediction | overlap and surface Dice | distances | volumes |
|---|---|---|---|---|
| has it | has it | computed | computed | computed |
| has it | empty | all 0; precision undefined | undefined | computed |
| empty | has it | all 0; recall undefined | undefined | no relative |
| empty | empty | undefined | undefined | error undefined |
| not annotated | anything | undefined | undefined | undefined |

Undefined is NaN with a reason; a mean leaves it out and says how often. A class that both lack is
not a success worth 1, and a missed one has no distance: a table of distances alone flatters a
network that misses, so look at how many cases it left out. A class that was not annotated in a case
is unknown there and never scored, whatever was predicted.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Literal

Presence = Literal["both", "reference", "prediction", "neither", "unknown"]
"""Where a class is: in both masks, in one only, in neither, or not annotated in the case."""

OVERLAPS = ("dice", "iou", "precision", "recall", "surface_dice")
DISTANCES = ("hausdorff95_mm", "hausdorff_mm", "assd_mm")
VOLUMES = ("reference_ml", "predicted_ml", "volume_error_ml", "relative_volume_error")
SCORES: tuple[str, ...] = (*OVERLAPS, *DISTANCES, *VOLUMES)
"""Every number of a case and class, in the order in which a table shows them."""

REASONS = MappingProxyType(
    {
        "reference": "class not predicted",
        "prediction": "class absent in the reference",
        "neither": "class absent in both",
        "unknown": "class not annotated in the case",
    }
)

_UNDEFINED: dict[Presence, tuple[str, ...]] = {
    "both": (),
    "reference": ("precision", *DISTANCES),
    "prediction": ("recall", *DISTANCES, "relative_volume_error"),
    "neither": (*OVERLAPS, *DISTANCES, "volume_error_ml", "relative_volume_error"),
    "unknown": SCORES,
}


def presence_of(*, in_reference: bool, in_prediction: bool, annotated: bool = True) -> Presence:
    """Return where a class is."""
    if not annotated:
        return "unknown"
    if in_reference:
        return "both" if in_prediction else "reference"
    return "prediction" if in_prediction else "neither"


def undefined_scores(presence: Presence) -> dict[str, str]:
    """Return the scores that are undefined, each with its reason."""
    return dict.fromkeys(_UNDEFINED[presence], REASONS.get(presence, ""))
