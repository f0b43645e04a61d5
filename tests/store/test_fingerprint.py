from pathlib import Path

import pytest

from voxgraft.errors import VolumeError
from voxgraft.store.fingerprint import Fingerprints, scan_files


def fingerprint(path: Path) -> str:
    return Fingerprints(path.parent / "memory.json").of(path)


def test_a_folder_is_hashed_by_names_and_bytes_of_all_its_files(tmp_path: Path) -> None:
    series = tmp_path / "series"
    (series / "deep").mkdir(parents=True)
    (series / "a.dcm").write_bytes(b"1")
    (series / "deep" / "b.dcm").write_bytes(b"2")
    hashes = {fingerprint(series)}
    (series / "deep" / "b.dcm").write_bytes(b"3")
    hashes.add(fingerprint(series))
    (series / "deep" / "b.dcm").rename(series / "deep" / "c.dcm")
    hashes.add(fingerprint(series))
    (series / "d.dcm").write_bytes(b"")
    hashes.add(fingerprint(series))
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("name", "text", "data"),
    [
        ("a.mhd", "ObjectType = Image\nElementDataFile = a.raw\n", ["a.raw"]),
        ("a.nhdr", "NRRD0004\ndata file: sub/a.raw\n", ["sub/a.raw"]),
        ("a.nhdr", "NRRD0004\ndatafile:sub/a.raw\r\n", ["sub/a.raw"]),
        ("a.nhdr", "NRRD0004\ndata file: LIST\na.raw\nb.raw\n", ["a.raw", "b.raw"]),
        ("a.mhd", "ElementDataFile = %03d.raw 1 2 1\n", ["001.raw", "002.raw"]),
    ],
)
def test_a_header_is_hashed_with_the_data_beside_it(
    tmp_path: Path, name: str, text: str, data: list[str]
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / name).write_text(text)
    for file in data:
        (tmp_path / file).write_bytes(b"voxels")
    assert set(data) <= {str(f.relative_to(tmp_path)) for f in scan_files(tmp_path / name)}
    before = fingerprint(tmp_path / name)
    (tmp_path / data[-1]).write_bytes(b"VOXELS")
    assert fingerprint(tmp_path / name) != before


def test_a_single_file_is_its_bytes_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(b"x")
    (tmp_path / "b.nii").write_bytes(b"x")
    assert fingerprint(tmp_path / "a.nii") == fingerprint(tmp_path / "b.nii")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"none\.nii does not exist. Expected a scan"):
        fingerprint(tmp_path / "none.nii")


def test_a_scan_that_changes_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxgraft.store import fingerprint as module

    path = tmp_path / "a.nii"
    path.write_bytes(b"x")

    def growing(file: Path) -> str:
        file.write_bytes(b"xx")
        return "0" * 64

    monkeypatch.setattr(module, "file_sha256", growing)
    with pytest.raises(VolumeError, match="changes while it is read"):
        fingerprint(path)
