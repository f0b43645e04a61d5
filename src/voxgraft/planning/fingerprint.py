"""What a data set is like: spacings, sizes, values, and how large its structures are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from voxgraft.datasets import CaseMasks, Table, case_masks, known_structures, structure_names
from voxgraft.errors import TableError, VoxgraftError, raise_faults
from voxgraft.files import cache_folder, content_key, read_json, write_json
from voxgraft.planning.case_facts import CaseFacts, look_at_case
from voxgraft.planning.modality import Modality, guess_modality
from voxgraft.store.fingerprint import Fingerprints
from voxgraft.types import Json, Size3, Spacing3

_VERSION = 1
"""Of the facts in the cache; raise it when what is measured changes."""
_QUANTILES = 401


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a triple (depth, height, width) is spread over the cases; each axis by itself."""

    smallest: Spacing3
    low: Spacing3
    """10th percentile."""
    median: Spacing3
    high: Spacing3
    """90th percentile."""
    largest: Spacing3

    @classmethod
    def of(cls, triples: Sequence[Sequence[float]]) -> Spread:
        """Return the spread of triples, one a case."""
        found = np.percentile(np.asarray(triples, dtype=np.float64), [0, 10, 50, 90, 100], axis=0)
        rows = [(float(a), float(b), float(c)) for a, b, c in found]
        return cls(smallest=rows[0], low=rows[1], median=rows[2], high=rows[3], largest=rows[4])


@dataclass(frozen=True, kw_only=True)
class Values:
    """Values of one channel within the structures; each case counts the same."""

    mean: float
    sd: float
    quantiles: tuple[float, ...]
    """Evenly spaced, from the lowest to the highest."""

    def percentile(self, percent: float) -> float:
        """Return a percentile, from 0 to 100."""
        places = np.linspace(0, 100, len(self.quantiles))
        return float(np.interp(percent, places, self.quantiles))

    def share_outside(self, low: float, high: float) -> float:
        """Return the share of values that lie below ``low`` or above ``high``."""
        values = np.asarray(self.quantiles)
        return float(((values < low) | (values > high)).mean())


@dataclass(frozen=True, kw_only=True)
class StructureSpread:
    """One structure over the cases that have it; medians."""

    annotated: int
    """Cases that annotate it."""
    present: int
    """Cases where it is."""
    volume_ml: float
    extent_mm: Spacing3
    chord_mm: Spacing3
    """Mean length of the straight runs through it along each axis."""
    voxels: float
    value: float
    """Median of the cases' medians, in the first channel."""

    def across(self, spacing_mm: Spacing3) -> float:
        """Return how many voxels of a spacing it is thick, along its thinnest axis."""
        pairs = zip(self.chord_mm, spacing_mm, strict=True)
        return min(chord / spacing for chord, spacing in pairs)


@dataclass(frozen=True, kw_only=True)
class DataFingerprint:
    """What a table with masks is like; all triples are (depth, height, width), after RAS+."""

    cases: int
    patients: int
    spacing_mm: Spread
    shape_voxels: Spread
    field_of_view_mm: Spread
    channels: int
    modality: Modality
    values: tuple[Values, ...]
    """For each channel."""
    structures: Mapping[str, StructureSpread]
    overlapping: tuple[str, ...]
    """Cases in which structures overlap."""
    annotations: Mapping[str, int]
    """Each set of structures that is annotated together (names with blanks), to its cases."""

    @property
    def anisotropy(self) -> float:
        """Largest over smallest median spacing."""
        return max(self.spacing_mm.median) / min(self.spacing_mm.median)

    def shape_at(self, spacing_mm: Spacing3) -> Size3:
        """Return the median shape when scans are resampled to a spacing, in voxels."""
        pairs = zip(self.field_of_view_mm.median, spacing_mm, strict=True)
        depth, height, width = (max(1, round(view / spacing)) for view, spacing in pairs)
        return depth, height, width

    def to_dict(self) -> Json:
        """Return the fingerprint as JSON."""
        return asdict(self)


def take_fingerprint(
    table: Table,
    classes: Sequence[str] | None = None,
    *,
    jobs: int = 1,
    cache: Path | None = None,
    on_progress: Callable[[], None] | None = None,
) -> DataFingerprint:
    """Measure the cases of a table; what was measured once is remembered by content.

    Args:
        table: Scans with masks.
        classes: Structures; None takes all that are annotated.
        jobs: Scans that are read at once; each takes the memory of one scan and its masks.
        cache: Folder that remembers; None takes the cache's folder ``planning``.
        on_progress: Called after each case.

    Raises:
        TableError: If the masks cannot be used, a structure is annotated nowhere, or scans differ
            in their channels; all cases that cannot be read are named at once.
    """
    if not len(table):
        raise TableError("the table has no cases. A fingerprint needs at least one.")
    found = case_masks(table)
    names = tuple(classes) if classes is not None else structure_names(table)
    if classes is not None:
        known_structures(table, names)
    folder = cache or cache_folder() / "planning"
    folder.mkdir(parents=True, exist_ok=True)
    hashes = Fingerprints(folder / "hashes.json")

    def look(case_id: str) -> CaseFacts | str:
        try:
            return _remembered(table, found[case_id], names, folder, hashes)
        except VoxgraftError as error:
            return f"case {case_id!r}: {str(error).removeprefix(f'case {case_id!r}: ')}"
        finally:
            if on_progress is not None:
                on_progress()

    with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
        try:
            looks = list(pool.map(look, table.case_ids))
        finally:
            pool.shutdown(cancel_futures=True)
    hashes.save()
    faults = [each for each in looks if isinstance(each, str)]
    if faults:
        raise_faults(
            TableError,
            f"{len(faults)} of {len(table)} cases cannot be measured",
            faults,
            "Mend these files, or leave the cases out (`voxgraft data check` says more).",
        )
    facts = [each for each in looks if isinstance(each, CaseFacts)]
    return _joined(table, dict(zip(table.case_ids, facts, strict=True)), names)


def _remembered(
    table: Table, masks: CaseMasks, names: Sequence[str], folder: Path, hashes: Fingerprints
) -> CaseFacts:
    chosen = [name for name in names if name in masks.annotated]
    key = content_key(
        [
            _VERSION,
            hashes.of(table.image_path(masks.case_id)),
            hashes.of(masks.path),
            masks.structures.kind,
            {name: list(masks.structures.sources[name]) for name in chosen},
            list(masks.structures.ignored_values),
        ]
    )
    file = folder / f"{key}.json"
    if file.is_file():
        try:
            return CaseFacts.from_dict(read_json(file))
        except (ValueError, KeyError, TypeError):
            file.unlink(missing_ok=True)  # a damaged memory: measure again
    facts = look_at_case(table, masks.case_id, chosen)
    write_json(file, facts.to_dict())
    return CaseFacts.from_dict(read_json(file))


def _joined(table: Table, facts: Mapping[str, CaseFacts], names: Sequence[str]) -> DataFingerprint:
    cases = list(facts.values())
    counts: dict[int, list[str]] = {}
    for case_id, case in facts.items():
        counts.setdefault(case.channels, []).append(case_id)
    if len(counts) > 1:
        raise_faults(
            TableError,
            "scans differ in their channels",
            [f"{n} channels: {', '.join(ids[:5])}" for n, ids in sorted(counts.items())],
            "Expected one number of channels. Leave the others out.",
        )
    annotations: dict[str, int] = {}
    for case in cases:
        key = " ".join(case.structures)
        annotations[key] = annotations.get(key, 0) + 1
    return DataFingerprint(
        cases=len(cases),
        patients=len(table.patients),
        spacing_mm=Spread.of([case.spacing_mm for case in cases]),
        shape_voxels=Spread.of([case.shape for case in cases]),
        field_of_view_mm=Spread.of(
            [np.multiply(case.shape, case.spacing_mm).tolist() for case in cases]
        ),
        channels=cases[0].channels,
        modality=guess_modality(facts),
        values=tuple(_values(cases, channel) for channel in range(cases[0].channels)),
        structures={name: _structure(cases, name) for name in names},
        overlapping=tuple(case_id for case_id, case in facts.items() if case.layers > 1),
        annotations=annotations,
    )


def _values(cases: Sequence[CaseFacts], channel: int) -> Values:
    seen = [case for case in cases if case.values[channel]]
    if not seen:
        raise TableError(
            "no voxel of any case belongs to a structure, so there is nothing to plan for. Check "
            "the masks and the classes (`voxgraft data check`)."
        )
    values = np.concatenate([case.values[channel] for case in seen])
    weights = np.concatenate(
        [np.full(len(case.values[channel]), 1 / len(case.values[channel])) for case in seen]
    )
    order = np.argsort(values, kind="stable")
    ranks = (np.cumsum(weights[order]) - weights[order] / 2) / len(seen)
    quantiles = np.interp(np.linspace(0, 1, _QUANTILES), ranks, values[order])
    mean = float(np.mean([case.mean[channel] for case in seen]))
    square = float(np.mean([case.mean_square[channel] for case in seen]))
    return Values(
        mean=mean,
        sd=math.sqrt(max(square - mean**2, 0.0)),
        quantiles=tuple(quantiles.tolist()),
    )


def _structure(cases: Sequence[CaseFacts], name: str) -> StructureSpread:
    known = [case.structures[name] for case in cases if name in case.structures]
    there = [each for each in known if each.voxels]

    def middle(field: Literal["volume_ml", "voxels", "value"]) -> float:
        return float(np.median([getattr(each, field) for each in there])) if there else math.nan

    def middles(field: Literal["extent_mm", "chord_mm"]) -> Spacing3:
        if not there:
            return (math.nan,) * 3
        return Spread.of([getattr(each, field) for each in there]).median

    return StructureSpread(
        annotated=len(known),
        present=len(there),
        volume_ml=middle("volume_ml"),
        extent_mm=middles("extent_mm"),
        chord_mm=middles("chord_mm"),
        voxels=middle("voxels"),
        value=middle("value"),
    )
