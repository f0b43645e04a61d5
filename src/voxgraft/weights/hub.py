"""Files of the Hugging Face hub, in the cache that all programs on a machine share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from voxgraft.errors import FetchError, SourceError
from voxgraft.weights.sharded import INDEX_SUFFIX, shard_names

PREFIX = "hf-hub:"
_FORM = re.compile(
    r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^:]+))?(?::(?P<filename>.+))?"
)


@dataclass(frozen=True)
class Place:
    """A repository of the hub, at a revision."""

    repository: str
    revision: str = "main"
    filename: str | None = None
    """The file that was asked for; None where it is to be found."""

    def __str__(self) -> str:
        """Return the place as a person writes it."""
        at = "" if self.revision == "main" else f"@{self.revision}"
        of = "" if self.filename is None else f":{self.filename}"
        return f"{PREFIX}{self.repository}{at}{of}"


def parse_place(text: str) -> Place:
    """Read ``hf-hub:ORGANIZATION/NAME[@REVISION][:FILE]``.

    Raises:
        SourceError: If it is not of that form.
    """
    match = _FORM.fullmatch(text.removeprefix(PREFIX).strip())
    parts = (match["filename"] or "").split("/") if match else []
    if match is None or ".." in parts or (match["filename"] or "").startswith("/"):
        raise SourceError(
            f"{text!r} is no place on the hub. Expected hf-hub:ORGANIZATION/NAME, and if need be "
            "@REVISION (a branch, a tag or a commit) and :FILE after it."
        )
    return Place(match["repository"], match["revision"] or "main", match["filename"])


def hub_file(place: Place, filename: str) -> Path:
    """Return the path of a hub's file on this machine, from the shared cache or downloaded.

    Where the file is an index of weights in parts, the parts are fetched too.

    Raises:
        FetchError: If it can not be had.
    """
    path = _one_file(place, filename)
    if path is None:
        raise FetchError(
            f"{place.repository} has no file {filename!r} at revision {place.revision!r}. Look at "
            f"https://huggingface.co/{place.repository}/tree/{place.revision} and name one of "
            f"its files: {PREFIX}{place.repository}@{place.revision}:FILE."
        )
    if filename.endswith(INDEX_SUFFIX):
        folder = filename.rpartition("/")[0]
        for part in shard_names(path):
            hub_file(place, f"{folder}/{part}" if folder else part)
    return path


def hub_file_if_there(place: Place, filename: str) -> Path | None:
    """Return the path of a hub's file on this machine, or None if the repository has no such file.

    Without the hub, a file that is not in the cache counts as absent where others of the
    repository are there: timm, for one, leaves the weights and nothing else.

    Raises:
        FetchError: If the hub cannot be asked, and nothing of the repository is in the cache.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    if not constants.HF_HUB_OFFLINE:
        return _one_file(place, filename)
    cached = try_to_load_from_cache(place.repository, filename, revision=place.revision)
    if isinstance(cached, str):
        return Path(cached)
    if cached is None and not _partly_cached(place):
        raise FetchError(
            f"nothing of {place.repository} is in the hub's cache ({constants.HF_HUB_CACHE}), and "
            "HF_HUB_OFFLINE forbids to fetch it. Unset HF_HUB_OFFLINE, or fetch its weights from "
            f"https://huggingface.co/{place.repository}/tree/{place.revision} on another machine "
            "and give the file's path."
        )
    return None


def _partly_cached(place: Place) -> bool:
    from huggingface_hub import constants

    folder = f"models--{place.repository.replace('/', '--')}"
    snapshots = Path(constants.HF_HUB_CACHE) / folder / "snapshots"
    return any(path.is_file() for path in snapshots.glob("*/**/*"))


def _one_file(place: Place, filename: str) -> Path | None:
    from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
    )

    where = (place.repository, filename)
    try:
        cached = try_to_load_from_cache(*where, revision=place.revision)
        if isinstance(cached, str):
            return Path(cached)
        if cached is not None:
            return None
        if constants.HF_HUB_OFFLINE:
            raise FetchError(
                f"{filename} of {place.repository}@{place.revision} is not in the hub's cache "
                f"({constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE forbids to fetch it. Unset "
                f"HF_HUB_OFFLINE, or {_by_hand(place, filename)}"
            )
        return Path(hf_hub_download(*where, revision=place.revision))
    except EntryNotFoundError as fault:
        if isinstance(fault, LocalEntryNotFoundError):
            raise _unreachable(place, filename, fault) from fault
        return None
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as fault:
        raise _unreachable(place, filename, fault) from fault


def _unreachable(place: Place, filename: str, fault: Exception) -> FetchError:
    reason = (str(fault).strip().splitlines() or [type(fault).__name__])[0].rstrip(".:")
    return FetchError(
        f"{filename} of hf-hub:{place.repository}@{place.revision} is not in the hub's cache and "
        f"could not be downloaded: {reason}. Connect to the hub (and see that HF_HUB_OFFLINE is "
        f"not set; a private or gated repository asks for `hf auth login`), or "
        f"{_by_hand(place, filename)}"
    )


def _by_hand(place: Place, filename: str) -> str:
    return (
        f"fetch https://huggingface.co/{place.repository}/resolve/{place.revision}/{filename} on "
        "another machine and give the file's path."
    )


def weight_files(place: Place) -> list[str]:
    """Return the files of a repository that hold weights, those to be preferred first.

    Raises:
        FetchError: If the hub cannot be asked.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if constants.HF_HUB_OFFLINE:
        raise FetchError(
            f"what {place} holds cannot be asked: HF_HUB_OFFLINE is set. Name the file: "
            f"{PREFIX}{place.repository}@{place.revision}:FILE, or unset HF_HUB_OFFLINE."
        )
    try:
        names = HfApi().list_repo_files(place.repository, revision=place.revision)
    except (HfHubHTTPError, HFValidationError, OSError, ValueError) as fault:
        raise _unreachable(place, "the list of files", fault) from fault
    suffixes = (".safetensors", INDEX_SUFFIX, ".npz", ".pth", ".pt", ".ckpt", ".tar", ".bin")
    found = [name for name in names if name.endswith(suffixes)]
    return sorted(found, key=lambda n: next(i for i, s in enumerate(suffixes) if n.endswith(s)))
