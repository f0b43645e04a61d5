"""Which row of a labels file is of which scan, by whatever both call it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from voxgraft.datasets.importers.scan_headers import first_image, folders_with_files
from voxgraft.errors import TableError
from voxgraft.volumes import SCAN_SUFFIXES
from voxgraft.volumes.dicom_slices import Slice

KINDS = ("SeriesInstanceUID", "StudyInstanceUID", "path", "name", "PatientID")
"""What a scan can be called by, most specific first; a name is that of the file or folder."""


@dataclass(frozen=True)
class ScanName:
    """A scan below the root and what it may be called.

    Attributes:
        path: File, or folder of a DICOM series.
        inside: The path below the root, with ``/``.
        names: Kind (of ``KINDS``) to texts.
        study: StudyInstanceUID; empty for a file.
        patient: PatientID; empty for a file.
    """

    path: Path
    inside: str
    names: Mapping[str, tuple[str, ...]] = field(repr=False)
    study: str = ""
    patient: str = ""


@dataclass(frozen=True)
class Match:
    """How rows were matched.

    Attributes:
        key: Column of the labels file.
        kind: What its cells name, of ``KINDS``.
        scans: For each row, positions of the scans that it names.
    """

    key: str
    kind: str
    scans: tuple[tuple[int, ...], ...]

    @property
    def matched(self) -> int:
        """Number of rows that name a scan."""
        return sum(bool(found) for found in self.scans)


def find_scans(root: Path) -> list[ScanName]:
    """Return all scan files and DICOM series folders below a root, by path.

    Hidden files and folders, and DICOM folders with no slice of a scan, are passed over.

    Raises:
        TableError: If the folder is not there, or holds no scan.
    """
    if not root.is_dir():
        raise TableError(f"{root}: no such folder of scans. Check the path.")
    scans: list[ScanName] = []
    for folder in folders_with_files(root):
        files = sorted(path for path in folder.iterdir() if path.is_file())
        named = [path for path in files if _suffix(path.name) and not path.name.startswith(".")]
        scans += [_file(root, path) for path in named]
        if len(named) < len(files):
            image = first_image(folder)
            if image is not None:
                scans.append(_series(root, folder, image))
    if not scans:
        raise TableError(
            f"{root}: holds no scans. Expected DICOM series in folders of their own, or files "
            f"({', '.join(SCAN_SUFFIXES)})."
        )
    return scans


def match_rows(
    columns: Mapping[str, Sequence[str]], scans: Sequence[ScanName], key: str | None, where: str
) -> Match:
    """Find the column whose cells name scans.

    Args:
        columns: Cells of the labels file.
        scans: What there is.
        key: The column; None takes the one that names scans for most rows.
        where: The labels file, for messages.

    Raises:
        TableError: If the column does not exist or names no scan, or without ``key`` none does,
            or several name different scans for equally many rows.
    """
    if key is not None and key not in columns:
        raise TableError(f"{where}: has no column {key!r}; found {', '.join(columns)}.")
    index = _index(scans)
    tried = [
        max(
            (Match(name, kind, _look_up(columns[name], index[kind])) for kind in KINDS),
            key=lambda match: match.matched,
        )
        for name in (columns if key is None else [key])
    ]
    most = max(match.matched for match in tried)
    best = [match for match in tried if match.matched == most]
    if most == 0:
        shown = ", ".join(repr(cell) for cell in columns[key][:3]) if key else ""
        raise TableError(
            f"{where}: {f'column {key!r} ({shown})' if key else 'no column'} names a scan. Scans "
            f"are called, for example, {_example(scans[0])}. Name the column with --key (key=), or "
            "add one of these."
        )
    if len({match.scans for match in best}) > 1:
        shown = ", ".join(f"{match.key!r} (as {match.kind})" for match in best)
        raise TableError(
            f"{where}: several columns name scans for {most} rows, but not the same ones: {shown}. "
            "Choose one with --key (key=)."
        )
    return best[0]


def _file(root: Path, path: Path) -> ScanName:
    inside = path.relative_to(root).as_posix()
    cut = len(_suffix(path.name))
    names = {"path": (inside, inside[:-cut]), "name": (path.name, path.name[:-cut])}
    return ScanName(path, inside, names)


def _series(root: Path, folder: Path, image: Slice) -> ScanName:
    inside = folder.relative_to(root).as_posix()
    names = {
        "SeriesInstanceUID": (image.series,),
        "StudyInstanceUID": (image.study,),
        "PatientID": (image.patient,),
        "path": (inside,),
        "name": (folder.name,),
    }
    return ScanName(folder, inside, names, image.study, image.patient)


def _suffix(name: str) -> str:
    known = sorted(SCAN_SUFFIXES, key=len, reverse=True)
    return next((suffix for suffix in known if name.lower().endswith(suffix)), "")


def _index(scans: Sequence[ScanName]) -> dict[str, dict[str, tuple[int, ...]]]:
    index: dict[str, dict[str, set[int]]] = {kind: defaultdict(set) for kind in KINDS}
    for position, scan in enumerate(scans):
        for kind, texts in scan.names.items():
            for text in texts:
                if text:
                    index[kind][text].add(position)
    return {
        kind: {text: tuple(sorted(found)) for text, found in named.items()}
        for kind, named in index.items()
    }


def _look_up(
    cells: Sequence[str], named: Mapping[str, tuple[int, ...]]
) -> tuple[tuple[int, ...], ...]:
    return tuple(named.get(cell.strip(), ()) for cell in cells)


def _example(scan: ScanName) -> str:
    return ", ".join(
        f"{kind} {scan.names[kind][-1]!r}" for kind in KINDS if any(scan.names.get(kind, ()))
    )
