"""Videos of known frames, written by PyAV."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def pattern(frames: int, height: int, width: int) -> np.ndarray:
    """A bright square that moves over a ramp: (frames, height, width, 3), uint8."""
    rows, columns = np.mgrid[:height, :width]
    pictures = np.zeros((frames, height, width, 3), np.uint8)
    pictures[..., 0] = 60 + 100 * columns / width
    pictures[..., 1] = 40 + 120 * rows / height
    for number, picture in enumerate(pictures):
        picture[..., 2] = 30 + 7 * number % 200
        top, left = 3 * number % (height - 12), 5 * number % (width - 12)
        picture[top : top + 10, left : left + 10] = 230
    return pictures


def write_video(
    path: Path,
    pictures: np.ndarray,
    codec: str = "libx264",
    *,
    rate: int = 25,
    times_ms: list[int] | None = None,
    pixels: str = "yuv420p",
    title: str = "",
    muxer: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Write pictures (frames, height, width, 3) as a video; options are the codec's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=muxer or {}) as container:
        if title:
            container.metadata["title"] = title
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = pixels
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
