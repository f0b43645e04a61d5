"""The file of a source on this machine, and its tensors, held against what is known of them."""

from __future__ import annotations

import os
import shutil
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from torch import Tensor

from voxgraft.errors import FetchError, SourceError, raise_faults
from voxgraft.files import atomic_path, cache_folder, file_sha256
from voxgraft.packages import PackageFile, package_file
from voxgraft.weights.digests import digest_faults
from voxgraft.weights.hub import Place, hub_file
from voxgraft.weights.read import read_checkpoint
from voxgraft.weights.source import BroughtFile, HubFile, Source, WebFile

UNVERIFIED = (
    "origin unverified: nobody published a hash or digests of these weights. Names and shapes are "
    "checked; exchanged values (a square kernel transposed, say) cannot be seen"
)


@dataclass(frozen=True)
class SourceTensors:
    """The tensors of a source, by the file's own names."""

    state: dict[str, Tensor]
    origin: str
    """How their identity was checked."""
    notes: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What nnU-Net keeps of its training beside the weights (``init_args``), unchecked."""


def fetch_source(source: Source) -> Path:
    """Return the path of a source's file, fetching it once if it comes from elsewhere.

    A hub's file is looked for in the cache that all programs share, then downloaded.

    Raises:
        FetchError: If the file cannot be had.
        SourceError: If it is a file on this machine that does not exist.
    """
    if isinstance(source.file, PackageFile):
        return package_file(source.file)
    if isinstance(source.file, HubFile):
        return _hub_file(source, source.file)
    if isinstance(source.file, WebFile):
        return _web_file(source, source.file)
    if isinstance(source.file, BroughtFile):
        raise FetchError(
            f"the file of source {source.id!r} must be brought: fetch {source.file.filename} from "
            f"{source.file.where}, then give `{source.id}@/path/to/{source.file.filename}`."
        )
    path = Path(source.file.path).expanduser()
    if not path.is_file():
        raise SourceError(f"the file of source {source.id!r} does not exist: {path}.")
    return path


def _hub_file(source: Source, wanted: HubFile) -> Path:
    try:
        return hub_file(Place(wanted.repository, wanted.revision), wanted.filename)
    except FetchError as fault:
        raise FetchError(
            f"the file of source {source.id!r}: {fault} (`{source.id}@/path/to/"
            f"{Path(wanted.filename).name}` takes a file that you have.)"
        ) from fault


def _web_file(source: Source, wanted: WebFile) -> Path:
    address = urllib.parse.urlsplit(wanted.url)
    name = Path(address.path).name
    cached = cache_folder() / "weights" / address.netloc / address.path.lstrip("/")
    published = source.sha256 or source.sha256_begins
    if cached.is_file() and (published is None or file_sha256(cached).startswith(published)):
        return cached
    remedy = f"Fetch {wanted.url} on another machine and give `{source.id}@/path/to/{name}`."
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        raise FetchError(
            f"the file of source {source.id!r} is not in the cache ({cached}), and HF_HUB_OFFLINE "
            f"forbids to fetch it. Unset that, or: {remedy}"
        )
    try:
        with (
            urllib.request.urlopen(wanted.url, timeout=60) as answer,
            atomic_path(cached) as temporary,
            temporary.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
            # A connection that breaks off ends the answer like its end does.
            expected = answer.headers.get("Content-Length", "")
            if expected.isdigit() and file.tell() != int(expected):
                raise OSError(f"{file.tell()} of {expected} bytes came before it broke off")
    except (OSError, ValueError, HTTPException) as fault:
        raise FetchError(
            f"{wanted.url}, the file of source {source.id!r}, could not be downloaded: {fault}. "
            f"{remedy}"
        ) from fault
    return cached


def read_source(source: Source) -> SourceTensors:
    """Read a source's tensors and see that they are the ones that were published.

    Where the package or a card has a digest of every tensor, each is compared. Where there is
    only the file's SHA-256, that is. Where there is neither, ``origin`` says so.

    Raises:
        FetchError: If the file cannot be had.
        SourceError: If it cannot be read, or is not the published one; each tensor that is
            renamed, missing, transposed, changed or extra is named.
    """
    path = fetch_source(source)
    expected = source.tensor_digests
    published = source.sha256 or source.sha256_begins
    if not expected and published is not None:
        found = file_sha256(path)
        if not found.startswith(published):
            begins = "" if source.sha256 else "one that begins with "
            raise SourceError(
                f"{path}, the file of source {source.id!r}, has SHA-256 {found}, expected "
                f"{begins}{published}. It is damaged or is another file. Download it again."
            )
    checkpoint = read_checkpoint(path, key=source.key)
    if not expected:
        origin = UNVERIFIED if published is None else "the file has its published SHA-256"
        if published is not None and source.sha256 is None:
            origin = f"the file's SHA-256 begins with the published {published}"
        return SourceTensors(checkpoint.state, origin, checkpoint.notes, checkpoint.settings)
    faults = digest_faults(checkpoint.state, expected)
    if faults:
        raise_faults(
            SourceError,
            f"{path} does not hold the tensors of source {source.id!r}",
            faults,
            "Nothing was loaded. Fetch the published file again. If the changes are meant, it is "
            f"another start: give it as `timm:{source.architecture}@{path.name}`."
            if source.layout == "image"
            else "Nothing was loaded: the file was changed after it was written. Write it again.",
        )
    origin = f"all {len(expected)} tensors have their known digests"
    return SourceTensors(checkpoint.state, origin, checkpoint.notes, checkpoint.settings)
