from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxgraft.errors import RecipeError, VideoError
from voxgraft.videos import (
    Clips,
    VideoHeader,
    clip_frames,
    clip_places,
    clip_times_s,
    crop,
    scaled_size,
)

HEADER = VideoHeader(path=Path("a.mp4"), frames=100, fps=25.0, height=48, width=64, duration_s=4.0)


def test_clips_by_hand() -> None:
    assert clip_frames(10, length=4, stride=2, place=0).tolist() == [0, 2, 4, 6]
    assert clip_frames(10, length=4, stride=2, place=1).tolist() == [3, 5, 7, 9]
    assert clip_frames(9, length=4, stride=2).tolist() == [1, 3, 5, 7]
    assert clip_frames(5, length=4, stride=2, place=0.9).tolist() == [0, 2, 4, 4]
    assert clip_frames(1, length=3, stride=7).tolist() == [0, 0, 0]
    assert clip_places(1) == (0.5,)
    assert clip_places(3) == (0.0, 0.5, 1.0)
    for count, place in ((0, 0.5), (5, 1.5), (5, -0.1), (5, float("nan"))):
        with pytest.raises(VideoError, match="Expected a place from 0 to 1"):
            clip_frames(count, place=place)


@given(
    count=st.integers(1, 400),
    length=st.integers(1, 40),
    stride=st.integers(1, 9),
    place=st.floats(0, 1),
)
def test_clips_are_inside_and_regular(count: int, length: int, stride: int, place: float) -> None:
    frames = clip_frames(count, length=length, stride=stride, place=place)
    assert frames.shape == (length,)
    assert frames.min() >= 0
    assert frames.max() < count
    steps = np.diff(frames)
    if count > (length - 1) * stride:
        assert (steps == stride).all()
    else:
        assert frames[0] == 0
        assert frames[-1] == count - 1
        assert ((steps == stride) | (frames[1:] == count - 1)).all()


def test_all_starts_are_equally_likely() -> None:
    places = np.random.default_rng(0).random(8000)
    starts = [clip_frames(10, length=4, stride=2, place=p)[0] for p in places]
    counts = np.bincount(starts)
    assert len(counts) == 4
    assert (abs(counts - 2000) < 200).all()


def test_times_are_the_middle_of_frames() -> None:
    clips = Clips(frames=3, stride=10)
    np.testing.assert_allclose(clip_times_s(HEADER, clips, 0), np.array([0.5, 10.5, 20.5]) / 25)
    np.testing.assert_allclose(clip_times_s(HEADER, clips, 1), np.array([79.5, 89.5, 99.5]) / 25)
    unknown = VideoHeader(**{**vars(HEADER), "frames": None})
    np.testing.assert_array_equal(
        clip_times_s(unknown, clips, 0.3), clip_times_s(HEADER, clips, 0.3)
    )
    slow = clip_times_s(HEADER, Clips(frames=3, stride=2, rate_fps=5.0), 1)
    np.testing.assert_allclose(slow, [3.1, 3.5, 3.9])


def test_space_by_hand() -> None:
    assert scaled_size(240, 320, 256) == (256, 341)
    assert scaled_size(1920, 1080, 256) == (455, 256)
    assert scaled_size(7, 7, 5) == (5, 5)
    clip = np.arange(3 * 2 * 5 * 7, dtype=np.uint8).reshape(3, 2, 5, 7)
    np.testing.assert_array_equal(crop(clip, 3), clip[:, :, 1:4, 2:5])
    np.testing.assert_array_equal(crop(clip, 3, top=0, left=1), clip[:, :, :3, 4:])
    np.testing.assert_array_equal(crop(clip, 3, flip=True), clip[:, :, 1:4, 2:5][..., ::-1])
    with pytest.raises(VideoError, match=r"6 x 6 pixels .* of frames of 5 x 7"):
        crop(clip, 6)


def test_impossible_settings_are_named_together() -> None:
    with pytest.raises(RecipeError) as error:
        Clips(frames=0, stride=True, rate_fps=-1.0, short_side=(200, 180), flip="yes")  # type: ignore[arg-type]
    for part in ("frames is 0", "stride is True", "rate_fps is -1.0", "low and high", "flip is"):
        assert part in str(error.value)
    with pytest.raises(RecipeError, match=r"do not fit in\. Expected a short side of at least"):
        Clips(size_pixels=300)
