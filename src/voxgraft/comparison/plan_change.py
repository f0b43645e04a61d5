"""What of a plan may change while its comparison is under way."""

from __future__ import annotations

from pathlib import Path

from voxgraft.comparison.plan import Plan
from voxgraft.errors import RecipeError, raise_faults


def refuse_changed_plan(before: Plan, after: Plan, folder: Path) -> None:
    """Refuse to go on in a folder whose runs were made under other settings.

    More models, starts, sizes (of stages, too) and seeds may be added; whatever decides a
    run's numbers may not change.

    Raises:
        RecipeError: Naming each setting that differs.
    """
    old, new = before.to_dict(), after.to_dict()
    for plain in (old, new):
        for stage in plain["pretraining"].values():
            del stage["sizes"]
    free = {"models", "starts", "sizes", "seeds", "title", "note", "reference", "replicates"}
    free |= {"baselines", "store", "threads", "published", "keep_weights"}
    faults = [
        f"{name}: was {old.get(name)!r}, is now {new.get(name)!r}"
        for name in sorted((old.keys() | new.keys()) - free)
        if old.get(name) != new.get(name)
    ]
    for key in ("models", "starts"):
        known = {item["name"]: item for item in old[key]}
        faults += [
            f"{key}: {item['name']!r} was {known[item['name']]}, is now {item}"
            for item in new[key]
            if item["name"] in known and known[item["name"]] != item
        ]
    if faults:
        raise_faults(
            RecipeError,
            f"{folder} holds a comparison under other settings",
            faults,
            "Choose another --out for the changed plan, or delete that folder.",
        )
