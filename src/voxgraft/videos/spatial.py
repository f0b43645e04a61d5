"""The frames of a clip in space: how large they are scaled, and which part is taken."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from voxgraft.errors import VideoError


def scaled_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """Return (height, width) with the shorter side as asked and the proportions kept."""
    if height <= width:
        return short_side, max(short_side, round(width * short_side / height))
    return max(short_side, round(height * short_side / width)), short_side


def crop(
    clip: UInt8[np.ndarray, "3 t h w"],
    size_pixels: int,
    *,
    top: float = 0.5,
    left: float = 0.5,
    flip: bool = False,
) -> UInt8[np.ndarray, "3 t s s"]:
    """Return a square part of all frames of a clip; a view.

    Args:
        clip: Frames, at least as large as the part.
        size_pixels: Height and width of the part.
        top: Where it lies, from 0 (at the top edge) to 1 (at the bottom edge).
        left: From 0 (at the left edge) to 1 (at the right edge).
        flip: Mirror it left to right.

    Raises:
        VideoError: If the frames are smaller.
    """
    height, width = clip.shape[2:]
    if min(height, width) < size_pixels:
        raise VideoError(
            f"a part of {size_pixels} x {size_pixels} pixels was asked for of frames of {height} x "
            f"{width}. Scale them up first, or ask for less."
        )
    first_row = min(int(top * (height - size_pixels + 1)), height - size_pixels)
    first_column = min(int(left * (width - size_pixels + 1)), width - size_pixels)
    part = clip[
        :, :, first_row : first_row + size_pixels, first_column : first_column + size_pixels
    ]
    return part[..., ::-1] if flip else part
