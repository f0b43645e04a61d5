import struct
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from voxgraft.errors import VideoError
from voxgraft.videos import read_clip, read_video_header

MakeVideo = Callable[..., Path]
UNEVEN_MS = np.cumsum(np.random.default_rng(0).integers(5, 120, 60)).tolist()
KINDS = {
    "a.mp4": {"g": "12"},
    "open_gop.mp4": {"x264-params": "keyint=10:open-gop=1:bframes=5:b-pyramid=normal:scenecut=0"},
    "b.mkv": {"g": "9", "bf": "3"},
    "c.webm": {"codec": "libvpx-vp9", "g": "20", "lag-in-frames": "16", "cpu-used": "8"},
    "d.avi": {"codec": "mpeg4", "g": "12"},
    "e.mpg": {"codec": "mpeg2video", "g": "9", "bf": "2"},
    "uneven.mp4": {"times_ms": UNEVEN_MS, "g": "15"},
    "late.mkv": {"times_ms": [4000 + time for time in UNEVEN_MS], "g": "15"},
    "odd.mkv": {"size": (37, 51), "pixels": "yuv444p"},
    "ten_bit.mp4": {"pixels": "yuv420p10le"},
}


def all_frames(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Decode a whole video: times (s) after the first frame, and pictures."""
    with av.open(str(path)) as container:
        pairs = [(f.time, f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    times = np.array([time for time, _ in pairs])
    return times - times[0], np.stack([picture for _, picture in pairs])


def shown(path: Path, times_s: np.ndarray) -> np.ndarray:
    times, pictures = all_frames(path)
    last = np.searchsorted(times, times_s + 1e-6, side="right") - 1
    return pictures[np.maximum(last, 0)].transpose(3, 0, 1, 2)


@pytest.mark.parametrize("name", KINDS)
def test_a_clip_is_what_decoding_everything_shows(make_video: MakeVideo, name: str) -> None:
    path = make_video(name, **KINDS[name])
    header = read_video_header(path)
    rng = np.random.default_rng(1)
    for _ in range(12):
        steps = rng.choice([1, 2, 3]) * np.arange(rng.integers(1, 10)) / header.fps
        times = rng.uniform(-0.1, header.duration_s) + steps
        clip = read_clip(path, times)
        assert clip.shape[:2] == (3, len(times))
        np.testing.assert_array_equal(clip, shown(path, times))


def test_frames_come_in_the_order_of_the_times(make_video: MakeVideo) -> None:
    path = make_video("a.mp4", g="12")
    times = np.array([1.5, 0.02, 0.5, 0.5, 99.0, -3.0])
    clip = read_clip(path, times)
    np.testing.assert_array_equal(clip, shown(path, times))
    np.testing.assert_array_equal(clip[:, 4], read_clip(path, [2.39])[:, 0])
    np.testing.assert_array_equal(read_clip(path, times, threads=0), clip)


@pytest.mark.parametrize("size", [(24, 32), (40, 61), (96, 128)])
def test_scaling_is_that_of_torch_with_antialiasing(make_video: MakeVideo, size) -> None:
    path = make_video("a.mkv", size=(96, 128), pixels="yuv444p", frames=6, crf="1")
    plain = torch.from_numpy(np.ascontiguousarray(read_clip(path, [0.1])[:, 0]))
    expected = torch.nn.functional.interpolate(
        plain[None].float(), size=size, mode="bilinear", antialias=True
    )[0]
    scaled = torch.from_numpy(np.ascontiguousarray(read_clip(path, [0.1], size_pixels=size)[:, 0]))
    assert scaled.shape == (3, *size)
    assert (scaled.float() - expected).abs().mean() < 1.5
    nearest = torch.nn.functional.interpolate(plain[None].float(), size=size)[0]
    if size[0] < 96:
        assert (scaled.float() - expected).abs().mean() < (nearest - expected).abs().mean() / 2


def with_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a copy whose track header asks for a rotation or a mirror (a, b, c, d)."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    turned = path.with_name("turned.mp4")
    turned.write_bytes(data)
    return turned


@pytest.mark.parametrize(
    ("matrix", "turn"),
    [
        ((0, 1, -1, 0), lambda x: np.rot90(x, -1, (2, 3))),  # a phone held upright: 90° clockwise
        ((-1, 0, 0, -1), lambda x: x[..., ::-1, ::-1]),
        ((0, -1, 1, 0), lambda x: np.rot90(x, 1, (2, 3))),
        ((-1, 0, 0, 1), lambda x: x[..., ::-1]),  # mirrored left to right
        ((0, 1, 1, 0), lambda x: x.swapaxes(2, 3)),
    ],
)
def test_videos_are_upright(make_video: MakeVideo, matrix, turn) -> None:
    path = make_video("a.mp4", frames=4)
    turned = with_matrix(path, matrix)
    expected = turn(read_clip(path, [0.0, 0.1]))
    np.testing.assert_array_equal(read_clip(turned, [0.0, 0.1]), expected)
    header = read_video_header(turned)
    assert (header.height, header.width) == expected.shape[2:]
    small = read_clip(turned, [0.0], size_pixels=(20, 30))
    assert small.shape == (3, 1, 20, 30)
    if matrix[0] == 0:
        with av.open(str(turned)) as container:
            angle = next(container.decode(video=0)).rotation
        assert matrix[1] == matrix[2] or angle == -90 * matrix[1]


def test_a_video_that_is_cut_short_keeps_its_last_good_frame(make_video: MakeVideo) -> None:
    path = make_video("a.mp4", g="10", muxer={"movflags": "faststart"})
    whole = read_clip(path, np.arange(60) / 25 + 0.02)
    data = path.read_bytes()
    cut = path.with_name("cut.mp4")
    cut.write_bytes(data[: int(0.7 * len(data))])
    clip = read_clip(cut, np.arange(60) / 25 + 0.02)
    good = [bool((clip[:, i] == whole[:, i]).all()) for i in range(60)]
    assert good[:30] == [True] * 30
    assert not any(good[55:])
    last = max(i for i, same in enumerate(good) if same)
    beyond = read_clip(cut, [2.3, 2.35])
    np.testing.assert_array_equal(beyond[:, 0], clip[:, -1])
    assert np.abs(clip[:, -1].astype(int) - whole[:, last]).mean() < 20


def test_damage_in_the_middle_does_not_end_a_clip(make_video: MakeVideo) -> None:
    path = make_video("a.mp4", g="10", muxer={"movflags": "faststart"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 400] = bytes(400)
    hurt = path.with_name("hurt.mp4")
    hurt.write_bytes(data)
    times = np.arange(60) / 25 + 0.02
    clip, whole = read_clip(hurt, times), read_clip(path, times)
    assert clip.shape == whole.shape
    np.testing.assert_array_equal(clip[:, :10], whole[:, :10])
    np.testing.assert_array_equal(clip[:, -5:], whole[:, -5:])


@pytest.mark.parametrize("times", [[], [np.nan], [np.inf, 1.0], [[1.0]]])
def test_impossible_clips_are_refused(make_video: MakeVideo, times) -> None:
    path = make_video("a.mp4", frames=4)
    with pytest.raises(VideoError, match="Expected finite seconds, at least one"):
        read_clip(path, times)
    with pytest.raises(VideoError, match="frames of 0 x 5 pixels"):
        read_clip(path, [0.0], size_pixels=(0, 5))


def test_a_file_is_entered_again_after_a_gap(make_video: MakeVideo) -> None:
    path = make_video("a.mp4", rate=2, g="8")
    times = np.array([29.0, 0.3, 14.6, 15.1])
    np.testing.assert_array_equal(read_clip(path, times), shown(path, times))
