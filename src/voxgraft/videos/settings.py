"""How clips are taken from videos."""

from __future__ import annotations

import math
from dataclasses import dataclass

from voxgraft.errors import RecipeError, raise_faults


@dataclass(frozen=True, kw_only=True)
class Clips:
    """How clips are taken from videos, for training and for evaluation.

    The defaults are those that networks are commonly pre-trained with on Kinetics.

    Raises:
        RecipeError: If a value is impossible; all faults are named at once.

    Source: Feichtenhofer et al., SlowFast Networks for Video Recognition, ICCV 2019, section 4.
    """

    frames: int = 32
    """Frames of a clip."""
    stride: int = 2
    """From one frame of a clip to its next, in frames of the video (or of ``rate_fps``)."""
    rate_fps: float | None = None
    """Rate that strides count in, for videos of any rate; None counts each video's own frames."""
    size_pixels: int = 224
    """Height and width of a clip: cropped at a random place in training, else from the center."""
    short_side: tuple[int, int] = (256, 320)
    """Bounds of the shorter side, in pixels, that videos are scaled to before the crop: drawn
    from them in training, the lower one otherwise."""
    flip: bool = True
    """Whether half of the training clips are mirrored left to right."""
    clips_per_video: int = 10
    """Clips, evenly over the video, whose scores are averaged in evaluation."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        faults = [
            f"{name} is {getattr(self, name)!r}, expected a whole number of at least 1"
            for name in ("frames", "stride", "size_pixels", "clips_per_video")
            if not _is_count(getattr(self, name))
        ]
        rate = self.rate_fps
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            faults.append(f"rate_fps is {rate!r}, expected a positive number")
        sides = self.short_side
        if len(sides) != 2 or not all(_is_count(side) for side in sides) or sides[0] > sides[1]:
            faults.append(f"short_side is {sides!r}, expected two whole numbers, low and high")
        elif _is_count(self.size_pixels) and sides[0] < self.size_pixels:
            faults.append(
                f"short_side is {sides!r} and size_pixels {self.size_pixels}: crops do not fit in. "
                f"Expected a short side of at least {self.size_pixels}"
            )
        if self.flip not in (True, False):
            faults.append(f"flip is {self.flip!r}, expected true or false")
        if faults:
            raise_faults(RecipeError, "these clips are impossible", faults, "Mend the settings.")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
