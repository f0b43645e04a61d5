"""What was verified on this machine: sources whose real file was grafted with parity."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from voxgraft.errors import SourceError
from voxgraft.files import cache_folder, read_json, write_json

_FILE = "verified.json"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """That a source's real file was grafted here once, with nothing unexplained and with parity."""

    source: str
    sha256: str
    """Of the file that was fetched."""
    model: str
    parity: float
    """Largest relative error against the original; 0 where tensors were compared bit by bit."""
    date: str
    """ISO date."""
    version: str
    """Voxgraft's."""


def verification_file() -> Path:
    """Return the place of the record, in the cache folder."""
    return cache_folder() / _FILE


def verifications() -> Mapping[str, Verification]:
    """Return what was verified on this machine, by the source's id.

    Raises:
        SourceError: If the record cannot be read.
    """
    path = verification_file()
    if not path.is_file():
        return {}
    try:
        entries = read_json(path)
        return {name: Verification(**entry) for name, entry in entries.items()}
    except (json.JSONDecodeError, UnicodeDecodeError, TypeError, AttributeError) as fault:
        raise SourceError(
            f"{path}, the record of what was verified here, cannot be read: {fault}. Delete it, "
            "and verify again."
        ) from fault


def record(verification: Verification) -> None:
    """Add to the record, or replace what it says of that source."""
    entries = {name: asdict(entry) for name, entry in verifications().items()}
    entries[verification.source] = asdict(verification)
    write_json(verification_file(), dict(sorted(entries.items())))
