"""The checksum of compressed NRRD and MetaImage voxels, which ITK does not look at."""

from __future__ import annotations

import zlib
from pathlib import Path

from voxgraft.errors import VolumeError

_CHUNK = 1 << 20
_MAX_HEADER = 1 << 20
_GZIP_OR_ZLIB = 47


def check_compressed(path: Path) -> None:
    """Unpack the voxels of a compressed file once, without keeping them.

    Raises:
        VolumeError: If they are cut short or their checksum is wrong: ITK would hand out what it
            got so far, and noise or zeros for the rest.
    """
    place = _payload(path)
    if place is None:
        return
    data, offset = place
    unpack = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        with data.open("rb") as handle:
            handle.seek(offset)
            while not unpack.eof:
                packed = unpack.unconsumed_tail or handle.read(_CHUNK)
                if not packed:
                    break
                unpack.decompress(packed, 4 * _CHUNK)
    except (zlib.error, OSError) as error:
        raise VolumeError(
            f"{path}: its compressed voxels are damaged: {error}. Copy or export it again."
        ) from error
    if not unpack.eof:
        raise VolumeError(
            f"{path}: truncated: its compressed voxels end too early. Copy or export it again."
        )


def _payload(path: Path) -> tuple[Path, int] | None:
    """Return the file with the compressed voxels and where they start; None if uncompressed."""
    with path.open("rb") as handle:
        nrrd = handle.readline(_MAX_HEADER).startswith(b"NRRD")
        fields: dict[str, str] = {}
        handle.seek(0)
        while handle.tell() < _MAX_HEADER:
            line = handle.readline(_MAX_HEADER).decode("latin-1")
            if not line.strip() and nrrd:
                break
            name, _, value = line.partition(":" if nrrd else "=")
            fields[name.strip().lower().replace(" ", "")] = value.strip()
            if not line or name.strip().lower() == "elementdatafile":
                break
        offset = handle.tell()
    if nrrd:
        packed = fields.get("encoding", "").lower() in ("gzip", "gz")
        name = fields.get("datafile", "")
        skips = {"lineskip", "byteskip"} & set(fields)
    else:
        packed = fields.get("compresseddata", "").lower() in ("true", "1")
        name = fields.get("elementdatafile", "")
        name = "" if name.upper() == "LOCAL" else name
        skips = {"headersize"} & set(fields)
    if not packed or skips or "%" in name or name.upper().startswith("LIST"):
        return None
    return (path.parent / name, 0) if name else (path, offset)
