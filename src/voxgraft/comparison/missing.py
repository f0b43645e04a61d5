"""Leave out the starts of a plan whose weights are neither here nor to be fetched."""

from __future__ import annotations

import dataclasses

from voxgraft.comparison.plan import Plan
from voxgraft.errors import FetchError, raise_faults
from voxgraft.grafting import find_source
from voxgraft.types import Json
from voxgraft.weights import fetch_source


def without_missing(plan: Plan) -> tuple[Plan, list[str]]:
    """Return a plan without the starts (on a network) whose files cannot be had.

    Files that can be fetched are fetched now. What is left out stands in the plan's note, so that
    the report says it.

    Returns:
        The plan, and what was left out, with how to get it.

    Raises:
        FetchError: If nothing is left but starts from scratch, or the reference is not.
    """
    reasons: dict[str, str] = {}
    for start in plan.starts:
        for source in plan.sources_of(start):
            if source not in reasons:
                try:
                    fetch_source(find_source(source))
                except FetchError as error:
                    reasons[source] = str(error)
                else:
                    reasons[source] = ""
    told: list[str] = []
    starts, sources = [], dict(plan.sources)
    for start in plan.starts:
        wanted = plan.sources_of(start)
        absent = [source for source in wanted if reasons[source]]
        told += [f"{start.name} is left out: {reasons[source]}" for source in absent]
        if start.name in sources:
            known = {n: s for n, s in sources[start.name].items() if not reasons[s]}
            sources[start.name] = known
            if known:
                starts.append(start)
        elif not absent:
            starts.append(start)
    kept = {start.name for start in starts}
    if not told:
        return plan, []
    if all(plan.is_scratch(start) for start in starts) or (
        plan.reference is not None and plan.reference not in kept
    ):
        raise_faults(
            FetchError,
            "no comparison is left without the starts that cannot be had here",
            [reason for reason in reasons.values() if reason],
            "Fetch them as said, or name others.",
        )
    without = [
        f"{start.name} ({', '.join(s for s in plan.sources_of(start) if reasons[s])})"
        for start in plan.starts
        if any(reasons[source] for source in plan.sources_of(start))
    ]
    note = f"Left out, since the files could not be had: {'; '.join(without)}."
    changed: Json = {
        room: {name: value for name, value in getattr(plan, room).items() if name in kept}
        for room in ("networks", "chained", "chained_sizes")
    }
    return (
        dataclasses.replace(
            plan,
            starts=tuple(starts),
            sources={name: known for name, known in sources.items() if name in kept},
            note="\n".join(filter(None, [plan.note, note])),
            **changed,
        ),
        list(dict.fromkeys(told)),
    )
