"""What a scan's files contain, as a hash; hashed once, as long as the files do not change."""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from pathlib import Path

from voxgraft.errors import VolumeError
from voxgraft.files import content_key, file_sha256, write_json

_SETTLED_NS = 2_000_000_000
"""A file that changed this recently may change again within the clock's grain: hash it again."""


def scan_files(path: Path) -> list[Path]:
    """Return all files that a scan consists of.

    That is the file itself; for a folder, every file under it; for a header with separate data
    (``.nhdr``, ``.mhd``), also the data files beside it that it names or numbers.

    Raises:
        VolumeError: If there is no such file or folder, or it cannot be listed.
    """
    try:
        if path.is_dir():
            files = sorted(entry for entry in path.rglob("*") if entry.is_file())
            if not files:
                raise VolumeError(
                    f"{path} is an empty folder. Expected the files of a DICOM series."
                )
            return files
        if not path.is_file():
            raise VolumeError(
                f"{path} does not exist. Expected a scan. Check the column 'image' and the "
                "folder of the table."
            )
        if path.suffix.lower() in (".nhdr", ".mhd"):
            return [path, *_detached_files(path)]
    except OSError as error:
        raise _unreadable(path, error) from error
    return [path]


def _detached_files(header: Path) -> list[Path]:
    """Return the data files of a header; every file beside it where it numbers or lists them."""
    with header.open("rb") as handle:
        text = handle.read(1_000_000).decode("latin-1")
    match = re.search(r"^\s*(?:data ?file\s*:|ElementDataFile\s*=)\s*(.+?)\s*$", text, re.M | re.I)
    named = header.parent / match.group(1) if match else header
    if match and named.is_file():
        return [named]
    return sorted(entry for entry in header.parent.iterdir() if entry.is_file() and entry != header)


def _unreadable(path: Path, error: OSError) -> VolumeError:
    return VolumeError(
        f"{path} cannot be read: {error.strerror or error}. Check its permissions and the disk."
    )


def scan_state(files: list[Path]) -> tuple[str, int]:
    """Return a key of the files' names, sizes, times and inodes, and the latest time in ns."""
    parts = []
    latest = 0
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise _unreadable(file, error) from error
        times = (status.st_mtime_ns, status.st_ctime_ns)
        parts.append([str(file), status.st_size, *times, status.st_ino])
        latest = max(latest, *times)
    return content_key(parts), latest


class Fingerprints:
    """Hashes of scans, remembered between processes in one file of the store."""

    def __init__(self, memory: Path) -> None:
        """Read what is remembered; a memory that cannot be read is empty.

        Args:
            memory: JSON file: path of a scan to ``[state, hash]``.
        """
        self._memory = memory
        self._known = self._read()
        self._new: dict[str, list[str]] = {}

    def of(self, path: Path) -> str:
        """Return the hash of a scan's content: 64 hex digits.

        Raises:
            VolumeError: If it cannot be read, or changes meanwhile.
        """
        files = scan_files(path)
        state, latest = scan_state(files)
        name = os.path.abspath(path)  # noqa: PTH100  (no resolving of links: cheap and stable)
        known = self._known.get(name)
        if known is not None and known[0] == state:
            return known[1]
        digest = hashlib.sha256()
        for file in files:
            inside = file.relative_to(path if path.is_dir() else path.parent)
            part = "" if file == path else inside.as_posix()
            try:
                digest.update(f"{part}\0{file_sha256(file)}\0".encode())
            except OSError as error:
                raise _unreadable(file, error) from error
        if scan_state(files)[0] != state:
            raise VolumeError(
                f"{path} changes while it is read. Prepare again when it is complete."
            )
        if latest < time.time_ns() - _SETTLED_NS:
            self._new[name] = [state, digest.hexdigest()]
        return digest.hexdigest()

    def save(self) -> None:
        """Write what was learnt, together with what other processes wrote meanwhile."""
        if self._new:
            self._known = {**self._read(), **self._new}
            write_json(self._memory, self._known)
            self._new = {}

    def _read(self) -> dict[str, list[str]]:
        try:
            known = json.loads(self._memory.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}  # only a memory: without it, scans are hashed again
        if not isinstance(known, dict):
            return {}
        return {
            name: value
            for name, value in known.items()
            if isinstance(value, list)
            and len(value) == 2
            and isinstance(value[0], str)
            and re.fullmatch("[0-9a-f]{64}", str(value[1]))
        }
