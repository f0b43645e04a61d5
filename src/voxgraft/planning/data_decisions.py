"""What is decided from masks, names and the device alone: outputs, flips, precision, decoder."""

from __future__ import annotations

from collections.abc import Sequence

from voxgraft.planning.decision import Decision
from voxgraft.planning.fingerprint import DataFingerprint


def about_precision(precision: str, device: str) -> Decision:
    """Say why a training has its precision."""
    why = "bfloat16 halves activations and needs no scaling of the loss"
    if precision == "no":
        why = f"this device ({device}) is not taken to compute in bfloat16 fast"
    return Decision(what="precision", value=precision, why=why)


def about_overlap(data: DataFingerprint) -> Decision:
    """Say why structures share a softmax, or have a sigmoid each."""
    cases = data.overlapping
    if not cases:
        return Decision(
            what="outputs",
            value="one softmax",
            why="structures share no voxel in any case",
            from_data="no overlap",
        )
    more = f" and {len(cases) - 3} more" if len(cases) > 3 else ""
    return Decision(
        what="outputs",
        value="a sigmoid each",
        why=f"structures share voxels in {', '.join(cases[:3])}{more}",
        from_data=f"overlap in {len(cases)} of {data.cases} cases",
    )


def about_annotations(data: DataFingerprint, count: int) -> list[Decision]:
    """Say how many cases leave structures unknown; nothing if none does."""
    partly = sum(cases for names, cases in data.annotations.items() if len(names.split()) < count)
    if not partly:
        return []
    return [
        Decision(
            what="annotations",
            value=f"{partly} of {data.cases} cases annotate some structures only",
            why="what a case does not annotate is unknown there: it teaches nothing, and is no "
            "background",
            from_data="; ".join(f"{n} cases: {names}" for names, n in data.annotations.items()),
        )
    ]


def is_sided(names: Sequence[str]) -> bool:
    """Return whether names say left or right, so that a mirrored body would be wrong."""
    return any({"left", "right"} & set(name.split("_")) for name in names)


def about_flips(names: Sequence[str]) -> Decision:
    """Say why bodies are mirrored, or not."""
    if not is_sided(names):
        return Decision(
            what="flips", value="left-right", why="no structure's name says left or right"
        )
    return Decision(
        what="flips",
        value="none",
        why="a mirrored body would have its left structures named right",
        from_data="structures are named left or right",
    )
