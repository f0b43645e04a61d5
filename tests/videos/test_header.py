import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import av
import numpy as np
import pytest

from voxgraft.errors import VideoError
from voxgraft.videos import check_video, read_clip, read_video_header

MakeVideo = Callable[..., Path]


@pytest.mark.parametrize(
    ("name", "options", "frames"),
    [
        ("a.mp4", {"bf": "3"}, 60),
        ("b.avi", {"codec": "mpeg4"}, 60),
        ("c.mkv", {}, None),
        ("d.webm", {"codec": "libvpx", "deadline": "realtime"}, None),
    ],
)
def test_header(make_video: MakeVideo, name: str, options: dict, frames: int | None) -> None:
    path = make_video(name, **options)
    header = read_video_header(path)
    assert (header.path, header.frames) == (path, frames)
    assert (header.height, header.width) == (48, 64)
    assert header.fps == pytest.approx(25)
    assert header.duration_s == pytest.approx(2.4, abs=0.01)
    assert check_video(str(path)) == header


def test_a_stream_that_states_no_duration_is_read_through(make_video: MakeVideo) -> None:
    times = list(range(0, 60 * 50, 50))
    path = make_video("live.webm", "libvpx", times_ms=times, muxer={"live": "1"})
    with av.open(str(path)) as container:
        assert container.duration is None
        assert "DURATION" not in container.streams.video[0].metadata
    header = check_video(path)
    assert (header.frames, header.fps) == (60, pytest.approx(20, rel=1e-3))
    assert header.duration_s == pytest.approx(3.0, abs=0.01)


def test_files_that_are_no_videos(tmp_path: Path, sound: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    empty = tmp_path / "empty.mp4"
    empty.touch()
    picture = tmp_path / "picture.mp4"
    from PIL import Image

    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(picture, format="png")
    remedies = {
        text: "cannot be read as a video: Invalid data.*Fetch it again, or leave it out",
        empty: r"is empty \(0 bytes\)",
        picture: r"is a picture \(png_pipe\)",
        sound: "has no video stream; found audio",
        tmp_path: "is a folder; expected a video file",
        tmp_path / "gone.mp4": "no such file",
    }
    for path, message in remedies.items():
        for read in (read_video_header, check_video, lambda path: read_clip(path, [0.0])):
            with pytest.raises(VideoError, match=f"{path.name}: {message}"):
                read(path)


def test_a_cover_picture_is_no_video(sound: Path, make_video: MakeVideo) -> None:
    path = sound.with_name("cover.mp4")
    film = make_video("film.mkv", "mjpeg", pixels="yuvj420p", frames=1)
    with (
        av.open(str(sound)) as music,
        av.open(str(film)) as pictures,
        av.open(str(path), "w") as container,
    ):
        sources = (music.streams.audio[0], pictures.streams.video[0])
        streams = [container.add_stream_from_template(source) for source in sources]
        streams[1].disposition = av.stream.Disposition.attached_pic
        for source, stream in zip((music, pictures), streams, strict=True):
            for packet in source.demux():
                if packet.size:
                    packet.stream = stream
                    container.mux(packet)
    with pytest.raises(VideoError, match="has no video stream; found audio, video"):
        read_video_header(path)


def test_a_file_that_is_cut_short_is_found(make_video: MakeVideo) -> None:
    path = make_video("a.mp4", g="10", frames=120, muxer={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert read_video_header(path).duration_s == pytest.approx(4.8)
    with pytest.raises(VideoError, match=r"cut short: its frames end before 3\.8 s, .* 4\.8 s"):
        check_video(path)
    path.write_bytes(data[:1200])
    with pytest.raises(VideoError, match=r"a\.mp4: .*(cannot be read|not one frame)"):
        read_clip(path, [0.0])


def test_tags_that_are_no_utf8(make_video: MakeVideo) -> None:
    path = make_video("a.avi", "mpeg4", frames=5, title="caf_ au lait")
    path.write_bytes(path.read_bytes().replace(b"caf_", b"caf\xe9"))
    assert read_clip(path, [0.0]).shape == (3, 1, 48, 64)


def test_without_pyav(make_video: MakeVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video("a.mp4", frames=4)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VideoError, match=r'PyAV.*pip install "voxgraft\[video\]"'):
        read_video_header(path)


def test_many_damaged_files(make_video: MakeVideo) -> None:
    """Whatever is broken, it is a VideoError or a clip."""
    rng = np.random.default_rng(0)
    whole = [make_video("a.mp4", g="10"), make_video("b.mkv"), make_video("c.avi", "mpeg4")]
    for number in range(90):
        path = whole[number % 3]
        data = bytearray(path.read_bytes())
        if number % 2:
            data = data[: rng.integers(1, len(data))]
        else:
            for place in rng.integers(0, len(data), 30):
                data[place] = rng.integers(0, 256)
        hurt = path.with_name(f"hurt{path.suffix}")
        hurt.write_bytes(data)
        with suppress(VideoError):
            clip = read_clip(hurt, check_video(hurt).duration_s * rng.random(3))
            assert clip.shape[:2] == (3, 3)
