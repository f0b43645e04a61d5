"""A video file, opened by PyAV: the one place that imports it and translates its errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from voxgraft.errors import VideoError

if TYPE_CHECKING:
    from av import Packet, VideoStream
    from av.container import InputContainer

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv")
"""Suffixes that importers take for a video; a file is read by its content, whatever its suffix."""
_REPLACES_METADATA = 19
"""From this version on, PyAV reads tags that are no UTF-8 without being told how."""
_PICTURES = ("image2", "_pipe")
_SEEKABLE = ("mov,mp4", "matroska", "avi", "flv")
"""Others (MPEG program and transport streams) are decoded from their beginning."""


class OpenVideo(NamedTuple):
    """A file whose video stream can be read, while :func:`opened_video`'s block runs."""

    container: InputContainer
    stream: VideoStream
    seconds_a_tick: float
    """Unit of presentation times."""
    start: int
    """Presentation time of the first frame, in ticks, as the file states it."""
    seekable: bool
    """Whether the file knows its key frames, so that it can be entered anywhere."""
    has_presentation_times: bool
    """Whether packets know when they are presented; those of AVI know when they are decoded."""


@contextmanager
def opened_video(path: Path, threads: int = 1) -> Iterator[OpenVideo]:
    """Open a file and its first video stream that is not a cover picture.

    Whatever PyAV raises inside the block becomes a :class:`VideoError` that names the file.

    Args:
        path: A local file.
        threads: Of the decoder; 0 takes as many as it likes.

    Raises:
        VideoError: If PyAV is not installed, or the file is missing, empty, no video, or damaged.
    """
    av = import_av()
    if path.is_dir() or not path.exists():
        what = "is a folder" if path.is_dir() else "no such file"
        raise VideoError(f"{path}: {what}; expected a video file. Correct the path.")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: is empty (0 bytes). Fetch it again, or leave it out.")
    options: dict[str, Any] = {"options": {"protocol_whitelist": "file"}}
    if int(av.__version__.split(".")[0]) < _REPLACES_METADATA:
        options["metadata_errors"] = "replace"
    try:
        with av.open(str(path), **options) as container:
            yield _video_stream(path, container, threads)
    except av.error.FFmpegError as error:
        raise VideoError(
            f"{path}: cannot be read as a video: {error.strerror or error}. It is damaged, cut "
            "short, or no video. Fetch it again, or leave it out."
        ) from error


def import_av() -> Any:
    """Import PyAV, which decodes videos.

    Raises:
        VideoError: If it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise VideoError(
            f"videos are decoded by PyAV, which cannot be imported ({error}). Install it: pip "
            'install "voxgraft[video]"'
        ) from error
    return av


def packets_of(video: OpenVideo) -> Iterator[Packet[VideoStream]]:
    """Yield the stream's packets in decoding order, up to the end or to where the file is cut."""
    av = import_av()
    try:
        for packet in video.container.demux(video.stream):
            if packet.size:
                yield packet
    except (av.error.InvalidDataError, av.error.EOFError):
        return


def enter(video: OpenVideo, tick: int) -> bool:
    """Go to the last key frame at or before a tick; False where the file cannot be entered there.

    Damaged indices make that impossible, and streams that have none.
    """
    if not video.seekable:
        return False
    try:
        video.container.seek(max(tick, video.start), stream=video.stream)
    except import_av().error.PermissionError:  # a seek that fails says -1, whatever its reason
        return False
    return True


def _video_stream(path: Path, container: InputContainer, threads: int) -> OpenVideo:
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        others = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise VideoError(
            f"{path}: has no video stream; found {others}. Leave it out, or fetch the file with "
            "its pictures."
        )
    kind = container.format.name
    if kind.endswith(_PICTURES):
        raise VideoError(f"{path}: is a picture ({kind}); expected a video. Leave it out.")
    stream = streams[0]
    if stream.codec_context is None or not stream.time_base:
        raise VideoError(
            f"{path}: its video stream is of a kind that this PyAV cannot decode. Convert it to "
            "H.264 (`ffmpeg -i FILE -c:v libx264 NEW.mp4`), or leave it out."
        )
    stream.codec_context.thread_count = threads
    stream.codec_context.thread_type = "NONE" if threads == 1 else "AUTO"
    return OpenVideo(
        container,
        stream,
        seconds_a_tick=float(stream.time_base),
        start=stream.start_time or 0,
        seekable=kind.startswith(_SEEKABLE),
        has_presentation_times=kind != "avi",
    )
