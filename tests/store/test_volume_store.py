import multiprocessing
import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from voxgraft.datasets import Table
from voxgraft.errors import StoreError
from voxgraft.store import Prepared, VolumeStore, volume_store
from voxgraft.store import make as make_module
from voxgraft.transforms import Keep, Preprocessing, Window, ZScore, preprocess
from voxgraft.volumes import Affine, Volume, read_volume, write_volume

SETTINGS = Preprocessing(size_voxels=(8, 9, 10), intensity=Window(-1, 1))


def write_scan(path: Path, seed: int, shape: tuple[int, int, int] = (9, 8, 12)) -> None:
    voxels = np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)
    write_volume(Volume(voxels, Affine.from_spacing((2, 1, 1))), path)


def table_of(folder: Path, images: list[str]) -> Table:
    ids = [f"case{i}" for i in range(len(images))]
    frame = pd.DataFrame({"case_id": ids, "patient_id": ids, "image": images})
    return Table(frame, folder, folder / "table.csv")


@pytest.fixture
def table(tmp_path: Path) -> Table:
    for i in range(4):
        write_scan(tmp_path / f"{i}.nii.gz", i)
    return table_of(tmp_path, [f"{i}.nii.gz" for i in range(4)])


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Cases that are made in this process, as they are made."""
    cases: list[str] = []
    make_entry = make_module.make_entry

    def counted(order: make_module.Order) -> str:
        cases.append(order.case_id)
        return make_entry(order)

    monkeypatch.setattr(make_module, "make_entry", counted)
    return cases


def files_of(prepared: Prepared) -> list[Path]:
    return [prepared.folder / case.file for case in prepared.cases.values()]


def test_stored_volumes_are_the_preprocessed_scans(table: Table, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    store = VolumeStore(tmp_path / "store")
    prepared = store.prepare(table, SETTINGS, on_progress=lambda *step: steps.append(step))
    assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert prepared.case_ids == table.case_ids
    assert prepared.common_shape == prepared.shape("case1") == (1, 8, 9, 10)
    assert prepared.background == 0
    assert prepared.spacing_mm == (2, 1, 1)
    for case_id in prepared.case_ids:
        expected = preprocess(read_volume(table.image_path(case_id)), SETTINGS)
        found = prepared.read(case_id)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected.voxels, atol=5e-4)
        assert prepared.affine(case_id) == expected.affine


def test_the_second_time_nothing_is_made_again(table: Table, made: list[str]) -> None:
    store = VolumeStore(table.root / "store")
    first = store.prepare(table, SETTINGS)
    assert made == list(table.case_ids)
    steps: list[tuple[int, int]] = []
    second = store.prepare(table, SETTINGS, on_progress=lambda *step: steps.append(step))
    assert len(made) == 4
    assert steps[-1] == (4, 4)
    assert files_of(first) == files_of(second)


@pytest.mark.parametrize(
    "change",
    [
        {"spacing_mm": (2.0, 2.0, 2.0)},
        {"size_voxels": (8, 9, 11)},
        {"intensity": Window(-1, 1.5)},
        {"interpolation": "nearest"},
        {"background": 0.5},
        {"storage": "uint8"},
    ],
)
def test_a_changed_setting_never_reads_a_stale_volume(
    table: Table, made: list[str], change: dict[str, object]
) -> None:
    store = VolumeStore(table.root / "store")
    old = store.prepare(table, SETTINGS)
    changed = replace(SETTINGS, **change)
    new = store.prepare(table, changed)
    assert len(made) == 8
    assert not set(files_of(old)) & set(files_of(new))
    expected = preprocess(read_volume(table.image_path("case0")), changed).voxels
    np.testing.assert_allclose(new.read("case0"), expected, atol=5e-3)


def test_a_changed_scan_never_reads_a_stale_volume(table: Table, made: list[str]) -> None:
    store = VolumeStore(table.root / "store")
    old = store.prepare(table, SETTINGS).read("case2")
    path = table.image_path("case2")
    times = path.stat()
    write_scan(path, 77)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # even if its date is the old one
    new = store.prepare(table, SETTINGS)
    assert made[4:] == ["case2"]
    assert not np.array_equal(old, new.read("case2"))


def test_a_settled_scan_is_hashed_once(
    table: Table, made: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from voxgraft.store import fingerprint

    monkeypatch.setattr(fingerprint, "_SETTLED_NS", -(10**12))
    store = VolumeStore(table.root / "store")
    store.prepare(table, SETTINGS)

    def refuse(path: Path) -> str:
        raise AssertionError(path)

    monkeypatch.setattr(fingerprint, "file_sha256", refuse)
    store.prepare(table, SETTINGS)
    assert len(made) == 4
    monkeypatch.undo()
    (store.folder / "scans.json").write_text("{ damaged")
    store.prepare(table, SETTINGS)


def flip(data: bytes) -> bytes:
    return data[:200] + bytes([data[200] ^ 16]) + data[201:]


@pytest.mark.parametrize("damage", [flip, lambda data: data[:-7], lambda data: b"", None])
def test_a_damaged_volume_is_named_when_read_and_made_again_when_prepared(
    table: Table, made: list[str], damage: Callable[[bytes], bytes] | None
) -> None:
    store = VolumeStore(table.root / "store")
    prepared = store.prepare(table, SETTINGS)
    before = prepared.read("case1")
    path = files_of(prepared)[1]
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage(path.read_bytes()))
    for reader in (prepared, pickle.loads(pickle.dumps(prepared))):
        with pytest.raises(StoreError, match=rf"{path.name}.*Prepare the table again"):
            reader.read("case1")
    again = store.prepare(table, SETTINGS)
    assert made[4:] == ["case1"]
    np.testing.assert_array_equal(again.read("case1"), before)
    np.testing.assert_array_equal(prepared.read("case1"), before)


def test_all_bad_scans_are_named_after_the_others_are_made(
    table: Table, made: list[str], tmp_path: Path
) -> None:
    (tmp_path / "1.nii.gz").write_bytes(b"no scan")
    (tmp_path / "2.nii.gz").unlink()
    constant = Volume(np.full((1, 4, 4, 4), 9, np.float32), Affine.from_spacing((1, 1, 1)))
    write_volume(constant, tmp_path / "3.nii.gz")
    store = VolumeStore(tmp_path / "store")
    more = table_of(tmp_path, [*table.frame["image"], "", "empty"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(StoreError) as error:
        store.prepare(more, SETTINGS)
    message = str(error.value)
    assert message.startswith("5 of 6 cases cannot be prepared (5 faults):")
    for case, reason in (
        ("case1", "1.nii.gz"),
        ("case2", "2.nii.gz does not exist"),
        ("case3", "3.nii.gz is constant after the window [-1, 1]"),
        ("case4", "case 'case4' has no image"),
        ("case5", "is an empty folder"),
    ):
        line = next(line for line in message.splitlines() if line.startswith(f"  - case '{case}'"))
        assert reason in line
    assert "the other 1 volumes are ready" in message
    write_scan(tmp_path / "1.nii.gz", 1)
    del made[:]
    good = table_of(tmp_path, ["0.nii.gz", "1.nii.gz"])
    store.prepare(good, SETTINGS)
    assert made == ["case1"]


def test_what_float16_cannot_hold_is_a_fault_of_the_case(tmp_path: Path) -> None:
    voxels = np.array([0, 1e6], dtype=np.float32).reshape(1, 1, 1, 2)
    write_volume(Volume(voxels, Affine.from_spacing((1, 1, 1))), tmp_path / "a.nii")
    table = table_of(tmp_path, ["a.nii"])
    store = VolumeStore(tmp_path / "store")
    with pytest.raises(StoreError, match=r"case 'case0': .*a\.nii: float16 storage would change"):
        store.prepare(table, Preprocessing(intensity=Keep()))
    exact = store.prepare(table, Preprocessing(intensity=Keep(), storage="float32"))
    np.testing.assert_array_equal(exact.read("case0"), voxels)


def test_cases_with_the_same_scan_share_a_file(table: Table, made: list[str]) -> None:
    (table.root / "copy.nii.gz").write_bytes((table.root / "0.nii.gz").read_bytes())
    twice = table_of(table.root, ["0.nii.gz", "0.nii.gz", "copy.nii.gz", "1.nii.gz"])
    prepared = VolumeStore(table.root / "store").prepare(twice, SETTINGS)
    assert len(made) == 2
    assert len({case.file for case in prepared.cases.values()}) == 2


def test_ids_that_stand_twice_and_impossible_jobs_are_refused(table: Table) -> None:
    frame = pd.concat([table.frame, table.frame.iloc[:1]])
    store = VolumeStore(table.root / "store")
    with pytest.raises(StoreError, match=r"names cases twice .*\n  - case 'case0'"):
        store.prepare(Table(frame, table.root), SETTINGS)
    with pytest.raises(StoreError, match="jobs is 0"):
        store.prepare(table, SETTINGS, jobs=0)


def test_a_store_that_cannot_be_written_is_named(table: Table) -> None:
    (table.root / "store").write_text("a file stands here")
    with pytest.raises(StoreError, match=r"the store .*store cannot be used: .*Check its perm"):
        VolumeStore(table.root / "store").prepare(table, SETTINGS)


def test_crops_are_padded_with_the_background(table: Table) -> None:
    settings = Preprocessing(intensity=ZScore())
    prepared = VolumeStore(table.root / "store").prepare(table, settings)
    whole = prepared.read("case0")
    background = prepared.cases["case0"].background
    assert background == whole.min()
    assert prepared.background == pytest.approx(
        np.median([prepared.read(case_id).min() for case_id in prepared.case_ids])
    )
    for start, size in (
        ((-3, 2, 5), (8, 3, 20)),
        ((2, 2, 2), (3, 3, 3)),
        ((50, 0, 0), (2, 2, 2)),
        ((-9, -9, -9), (4, 40, 40)),
    ):
        padded = np.pad(whole, [(0, 0), *[(60, 60)] * 3], constant_values=background)
        box = tuple(slice(60 + s, 60 + s + n) for s, n in zip(start, size, strict=True))
        found = prepared.read_crop("case0", start, size)
        np.testing.assert_array_equal(found, padded[(slice(None), *box)])
    with pytest.raises(StoreError, match="Expected at least 1 along"):
        prepared.read_crop("case0", (0, 0, 0), (0, 1, 1))
    with pytest.raises(StoreError, match="no case is called 'x' among the 4 prepared"):
        prepared.read("x")


def test_different_shapes_have_no_common_one(table: Table) -> None:
    write_scan(table.root / "0.nii.gz", 0, (5, 6, 7))
    prepared = VolumeStore(table.root / "store").prepare(table, Preprocessing())
    assert prepared.common_shape is None
    assert prepared.shape("case0") == (1, 5, 6, 7)


def test_several_may_prepare_into_one_store_at_once(table: Table) -> None:
    store = VolumeStore(table.root / "store")
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda _: store.prepare(table, SETTINGS), range(8)))
    for prepared in results:
        for case_id in prepared.case_ids:
            prepared.read(case_id)
    assert not list(store.folder.rglob(".tmp-*"))


def test_what_a_killed_process_left_is_removed_when_it_is_old(table: Table) -> None:
    store = VolumeStore(table.root / "store")
    folder = store.prepare(table, SETTINGS).folder
    (folder / ".tmp-old.vox").write_bytes(b"half")
    (folder / ".tmp-new.vox").write_bytes(b"half")
    os.utime(folder / ".tmp-old.vox", (0, 0))
    store.prepare(table, SETTINGS)
    assert not (folder / ".tmp-old.vox").exists()
    assert (folder / ".tmp-new.vox").exists()


def test_several_processes_make_the_same_and_name_the_faults(table: Table) -> None:
    one = VolumeStore(table.root / "one").prepare(table, SETTINGS)
    (table.root / "bad.nii").write_bytes(b"no scan")
    images = [*table.frame["image"], "bad.nii"]
    store = VolumeStore(table.root / "two")
    with pytest.raises(StoreError, match=r"1 of 5 cases .*\n  - case 'case4': .*bad\.nii"):
        store.prepare(table_of(table.root, images), SETTINGS, jobs=2)
    two = store.prepare(table, SETTINGS, jobs=2)
    for first, second in zip(files_of(one), files_of(two), strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_a_killed_process_is_an_error_that_names_cases_and_remedy(table: Table) -> None:
    for i in range(4, 12):
        write_scan(table.root / f"{i}.nii.gz", i)
    many = table_of(table.root, [f"{i}.nii.gz" for i in range(12)])
    store = VolumeStore(table.root / "store")

    def kill(done: int, total: int) -> None:
        for process in multiprocessing.active_children():
            process.kill()

    with pytest.raises(StoreError, match=r"processes was killed(.|\n)*Prepare again with fewer"):
        store.prepare(many, SETTINGS, jobs=2, on_progress=kill)
    assert store.prepare(many, SETTINGS).case_ids == many.case_ids
    assert volume_store.FORMAT_VERSION
