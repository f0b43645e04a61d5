from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxgraft.errors import StoreError
from voxgraft.store import encoding as encoding_module
from voxgraft.store import entry as entry_module
from voxgraft.store.encoding import MAX_FLOAT16_ERROR, Encoding
from voxgraft.store.entry import Entry, read_index, write_entry

DTYPES = st.sampled_from(["float16", "float32", "uint8", "uint16"])


def write(path: Path, voxels: np.ndarray, dtype: str = "float32") -> Entry:
    encoding = Encoding.of(voxels, dtype)
    write_entry(path, voxels, encoding, background=0.5, affine=np.eye(4), source={"image": "a"})
    return read_index(path)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape).astype(np.float32)


@given(
    dtype=DTYPES,
    channels=st.integers(1, 3),
    axes=st.tuples(*[st.tuples(st.integers(1, 70), st.integers(0, 69), st.integers(1, 70))] * 3),
)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_box_is_what_numpy_cuts(
    tmp_path: Path, dtype: str, channels: int, axes: tuple[tuple[int, int, int], ...]
) -> None:
    shape = tuple(size for size, _, _ in axes)
    start = tuple(min(first, size - 1) for size, first, _ in axes)
    size = tuple(min(n, full - s) for (full, _, n), s in zip(axes, start, strict=True))
    voxels = noise(channels, *shape)
    entry = write(tmp_path / "a.vox", voxels, dtype)
    box = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
    stored = entry.read(start, size)
    np.testing.assert_array_equal(stored, entry.encoding.encode(voxels)[(slice(None), *box)])
    tolerance = {"float32": 0, "float16": 5e-4, "uint16": 1e-5, "uint8": 2.1e-3}[dtype]
    decoded = entry.encoding.decode(stored)
    np.testing.assert_allclose(decoded, voxels[(slice(None), *box)], atol=tolerance, rtol=0)


def test_a_crop_reads_only_the_chunks_that_it_touches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = write(tmp_path / "a.vox", noise(1, 100, 100, 100))
    assert len(entry.lengths) == 4**3
    read: list[tuple[int, int]] = []
    pread = entry_module.os.pread

    def counted(descriptor: int, length: int, offset: int) -> bytes:
        read.append((offset, length))
        return pread(descriptor, length, offset)

    monkeypatch.setattr(entry_module.os, "pread", counted)
    entry.read((32, 0, 40), (32, 33, 20))
    touched = [(1 * 4 + h) * 4 + 1 for h in (0, 1)]
    expected = [(int(entry.offsets[n]), int(entry.lengths[n])) for n in touched]
    assert sorted(read) == sorted(expected)


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), dtype=DTYPES)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_flipped_bit_is_found_before_a_voxel_is_served(
    tmp_path: Path, place: float, bit: int, dtype: str
) -> None:
    path = tmp_path / "a.vox"
    write(path, noise(1, 20, 20, 40), dtype)
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)

    def use() -> None:
        entry = read_index(path)
        entry.read((0, 0, 0), (20, 20, 40))

    with pytest.raises(StoreError, match=r"a\.vox is damaged: .* Prepare the table again"):
        use()


@given(kept=st.floats(0, 1, exclude_max=True), filled=st.booleans())
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_cut_is_found_also_where_zeros_fill_the_rest(
    tmp_path: Path, kept: float, filled: bool
) -> None:
    path = tmp_path / "a.vox"
    write(path, noise(1, 20, 20, 40))
    data = path.read_bytes()
    length = int(kept * len(data))
    path.write_bytes(data[:length] + bytes(len(data) - length) * filled)
    with pytest.raises(StoreError, match="is damaged"):
        read_index(path).verify()


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none\.vox cannot be opened: No such file"):
        read_index(tmp_path / "none.vox")


def test_an_index_that_was_read_before_the_file_was_made_again_is_not_trusted(
    tmp_path: Path,
) -> None:
    entry = write(tmp_path / "a.vox", noise(1, 40, 40, 40))
    other = noise(1, 40, 40, 40, seed=1)
    other[:, :20] = 0  # other lengths, other places
    write(tmp_path / "a.vox", other)
    np.testing.assert_array_equal(entry.read((0, 0, 0), (40, 40, 40)), other)


def test_masks_and_whole_numbers_are_exact_in_integers() -> None:
    mask = (noise(1, 5, 6, 7) > 0.5).astype(np.float32)
    for dtype in ("uint8", "uint16", "float16"):
        encoding = Encoding.of(mask, dtype)
        np.testing.assert_array_equal(encoding.decode(encoding.encode(mask)), mask)
    hu = np.random.default_rng(0).integers(-1024, 3072, (1, 5, 6, 7)).astype(np.float32)
    encoding = Encoding.of(hu, "uint16")
    np.testing.assert_array_equal(encoding.decode(encoding.encode(hu)), hu)
    flat = np.full((1, 2, 2, 2), 0.3, dtype=np.float32)
    for dtype in ("uint8", "uint16", "float16", "float32"):
        encoding = Encoding.of(flat, dtype)
        np.testing.assert_allclose(encoding.decode(encoding.encode(flat)), flat, rtol=1e-3)
        assert Encoding.from_dict(encoding.to_dict()) == encoding


@pytest.mark.parametrize("voxels", [[0.0, 1e6], [10000.0, 10001.0], [0.0, 1e-9]])
def test_float16_is_refused_where_it_would_change_the_values(voxels: list[float]) -> None:
    values = np.array(voxels, dtype=np.float32).reshape(1, 1, 1, 2)
    with pytest.raises(
        StoreError, match=r"float16 storage would change values by up to .* Set stor"
    ):
        Encoding.of(values, "float16")


def test_float16_is_looked_at_only_where_it_could_change_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values = np.linspace(0, 1, 4096, dtype=np.float32).reshape(1, 16, 16, 16)
    back = values.astype(np.float16).astype(np.float32)
    assert np.abs(back - values).max() <= MAX_FLOAT16_ERROR
    monkeypatch.setattr(encoding_module, "MAX_FLOAT16_ERROR", 4.9e-4)
    assert Encoding.of(values, "float16").dtype == "float16"  # by the bound, 2^-11
    monkeypatch.setattr(encoding_module, "MAX_FLOAT16_ERROR", 4.8e-4)
    assert Encoding.of(values, "float16").dtype == "float16"  # by looking: 2^-12 is the worst
    monkeypatch.setattr(encoding_module, "MAX_FLOAT16_ERROR", 2e-4)
    with pytest.raises(StoreError, match="float16 storage would change"):
        Encoding.of(values, "float16")
