"""A folder of preprocessed volumes, each made once from a scan's content and the settings."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from voxgraft.errors import StoreError, TableError, VolumeError, raise_faults
from voxgraft.files import content_key, write_json
from voxgraft.store import make
from voxgraft.store.entry import Entry, read_index
from voxgraft.store.fingerprint import Fingerprints
from voxgraft.store.make import Order, make_all
from voxgraft.store.prepared import Prepared, StoredCase
from voxgraft.transforms.preprocess import PREPROCESSING_VERSION, Preprocessing
from voxgraft.volumes import Affine

if TYPE_CHECKING:
    from voxgraft.datasets import Table

FORMAT_VERSION = 2
"""Goes into the key of stored volumes: raised whenever the file format changes."""

_ABANDONED_S = 3600.0
"""A temporary file this old belongs to nobody any more."""

Progress = Callable[[int, int], None]
"""Is told (volumes done, volumes in all)."""

_Item = TypeVar("_Item")


@dataclass
class _Case:
    """A case on its way into the store."""

    case_id: str
    image: Path
    file: str = ""
    entry: Entry | None = None
    fault: str = ""


class VolumeStore:
    """Preprocessed volumes on disk.

    There is one folder for each preprocessing (its name is a key of all settings and of the
    format), and in it one file for each scan, named by the hash of the scan's bytes. So a changed
    setting or a changed scan is another file, and nothing stale is ever read. Several processes
    may prepare into one store at once.
    """

    def __init__(self, folder: Path | str) -> None:
        """Use a folder; it is made when first needed.

        Args:
            folder: Of the store. Deleting it, or any file in it, is always safe.
        """
        self.folder = Path(folder)

    def prepare(
        self,
        table: Table,
        preprocessing: Preprocessing,
        *,
        jobs: int = 1,
        verify: bool = True,
        on_progress: Progress | None = None,
    ) -> Prepared:
        """Preprocess the scans of a table that are not in the store yet.

        Each stored volume that is already there is checked against its checksums, and made
        again if it is damaged (with ``verify``; else only when it is read, where damage raises).
        Memory does not grow with the number of cases: a job holds one
        scan at a time.

        Args:
            table: The cases.
            preprocessing: The settings.
            jobs: Processes that work side by side; 1 works in this one. Above 1, a script needs
                the usual ``if __name__ == "__main__":``.
            verify: Whether stored volumes are read and checked now.
            on_progress: Told (done, total) as volumes are checked or made, from this thread.

        Returns:
            The stored volumes.

        Raises:
            StoreError: If scans cannot be read or preprocessed: all of them are named, after
                the others were made. Or if the folder cannot be written.
        """
        if jobs < 1:
            raise StoreError(f"jobs is {jobs}. Expected the number of processes, at least 1.")
        cases = _cases_of(table)
        settings = {
            "format": FORMAT_VERSION,
            "version": PREPROCESSING_VERSION,
            "preprocessing": preprocessing.to_dict(),
        }
        folder = self.folder / content_key(settings)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / "preprocessing.json").exists():
                write_json(folder / "preprocessing.json", settings)
            remove_abandoned(folder)
            fingerprints = Fingerprints(self.folder / "scans.json")
            done = Count(len(cases), on_progress)
            _look_up(cases, folder, fingerprints, jobs, done, verify)
            fingerprints.save()
            _make_missing(cases, folder, preprocessing, jobs, done)
        except OSError as error:
            raise StoreError(
                f"the store {self.folder} cannot be used: {error.strerror or error}. Check its "
                "permissions and the space on its disk, or choose another folder."
            ) from error
        faulty = [case for case in cases if case.fault]
        if faulty:
            raise_faults(
                StoreError,
                f"{len(faulty)} of {len(cases)} cases cannot be prepared",
                [f"case {case.case_id!r}: {case.fault}" for case in faulty],
                "Mend these scans or take the cases out of the table, and prepare again; the "
                f"other {len(cases) - len(faulty)} volumes are ready and are not made again.",
            )
        return Prepared(folder, preprocessing, {case.case_id: _stored(case) for case in cases})


class Count:
    """Counts what is done and tells the caller."""

    def __init__(self, total: int, tell: Progress | None) -> None:
        self._done, self._total, self._tell = 0, total, tell

    def add(self, number: int = 1) -> None:
        """Count so many more as done."""
        self._done += number
        if self._tell is not None and number:
            self._tell(self._done, self._total)


def _cases_of(table: Table) -> list[_Case]:
    ids = [str(case_id) for case_id in table.frame["case_id"]]
    repeated = [case_id for case_id, count in Counter(ids).items() if count > 1]
    if repeated:
        raise_faults(
            StoreError,
            "the table names cases twice",
            [f"case {case_id!r}" for case_id in repeated],
            "Give each row a case_id of its own.",
        )
    cases = []
    for case_id in ids:
        try:
            cases.append(_Case(case_id, table.image_path(case_id)))
        except TableError as error:
            cases.append(_Case(case_id, Path(), fault=str(error)))
    return cases


def _look_up(
    cases: list[_Case],
    folder: Path,
    fingerprints: Fingerprints,
    jobs: int,
    done: Count,
    verify: bool,
) -> None:
    """Find out each scan's file in the store, and whether a whole one is there."""

    def look_up(case: _Case) -> _Case:
        if case.fault:
            return case
        try:
            case.file = f"{fingerprints.of(case.image)[:40]}.vox"
        except VolumeError as error:
            case.fault = str(error)
            return case
        case.entry = whole_entry(folder / case.file, verify)
        return case

    with ThreadPoolExecutor(max_workers=min(jobs, 8)) as threads:
        for case in in_order(threads, look_up, cases):
            done.add(int(bool(case.entry or case.fault)))


def in_order(
    threads: ThreadPoolExecutor, work: Callable[[_Item], _Item], cases: Iterable[_Item]
) -> Iterator[_Item]:
    """Yield results in order, with few of them under way: an interruption is quick."""
    waiting = iter(cases)
    running = [threads.submit(work, case) for case in islice(waiting, 16)]
    while running:
        yield running.pop(0).result()
        running += [threads.submit(work, case) for case in islice(waiting, 1)]


def whole_entry(path: Path, verify: bool) -> Entry | None:
    """Return the index of a stored volume, or None if it is missing or damaged."""
    if not path.exists():
        return None
    try:
        entry = read_index(path)
        if verify:
            entry.verify()
    except StoreError:
        return None  # it is made again
    return entry


def _make_missing(
    cases: list[_Case], folder: Path, preprocessing: Preprocessing, jobs: int, done: Count
) -> None:
    """Make what is not there; cases with the same scan share a file."""
    by_file: dict[str, list[_Case]] = {}
    for case in cases:
        if case.entry is None and not case.fault:
            by_file.setdefault(case.file, []).append(case)
    orders = [
        Order(sharing[0].case_id, sharing[0].image, folder / file, preprocessing)
        for file, sharing in by_file.items()
    ]
    for order, fault in make_all(orders, jobs, make.make_entry):
        sharing = by_file[order.target.name]
        for case in sharing:
            case.fault = fault
            if not fault:
                case.entry = read_index(order.target)
        done.add(len(sharing))


def _stored(case: _Case) -> StoredCase:
    entry = case.entry
    assert entry is not None
    affine = Affine(np.array(entry.affine))
    return StoredCase(case.file, entry.shape, entry.encoding, entry.background, affine.spacing_mm)


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of processes that were killed long ago."""
    for path in folder.glob(".tmp-*"):
        try:
            if path.stat().st_mtime < time.time() - _ABANDONED_S:
                path.unlink()
        except FileNotFoundError:
            continue  # another process was quicker
