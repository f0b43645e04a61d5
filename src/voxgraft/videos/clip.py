"""Frames of a video at given times, exactly those that a player would show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from voxgraft.errors import VideoError
from voxgraft.videos.container import OpenVideo, enter, import_av, opened_video, packets_of
from voxgraft.videos.pictures import Painter

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream

Shown = tuple[float, "VideoFrame | None"]
"""From which tick on a frame is shown, and the frame; None after the last one."""
_END: Shown = (np.inf, None)
_REORDERED = 32
"""Frames that a decoder may hold back, more than any codec does."""
_SKIPPING = ("h264", "hevc", "mpeg4")
"""Decoders that may leave out frames that no other frame refers to."""

_STEPS_BACK_S: tuple[float | None, ...] = (0.0, 2.0, 8.0, None)
"""How long before the first wanted frame a key frame is looked for; None is from the beginning."""
_FAR_S = 10.0
"""Between times further apart, the file is entered again."""
_ROUNDING = 1e-3
"""In ticks: a time that lies this little before a frame's is meant to be its."""


def read_clip(
    path: Path | str,
    times_s: Sequence[float] | Float[np.ndarray, " t"],
    *,
    size_pixels: tuple[int, int] | None = None,
    threads: int = 1,
) -> UInt8[np.ndarray, "3 t h w"]:
    """Read the frames that are shown at some times.

    The frame shown at a time is the last one whose presentation time is not after it, so videos
    of variable frame rate need no other treatment. The file is entered at the key frame before
    the first time, and again after a gap of more than 10 s, and decoded from there; MPEG program
    and transport streams are decoded from their beginning. AVI files do not know when frames are
    presented: there, frames are taken to be shown when they are decoded, which is a few frames
    late if the codec reorders them.

    What the video does not have is filled from its neighbors: times before the first frame get
    the first, times after the last one the last, and where a frame is damaged or the file is cut
    short, the last good frame stays. Only a video without any frame is an error.

    Args:
        path: A video file.
        times_s: In seconds after the video's start, in any order.
        size_pixels: (height, width), as displayed, that frames are scaled to (bilinear, with
            antialiasing); None keeps them.
        threads: Of the decoder; 0 takes as many as it likes.

    Returns:
        RGB, upright (a rotation that the file asks for is applied); not contiguous in memory.

    Raises:
        VideoError: If there are no times, they are not finite, a size is not positive, PyAV is
            not installed, or the file has no frame that can be decoded.
    """
    path = Path(path)
    times = np.asarray(times_s, dtype=np.float64)
    if times.ndim != 1 or times.size == 0 or not np.isfinite(times).all():
        raise VideoError(
            f"{path}: a clip was asked for at the times {times.tolist()!r:.200}. Expected finite "
            "seconds, at least one."
        )
    if size_pixels is not None and min(size_pixels) < 1:
        raise VideoError(
            f"{path}: frames of {size_pixels[0]} x {size_pixels[1]} pixels were asked for. "
            "Expected at least 1 along (height, width)."
        )
    wanted, places = np.unique(times, return_inverse=True)
    parts: list[UInt8[np.ndarray, "n h w 3"]] = []
    for near in np.split(wanted, np.flatnonzero(np.diff(wanted) > _FAR_S) + 1):
        parts.append(_near_frames(path, near, size_pixels, threads))
        size_pixels = parts[0].shape[1:3]
    pictures = parts[0] if len(parts) == 1 else np.concatenate(parts)
    in_order = pictures if np.array_equal(wanted, times) else pictures[places]
    return np.moveaxis(in_order, -1, 0)


def _near_frames(
    path: Path,
    times_s: Float[np.ndarray, " n"],
    size_pixels: tuple[int, int] | None,
    threads: int,
) -> UInt8[np.ndarray, "n h w 3"]:
    """Read the frames shown at ascending times, decoding all that lies between them."""
    for back_s in _STEPS_BACK_S:
        with opened_video(path, threads) as video:
            ticks = video.start + times_s / video.seconds_a_tick + _ROUNDING
            if back_s is not None:
                tick = int(ticks[0] - back_s / video.seconds_a_tick)
                if not enter(video, tick):
                    continue
            frames = _frames(video, ticks, back_s is None)
            pictures = _pictures(frames, ticks, Painter(size_pixels), back_s is None)
        if pictures is not None:
            return pictures
    raise VideoError(
        f"{path}: not one frame can be decoded. It is damaged or cut short. Fetch it again, or "
        "leave it out."
    )


def _pictures(
    frames: Iterable[Shown],
    ticks: Float[np.ndarray, " n"],
    painter: Painter,
    from_start: bool,
) -> UInt8[np.ndarray, "n h w 3"] | None:
    """Paint the frame shown at each tick (ascending); None if decoding began too late for them."""
    pictures: UInt8[np.ndarray, "n h w 3"] | None = None
    shown: VideoFrame | None = None
    done = 0
    for time, frame in chain(frames, (_END,)):
        if shown is not None:
            until = int(np.searchsorted(ticks, time))
            if until > done:
                picture = painter.paint(shown)
                if pictures is None:
                    pictures = np.empty((len(ticks), *picture.shape), dtype=np.uint8)
                pictures[done:until] = picture
                done = until
            if done == len(ticks):
                break
        elif frame is None or (time > ticks[0] and not from_start):
            return None
        shown = frame
    return pictures


def _frames(video: OpenVideo, ticks: Float[np.ndarray, " n"], from_start: bool) -> Iterator[Shown]:
    """Yield frames with the tick that they are shown from; all that ``ticks`` ask for are there.

    Frames that are not asked for and that no other frame needs may be left out.
    """
    packets = _packets(video, ticks)
    if not packets:
        return
    in_time = video.has_presentation_times
    key = packets[0].pts if in_time else packets[0].dts
    latest = -np.inf if from_start or key is None else key - 1
    for frame in _decoded(video, packets, _asked_for(packets, ticks) if in_time else None):
        known = frame.pts if in_time else frame.dts
        if known is None and in_time:
            continue
        time = latest + 1 if known is None else known
        if time > latest:
            latest = time
            yield time, frame


def _packets(video: OpenVideo, ticks: Float[np.ndarray, " n"]) -> list[Packet[VideoStream]]:
    """Return packets from the next key frame up to the last that can matter to the last tick."""
    enough = ticks[-1] + (0 if video.has_presentation_times else _REORDERED)
    packets: list[Packet[VideoStream]] = []
    for packet in packets_of(video):
        if not packets and not packet.is_keyframe:
            continue
        packets.append(packet)
        if packet.dts is not None and packet.dts > enough:
            break
    return packets


def _asked_for(
    packets: list[Packet[VideoStream]], ticks: Float[np.ndarray, " n"]
) -> frozenset[int] | None:
    """Return the times of the frames that are shown at a tick; None if the packets have none."""
    known = [packet.pts for packet in packets if not packet.is_discard]
    if not known or any(time is None for time in known):
        return None
    times = np.unique(np.array(known, dtype=np.int64))
    last = np.searchsorted(times, ticks, side="right") - 1
    return frozenset(times[np.maximum(last, 0)].tolist())


def _decoded(
    video: OpenVideo, packets: list[Packet[VideoStream]], asked_for: frozenset[int] | None
) -> Iterator[VideoFrame]:
    """Decode packets; one that is damaged gives no frame."""
    invalid = import_av().error.InvalidDataError
    codec = video.stream.codec_context
    skips = asked_for is not None and codec.name in _SKIPPING
    for packet in packets:
        unasked = skips and packet.pts not in (asked_for or ())
        codec.skip_frame = "NONREF" if unasked else "DEFAULT"
        try:
            yield from packet.decode()
        except invalid:
            continue
    codec.skip_frame = "DEFAULT"
    try:
        yield from codec.decode(None)
    except invalid:
        return
