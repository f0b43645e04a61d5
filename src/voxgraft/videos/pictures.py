"""Decoded frames as RGB arrays, upright and at the size that is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from voxgraft.videos.container import import_av

if TYPE_CHECKING:
    from av import VideoFrame


class Orientation(NamedTuple):
    """How a stored frame is turned for display: transposed first, then flipped."""

    transpose: bool = False
    flip_height: bool = False
    flip_width: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """Read it from a frame's display matrix; turns by less than a quarter are not taken.

        The matrix takes a stored (column, row) to the displayed (a·column + c·row,
        b·column + d·row).
        """
        matrix = import_av().sidedata.sidedata.Type.DISPLAYMATRIX
        data: Any = frame.side_data.get(matrix)
        if data is None:
            return cls()
        a, b, _, c, d, *_ = np.frombuffer(bytes(data), dtype=np.int32)[:9].tolist()
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, b < 0, c < 0)
        return cls(False, d < 0, a < 0)

    def displayed(self, height: int, width: int) -> tuple[int, int]:
        """Return (height, width) as displayed of a stored size; or the other way round."""
        return (width, height) if self.transpose else (height, width)

    def turned(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 3"]:
        """Return a view of a stored picture as it is displayed."""
        if self.transpose:
            picture = picture.transpose(1, 0, 2)
        return picture[:: -1 if self.flip_height else 1, :: -1 if self.flip_width else 1]


class Painter:
    """Makes RGB pictures of one size; for one clip, in one thread."""

    def __init__(self, size_pixels: tuple[int, int] | None) -> None:
        """Set the size (height, width) as displayed; None takes that of the first frame."""
        self.size = size_pixels
        self._scaler = import_av().video.reformatter.VideoReformatter()

    def paint(self, frame: VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
        """Return a frame as RGB, upright; scaled bilinearly, with antialiasing, if need be."""
        orientation = Orientation.of(frame)
        if self.size is None:
            self.size = orientation.displayed(frame.height, frame.width)
        height, width = orientation.displayed(*self.size)
        scaled: Any = self._scaler.reformat(frame, width, height, "rgb24", threads=1)
        return orientation.turned(scaled.to_ndarray())
