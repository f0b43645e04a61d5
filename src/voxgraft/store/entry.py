"""One preprocessed volume as one file: compressed chunks, an index, and a checksum for each.

The file is written under another name and renamed, and its index stands at the end, so a file
that was cut short has no index. No chunk is decompressed before its checksum is right.

Layout: ``MAGIC``, the chunks one after another (each a blosc2 buffer), the description as JSON,
a table of ``uint32`` pairs (length, CRC-32) a chunk, and the trailer: lengths of the two, CRC-32
of the two, ``END``.
"""

from __future__ import annotations

import itertools
import json
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from jaxtyping import Shaped

from voxgraft.errors import StoreError
from voxgraft.files import atomic_path
from voxgraft.store.encoding import Encoding
from voxgraft.types import Json, Size3

MAGIC = b"voxgraft volume\x01"
END = b"complete"
_TRAILER = struct.Struct(f"<QQI{len(END)}s")

CHUNK_VOXELS = 32
"""Edge of a chunk. A 96³ crop at a random place touches about 62 of them, 2.3 times its voxels."""

_COMPRESSION = {
    "codec": blosc2.Codec.LZ4,
    "clevel": 5,
    "filters": [blosc2.Filter.BITSHUFFLE],
    "nthreads": 1,
}


@dataclass(frozen=True)
class Entry:
    """The index of a stored volume: what it is and where its chunks lie."""

    path: Path
    shape: tuple[int, int, int, int]
    encoding: Encoding
    background: float
    affine: tuple[tuple[float, ...], ...]
    """(4, 4), as :class:`voxgraft.volumes.Affine` has it."""
    source: Json
    """What it was made from."""
    offsets: Shaped[np.ndarray, " chunks"]
    lengths: Shaped[np.ndarray, " chunks"]
    checksums: Shaped[np.ndarray, " chunks"]
    stat: tuple[int, int, int]
    """Size, time of change and inode of the file that this index was read from."""

    def read(self, start: Size3, size: Size3) -> Shaped[np.ndarray, "c d h w"]:
        """Read a box that lies inside the volume, in the stored dtype.

        Only the chunks that the box touches are read.

        Raises:
            StoreError: If the file is gone or changed, or a chunk is damaged.
        """
        box = np.empty((self.shape[0], *size), dtype=self.encoding.dtype)
        with _opened(self.path) as handle:
            if _stat(handle) != self.stat:
                return read_index(self.path).read(start, size)
            touched = [
                range(first // CHUNK_VOXELS, -(-(first + length) // CHUNK_VOXELS))
                for first, length in zip(start, size, strict=True)
            ]
            counts = _chunk_counts(self.shape)
            for place in itertools.product(*touched):
                number = (place[0] * counts[1] + place[1]) * counts[2] + place[2]
                chunk = self._chunk(handle, number, place)
                source: list[slice] = [slice(None)]
                target: list[slice] = [slice(None)]
                for axis in range(3):
                    begin = place[axis] * CHUNK_VOXELS
                    low = max(start[axis], begin)
                    high = min(start[axis] + size[axis], begin + chunk.shape[axis + 1])
                    source.append(slice(low - begin, high - begin))
                    target.append(slice(low - start[axis], high - start[axis]))
                box[tuple(target)] = chunk[tuple(source)]
        return box

    def verify(self) -> None:
        """Check every chunk against its checksum.

        Raises:
            StoreError: If one is damaged.
        """
        with _opened(self.path) as handle:
            for number in range(len(self.lengths)):
                self._compressed(handle, number)

    def _compressed(self, handle: Any, number: int) -> bytes:
        length = int(self.lengths[number])
        data: bytes = os.pread(handle.fileno(), length, int(self.offsets[number]))
        if len(data) != length or zlib.crc32(data) != int(self.checksums[number]):
            raise damaged(self.path, f"the checksum of chunk {number} is wrong")
        return data

    def _chunk(self, handle: Any, number: int, place: tuple[int, ...]) -> Any:
        shape = (self.shape[0], *_chunk_shape(self.shape, place))
        chunk = np.empty(shape, dtype=self.encoding.dtype)
        try:
            blosc2.decompress2(self._compressed(handle, number), dst=chunk, nthreads=1)
        except (RuntimeError, ValueError) as error:
            raise damaged(self.path, f"chunk {number} cannot be decompressed ({error})") from error
        return chunk


def damaged(path: Path, reason: str) -> StoreError:
    """Return the error for a stored volume that cannot be used."""
    return StoreError(
        f"the stored volume {path} is damaged: {reason}. Prepare the table again: a damaged "
        "volume is found and made again from its scan."
    )


def write_entry(
    path: Path,
    voxels: Shaped[np.ndarray, "c d h w"],
    encoding: Encoding,
    *,
    background: float,
    affine: Any,
    source: Json,
) -> None:
    """Write a volume (or integers that are encoded already), whole or not at all."""
    description = {
        "shape": list(voxels.shape),
        "encoding": encoding.to_dict(),
        "background": background,
        "affine": np.asarray(affine, dtype=np.float64).tolist(),
        "source": source,
    }
    itemsize = np.dtype(encoding.dtype).itemsize
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        handle.write(MAGIC)
        table = []
        for place in _places(voxels.shape):
            box = tuple(slice(p * CHUNK_VOXELS, (p + 1) * CHUNK_VOXELS) for p in place)
            chunk = np.ascontiguousarray(encoding.encode(voxels[(slice(None), *box)]))
            data = blosc2.compress2(chunk, typesize=itemsize, **_COMPRESSION)
            handle.write(data)
            table.append((len(data), zlib.crc32(data)))
        text = json.dumps(description, allow_nan=False).encode()
        pairs = np.array(table, dtype="<u4").tobytes()
        handle.write(text + pairs)
        handle.write(_TRAILER.pack(len(text), len(pairs), zlib.crc32(text + pairs), END))


def read_index(path: Path) -> Entry:
    """Read the index of a stored volume.

    Raises:
        StoreError: If the file is missing, cut short or damaged in its index.
    """
    with _opened(path) as handle:
        stat = _stat(handle)
        size = stat[0]
        if handle.read(len(MAGIC)) != MAGIC or size < len(MAGIC) + _TRAILER.size:
            raise damaged(path, "it does not begin like one")
        handle.seek(size - _TRAILER.size)
        text_length, table_length, checksum, end = _TRAILER.unpack(handle.read(_TRAILER.size))
        begin = size - _TRAILER.size - text_length - table_length
        if end != END or begin < len(MAGIC):
            raise damaged(path, "its end is missing")
        handle.seek(begin)
        index = handle.read(text_length + table_length)
    if zlib.crc32(index) != checksum:
        raise damaged(path, "the checksum of its index is wrong")
    description = json.loads(index[:text_length])
    table = np.frombuffer(index[text_length:], dtype="<u4").reshape(-1, 2).astype(np.int64)
    channels, depth, height, width = description["shape"]
    shape = (channels, depth, height, width)
    offsets = len(MAGIC) + np.concatenate([[0], np.cumsum(table[:, 0])])
    if len(table) != np.prod(_chunk_counts(shape)) or offsets[-1] != begin:
        raise damaged(path, "its index does not fit its length")
    return Entry(
        path=path,
        shape=shape,
        encoding=Encoding.from_dict(description["encoding"]),
        background=description["background"],
        affine=tuple(tuple(row) for row in description["affine"]),
        source=description["source"],
        offsets=offsets[:-1],
        lengths=table[:, 0],
        checksums=table[:, 1],
        stat=stat,
    )


def _opened(path: Path) -> Any:
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise StoreError(
            f"the stored volume {path} cannot be opened: {error.strerror}. Prepare the table "
            "again: what is missing in the store is made again."
        ) from error


def _stat(handle: Any) -> tuple[int, int, int]:
    status = os.fstat(handle.fileno())
    return status.st_size, status.st_mtime_ns, status.st_ino


def _chunk_counts(shape: tuple[int, ...]) -> Size3:
    depth, height, width = (-(-size // CHUNK_VOXELS) for size in shape[1:])
    return depth, height, width


def _chunk_shape(shape: tuple[int, ...], place: tuple[int, ...]) -> Size3:
    depth, height, width = (
        min(CHUNK_VOXELS, size - p * CHUNK_VOXELS) for size, p in zip(shape[1:], place, strict=True)
    )
    return depth, height, width


def _places(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(count) for count in _chunk_counts(shape)))
