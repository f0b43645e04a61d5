"""Which frames of a video a clip has: places in time, before anything is decoded."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from voxgraft.errors import VideoError
from voxgraft.videos.header import VideoHeader
from voxgraft.videos.settings import Clips

CENTER = 0.5
"""Place of a clip in the middle of its video."""


def clip_places(clips: int) -> tuple[float, ...]:
    """Return the places of clips that lie evenly over a video, from its first frame to its last.

    A place is a fraction of the room that a clip has in its video: 0 is the earliest, 1 the
    latest, a number drawn evenly from [0, 1) a random one. One clip lies in the middle.
    """
    return (CENTER,) if clips == 1 else tuple(i / (clips - 1) for i in range(clips))


def clip_frames(
    count: int, *, length: int = 32, stride: int = 2, place: float = CENTER
) -> Int[np.ndarray, " length"]:
    """Return the positions of a clip's frames in a video of ``count`` frames.

    A clip spans ``(length - 1) * stride + 1`` frames. In a shorter video it begins with the first
    frame, and the last frame is repeated to its end.

    Args:
        count: Frames of the video, at least 1.
        length: Frames of the clip.
        stride: From one frame of the clip to the next.
        place: From 0 (earliest start) to 1 (latest); all starts are equally likely if it is drawn
            evenly from [0, 1).

    Raises:
        VideoError: If there is no frame, or the place is not within [0, 1].
    """
    if count < 1 or not 0 <= place <= 1:
        raise VideoError(
            f"a clip was asked for at place {place} of a video of {count} frames. Expected a place "
            "from 0 to 1 and at least one frame."
        )
    room = max(0, count - (length - 1) * stride - 1)
    start = min(int(place * (room + 1)), room)
    return np.minimum(start + stride * np.arange(length), count - 1)


def clip_times_s(
    header: VideoHeader, clips: Clips, place: float = CENTER
) -> Float[np.ndarray, " t"]:
    """Return the times of a clip's frames: the middle of each, in seconds after the start.

    Args:
        header: The video.
        clips: How many frames, how far apart; with ``rate_fps`` they lie on a grid of that rate,
            otherwise on the video's own average rate.
        place: From 0 (earliest start) to 1 (latest).
    """
    fps = header.fps if clips.rate_fps is None else clips.rate_fps
    count = header.frames if clips.rate_fps is None else None
    if count is None:
        count = max(1, round(header.duration_s * fps))
    chosen = clip_frames(count, length=clips.frames, stride=clips.stride, place=place)
    return (chosen + 0.5) / fps
