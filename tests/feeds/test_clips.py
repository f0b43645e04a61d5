import importlib.util
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from voxgraft.errors import StoreError, VideoError
from voxgraft.feeds import ClipFeed
from voxgraft.videos import Clips, clip_times_s, crop, read_clip, read_video_header, scaled_size

_spec = importlib.util.spec_from_file_location(
    "films", Path(__file__).parents[1] / "videos" / "films.py"
)
films = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(films)

CLIPS = Clips(frames=4, stride=3, size_pixels=24, short_side=(24, 40), clips_per_video=3)
TARGETS = np.arange(6, dtype=np.float64).reshape(3, 2)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    return [
        films.write_video(folder / "long.mp4", films.pattern(50, 48, 64), g="10"),
        films.write_video(folder / "tall.mkv", films.pattern(30, 66, 40), rate=10),
        films.write_video(folder / "short.avi", films.pattern(5, 32, 48), "mpeg4"),
    ]


def test_evaluation_serves_clips_evenly_over_each_video(videos: list[Path]) -> None:
    feed = ClipFeed(videos, TARGETS, CLIPS)
    assert len(feed) == 9
    assert feed.image_shape == (3, 4, 24, 24)
    assert (feed.prepared.background, feed.prepared.spacing_mm) == (0.0, (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(feed.targets, TARGETS[[0, 0, 0, 1, 1, 1, 2, 2, 2]])
    np.testing.assert_array_equal(feed.case_targets, TARGETS)
    schedule = [np.array([0, 1, 2, 3]), np.array([8, 5, 4])]
    served = list(feed.batches(schedule))
    for batch, positions in zip(served, schedule, strict=True):
        assert batch.images.dtype == batch.targets.dtype == torch.float32
        assert batch.images.is_contiguous()
        assert batch.bags is None
        np.testing.assert_array_equal(batch.targets, feed.targets[positions])
        for image, position in zip(batch.images, positions, strict=True):
            header = read_video_header(videos[position // 3])
            size = scaled_size(header.height, header.width, 24)
            times = clip_times_s(header, CLIPS, (0.0, 0.5, 1.0)[position % 3])
            clip = crop(read_clip(header.path, times, size_pixels=size), 24)
            np.testing.assert_allclose(image, clip / 255, rtol=1e-6)
    assert feed.waiting_s > 0


def test_scores_of_a_video_are_the_mean_of_its_clips(videos: list[Path]) -> None:
    feed = ClipFeed(videos, TARGETS, CLIPS)
    scores = np.random.default_rng(0).random((9, 2))
    expected = [scores[0:3].mean(0), scores[3:6].mean(0), scores[6:9].mean(0)]
    np.testing.assert_allclose(feed.pool(scores), expected)
    training = ClipFeed(videos, TARGETS, CLIPS, training=True)
    assert len(training) == 3
    np.testing.assert_array_equal(training.pool(scores[:3]), scores[:3])
    np.testing.assert_array_equal(training.targets, TARGETS)


def test_random_clips_depend_on_seed_step_and_place_alone(videos: list[Path]) -> None:
    def clips(seed: int, first_step: int = 0, decoders: int = 1) -> list[torch.Tensor]:
        feed = ClipFeed(videos, TARGETS, CLIPS, training=True, seed=seed, decoders=decoders)
        schedule = [np.array([0, 1, 0])] * (8 - first_step)
        return [batch.images for batch in feed.batches(schedule, first_step=first_step)]

    first = clips(1)
    for again in (clips(1, decoders=3), [*first[:5], *clips(1, first_step=5)]):
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, clips(2), strict=True))
    seen = {image.numpy().tobytes() for images in first for image in images}
    assert len(seen) == 24


def test_random_clips_lie_everywhere_and_are_mirrored_half_the_time(tmp_path: Path) -> None:
    """Frames tell their number (green), their columns (red) and their rows (blue)."""
    rows, columns = np.mgrid[:40, :60]
    pictures = np.zeros((20, 40, 60, 3), np.uint8)
    pictures[..., 0] = 4 * columns
    pictures[..., 1] = 10 * np.arange(20)[:, None, None]
    pictures[..., 2] = 4 * rows
    film = films.write_video(tmp_path / "f.mkv", pictures, pixels="yuv444p", crf="2", g="5")
    clips = Clips(frames=2, stride=3, size_pixels=24, short_side=(40, 40))
    feed = ClipFeed([film], TARGETS[:1], clips, training=True, seed=4)
    images = torch.cat([b.images for b in feed.batches([np.zeros(30, int)] * 4)]).numpy() * 255
    mirrored = images[:, 0, 0, 0, 0] > images[:, 0, 0, 0, -1]
    assert 40 <= mirrored.sum() <= 80
    left = np.where(mirrored, images[:, 0, 0, 0, -1], images[:, 0, 0, 0, 0]) / 4
    top, number = images[:, 2, 0, 0, 0] / 4, images[:, 1, 0, 10, 10] / 10
    for values, room in ((left, 36), (top, 16), (number, 16)):
        assert values.min() < 0.15 * room
        assert values.max() > 0.85 * room
        assert abs(values.mean() - room / 2) < 0.15 * room
    steps = (images[:, 1, 1, 10, 10] - images[:, 1, 0, 10, 10]) / 10
    np.testing.assert_allclose(steps, 3, atol=0.5)
    plain = ClipFeed([film], TARGETS[:1], Clips(**{**vars(clips), "flip": False}), training=True)
    images = next(iter(plain.batches([np.zeros(20, int)]))).images
    assert (images[:, 0, 0, 0, 0] < images[:, 0, 0, 0, -1]).all()


def test_a_damaged_video_reaches_the_consumer(videos: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"nothing")
    feed = ClipFeed([videos[0], bad], TARGETS[:2], CLIPS, training=True)
    batches = feed.batches([np.array([0]), np.array([1])])
    next(batches)
    with pytest.raises(VideoError, match=r"bad\.mp4: cannot be read as a video"):
        next(batches)
    assert not [t for t in threading.enumerate() if t.name.startswith("voxgraft-feed")]


def test_what_cannot_be_served_is_refused(videos: list[Path], tmp_path: Path) -> None:
    with pytest.raises(VideoError) as error:
        ClipFeed([tmp_path / "a.mp4", videos[0], tmp_path / "b.mp4"], TARGETS, CLIPS)
    assert "a.mp4: no such file" in str(error.value)
    assert "b.mp4: no such file" in str(error.value)
    with pytest.raises(StoreError, match=r"shape \(3, 2\) for 2 videos"):
        ClipFeed(videos[:2], TARGETS, CLIPS)
    with pytest.raises(StoreError, match="a feed got no cases"):
        ClipFeed([], TARGETS[:0], CLIPS)
