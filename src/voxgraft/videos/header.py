"""What a video is, without decoding more of it than its first picture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from voxgraft.errors import VideoError
from voxgraft.videos.container import OpenVideo, enter, opened_video, packets_of
from voxgraft.videos.pictures import Orientation

_TAGGED_DURATION = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
_MISSING_TAIL_S = 1.0
"""A file whose last packet lies this much before the end that it states is cut short."""


@dataclass(frozen=True, kw_only=True)
class VideoHeader:
    """What a video file says of itself."""

    path: Path
    frames: int | None
    """How many frames; None where the file does not say."""
    fps: float
    """Frames a second, on average."""
    height: int
    """As displayed: after the rotation that the file asks for."""
    width: int
    duration_s: float
    """From the first frame's presentation to the end of the last one's."""


def read_video_header(path: Path | str) -> VideoHeader:
    """Read what a video is; its first frame is decoded, so that it is known to be one.

    Where a file states no duration or rate (streams recorded by a browser), its packets are read
    through, without decoding.

    Raises:
        VideoError: If PyAV is not installed, or the file is missing, empty, damaged, or has no
            video in it (sound only, a picture, another kind of file).
    """
    path = Path(path)
    with opened_video(path) as video:
        height, width = _displayed_size(path, video)
        frames: int | None = video.stream.frames or None
        rate = video.stream.average_rate or video.stream.guessed_rate
        fps = float(rate) if rate else 0.0
        duration = _stated_duration(video)
    if duration <= 0 or fps <= 0:
        frames, fps, duration = _scan(path, fps)
    if duration <= 0 or fps <= 0:
        raise VideoError(
            f"{path}: has {frames} frame(s) and lasts {duration:g} s; expected a video that "
            "takes time. Leave it out."
        )
    return VideoHeader(
        path=path, frames=frames, fps=fps, height=height, width=width, duration_s=duration
    )


def check_video(path: Path | str) -> VideoHeader:
    """Read what a video is, and see that the file goes on to the end that it states.

    The packets of the last seconds are read, not decoded: a file that was cut short is found,
    damage in its middle is not.

    Raises:
        VideoError: As :func:`read_video_header`, and if the file ends before its video does.
    """
    header = read_video_header(path)
    with opened_video(header.path) as video:
        end = header.duration_s - _MISSING_TAIL_S
        if end <= 0:
            return header
        enter(video, video.start + int(end / video.seconds_a_tick))
        last = max(
            (packet.dts for packet in packets_of(video) if packet.dts is not None), default=None
        )
    reached = 0.0 if last is None else (last - video.start) * video.seconds_a_tick
    if reached < end - 1.0 / header.fps:
        raise VideoError(
            f"{header.path}: is cut short: its frames end before {end:.1f} s, but it states "
            f"{header.duration_s:.1f} s. Fetch it again, or leave it out."
        )
    return header


def _displayed_size(path: Path, video: OpenVideo) -> tuple[int, int]:
    for frame in video.container.decode(video.stream):
        return Orientation.of(frame).displayed(frame.height, frame.width)
    raise VideoError(
        f"{path}: not one frame can be decoded. It is damaged or cut short. Fetch it again, or "
        "leave it out."
    )


def _stated_duration(video: OpenVideo) -> float:
    if video.stream.duration:
        return video.stream.duration * video.seconds_a_tick
    tagged = _TAGGED_DURATION.match(video.stream.metadata.get("DURATION", ""))
    if tagged is None:
        return 0.0
    hours, minutes, seconds = (float(part) for part in tagged.groups())
    return 3600 * hours + 60 * minutes + seconds - video.start * video.seconds_a_tick


def _scan(path: Path, fps: float) -> tuple[int, float, float]:
    """Return frames, rate and duration (s) from the times of all packets."""
    with opened_video(path) as video:
        times = [p.dts if p.pts is None else p.pts for p in packets_of(video)]
    known = sorted(time * video.seconds_a_tick for time in times if time is not None)
    if len(known) > 1 and known[-1] > known[0]:
        step = (known[-1] - known[0]) / (len(known) - 1)
        return len(times), 1 / step, known[-1] - known[0] + step
    return len(times), fps, len(times) / fps if fps > 0 else 0.0
