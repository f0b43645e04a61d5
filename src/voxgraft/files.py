"""Files that are whole or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """Return the folder of what can be made again (``$VOXGRAFT_CACHE``, ``~/.cache/voxgraft``)."""
    return Path(os.environ.get("VOXGRAFT_CACHE", "~/.cache/voxgraft")).expanduser()


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it to ``path`` if the block succeeds.

    The temporary name keeps the suffixes of ``path`` (writers choose a format by them). If the
    block raises, what was written is removed and ``path`` stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".tmp-{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def plain_json(value: Any) -> Any:
    """Return ``value`` with NaN and infinities as None and tuples as lists, for strict JSON."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): plain_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(item) for item in value]
    return value


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as strict, indented JSON (NaN as null), whole or not at all."""
    write_text(path, json.dumps(plain_json(value), indent=2, ensure_ascii=False, allow_nan=False))


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, as 64 hex digits."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def scan_sha256(path: Path) -> str:
    """Return the SHA-256 of a scan: of a file's bytes, or of the names and bytes in a folder."""
    if not path.is_dir():
        return file_sha256(path)
    parts = sorted(part for part in path.rglob("*") if part.is_file())
    each = [f"{part.relative_to(path).as_posix()} {file_sha256(part)}" for part in parts]
    return hashlib.sha256("\n".join(each).encode("utf-8", "surrogateescape")).hexdigest()


def content_key(value: Any) -> str:
    """Return a key of 16 hex digits for a JSON-like value; equal values give equal keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
