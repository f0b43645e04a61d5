"""Clips of videos as batches: one at random in training, several evenly over each in evaluation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from voxgraft.errors import StoreError, VideoError, raise_faults
from voxgraft.feeds.prefetch import Batch, Feed
from voxgraft.types import Spacing3
from voxgraft.videos import (
    Clips,
    VideoHeader,
    clip_places,
    clip_times_s,
    crop,
    read_clip,
    read_video_header,
    scaled_size,
)
from voxgraft.videos.sampling import CENTER

_STREAM = 0x636C6970
"""Sets the random streams of clips apart from others of the same seed."""


@dataclass(frozen=True)
class Pixels:
    """What a batch of clips says of its voxels: black around them, and no size."""

    background: float = 0.0
    spacing_mm: Spacing3 = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class _Cut:
    """A clip that is to be read, and the part of its frames that is served."""

    video: int
    size_pixels: tuple[int, int]
    times_s: Float[np.ndarray, " t"]
    top: float = CENTER
    left: float = CENTER
    flip: bool = False


class ClipFeed(Feed):
    """Serves clips of videos, RGB in [0, 1], decoded ahead of the consumer.

    In training an item is a video, and its clip lies at a random place in time and space, all of
    it a function of the seed, the step and the place in the batch. Otherwise an item is one of
    ``clips.clips_per_video`` clips that lie evenly over each video, seen at their center; scores
    of a video are the mean of its clips'.
    """

    def __init__(
        self,
        paths: Sequence[Path | str],
        targets: Float[np.ndarray, "n k"],
        clips: Clips,
        *,
        training: bool = False,
        seed: int = 0,
        threads: int = 2,
        decoders: int | None = None,
    ) -> None:
        """Check that the files are there; none is opened yet.

        Args:
            paths: The videos.
            targets: (n, K), a row a video.
            clips: How clips are taken.
            training: Whether clips are drawn at random, one of each video at a time.
            seed: Of what is random.
            threads: That make batches.
            decoders: Videos of a batch that are decoded side by side, each by one thread; None
                shares the cores that this process may use among ``threads``.

        Raises:
            StoreError: If there are no videos, or targets do not match.
            VideoError: If files are missing; all are named at once.
        """
        values = np.asarray(targets)
        if values.ndim != 2 or len(values) != len(paths):
            raise StoreError(
                f"targets have shape {values.shape} for {len(paths)} videos. Expected numbers of "
                "shape (videos, targets)."
            )
        self._places = (CENTER,) if training else clip_places(clips.clips_per_video)
        super().__init__(np.repeat(values, len(self._places), axis=0), threads=threads)
        self.paths = tuple(Path(path) for path in paths)
        missing = [f"{path}: no such file" for path in self.paths if not path.is_file()]
        if missing:
            raise_faults(
                VideoError,
                "videos of the table are missing",
                missing,
                "Put them there, or import the folder again.",
            )
        self.prepared = Pixels()
        self.clips = clips
        self._case_targets = torch.from_numpy(values.astype(np.float32))
        self._training = training
        self._seed = seed
        self._decoders = decoders or max(1, _usable_cores() // threads)
        self._headers: dict[int, VideoHeader] = {}

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """(3, frames, height, width) of a clip."""
        size = self.clips.size_pixels
        return (3, self.clips.frames, size, size)

    @property
    def case_targets(self) -> Tensor:
        """Targets (n, K) of the videos."""
        return self._case_targets

    def pool(self, scores: Float[np.ndarray, "m k"]) -> Float[np.ndarray, "n k"]:
        """Return the scores of videos: the mean of those of their clips."""
        by_video = scores.reshape(len(self.paths), len(self._places), scores.shape[1])
        return np.asarray(by_video.mean(axis=1))

    def _batch(self, step: int, positions: Int[np.ndarray, " b"]) -> Batch:
        images = np.empty((len(positions), *self.image_shape), dtype=np.float32)
        if self._decoders > 1:
            with ThreadPoolExecutor(self._decoders, "voxgraft-feed-clips") as pool:
                places = range(len(positions))
                cuts = list(pool.map(lambda p: self._cut(step, p, int(positions[p])), places))
                list(pool.map(lambda own: self._fill(images, own), _together(cuts)))
        else:
            cuts = [self._cut(step, place, int(p)) for place, p in enumerate(positions)]
            for own in _together(cuts):
                self._fill(images, own)
        return Batch(torch.from_numpy(images), self._targets_at(positions))

    def _fill(self, images: Float[np.ndarray, "m 3 t s s"], cuts: dict[int, _Cut]) -> None:
        """Read clips of one video, at one size, into their places in the batch."""
        length = self.clips.frames
        first = next(iter(cuts.values()))
        times = np.concatenate([cut.times_s for cut in cuts.values()])
        frames = read_clip(self.paths[first.video], times, size_pixels=first.size_pixels)
        for number, (place, cut) in enumerate(cuts.items()):
            own = frames[:, number * length : (number + 1) * length]
            part = crop(own, self.clips.size_pixels, top=cut.top, left=cut.left, flip=cut.flip)
            np.divide(part, np.float32(255), out=images[place])

    def _cut(self, step: int, place: int, position: int) -> _Cut:
        video, number = divmod(position, len(self._places))
        header = self._header(video)
        low, high = self.clips.short_side
        if not self._training:
            size = scaled_size(header.height, header.width, low)
            return _Cut(video, size, clip_times_s(header, self.clips, self._places[number]))
        entropy = (int(self._seed) % 2**64, step, place, _STREAM)
        when, side, top, left, mirror = np.random.default_rng(entropy).random(5).tolist()
        return _Cut(
            video,
            scaled_size(header.height, header.width, low + int(side * (high - low + 1))),
            clip_times_s(header, self.clips, when),
            top=top,
            left=left,
            flip=self.clips.flip and mirror < 0.5,
        )

    def _header(self, video: int) -> VideoHeader:
        """Return what a video is; a file is asked once, or once a thread at the worst."""
        if video not in self._headers:
            self._headers[video] = read_video_header(self.paths[video])
        return self._headers[video]


def _together(cuts: Sequence[_Cut]) -> list[dict[int, _Cut]]:
    """Group the clips of a batch, by place, that are read in one go: of one video, at one size."""
    groups: dict[tuple[int, tuple[int, int]], dict[int, _Cut]] = {}
    for place, cut in enumerate(cuts):
        groups.setdefault((cut.video, cut.size_pixels), {})[place] = cut
    return list(groups.values())


def _usable_cores() -> int:
    """Return the cores that this process may run on, where the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
