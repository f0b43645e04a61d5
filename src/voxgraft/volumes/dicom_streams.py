"""The size that a JPEG, JPEG-LS or JPEG 2000 stream gives itself, read before it is decoded.

Decoders trust it: a damaged size makes them fill the memory, and some then end the process.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import (
    UID,
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
)

from voxgraft.volumes.dicom_slices import Slice

_JPEG = {*JPEGTransferSyntaxes, *JPEGLSTransferSyntaxes}
_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers of a JPEG frame header (SOF), JPEG-LS's included; the others in the range are not."""
_ALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers without a length."""
_START_2000 = b"\xff\x4f\xff\x51"


class StreamSize(NamedTuple):
    """Size of the image in a stream."""

    rows: int
    columns: int
    components: int


def check_stream(dataset: Dataset, item: Slice) -> None:
    """Refuse a compressed slice whose stream has another size than the header says.

    Raises:
        ValueError: With both sizes, or if the stream has none.
    """
    syntax = UID(item.syntax)
    if syntax not in _JPEG and syntax not in JPEG2000TransferSyntaxes:
        return
    stream = get_frame(dataset.PixelData, item.frame or 0, number_of_frames=item.frames)
    found = _jpeg_size(stream) if syntax in _JPEG else _jpeg_2000_size(stream)
    promised = StreamSize(item.rows, item.columns, item.samples)
    if found != promised:
        raise ValueError(
            f"its compressed pixels are {found.rows} x {found.columns} with {found.components} "
            f"components, its header promises {promised.rows} x {promised.columns} with "
            f"{promised.components}"
        )


def _jpeg_size(stream: bytes) -> StreamSize:
    """Walk the markers to the first frame header (ITU-T T.81, B.2.2)."""
    place = 0
    while place + 4 <= len(stream):
        if stream[place] != 0xFF:
            raise ValueError("its compressed pixels are no JPEG stream")
        marker = stream[place + 1]
        if marker in _FRAME_HEADERS:
            rows, columns, components = struct.unpack_from(">HHB", stream, place + 5)
            return StreamSize(rows, columns, components)
        if marker == 0xFF:  # fill byte
            place += 1
        elif marker in _ALONE:
            place += 2
        else:
            place += 2 + int(struct.unpack_from(">H", stream, place + 2)[0])
    raise ValueError("its compressed pixels are a JPEG stream without a frame")


def _jpeg_2000_size(stream: bytes) -> StreamSize:
    """Read the size marker (SIZ; ITU-T T.800, A.5.1) that follows the start of the code."""
    start = stream.find(_START_2000)
    if start < 0:
        raise ValueError("its compressed pixels are no JPEG 2000 stream")
    right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
    components = struct.unpack_from(">H", stream, start + 40)[0]
    return StreamSize(bottom - top, right - left, int(components))
