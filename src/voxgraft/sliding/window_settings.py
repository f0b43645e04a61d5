"""How windows go over a scan."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from voxgraft.errors import InferenceError, raise_faults
from voxgraft.sliding.window_plan import WindowPlan, plan_windows
from voxgraft.types import Size3

_LEAST_BYTES, _MOST_BYTES = 2**30, 3 * 2**30
_SHARE = 0.165
_MORE_WINDOWS = 1.5


@dataclass(frozen=True)
class Sliding:
    """How windows go over a scan; the values are checked when it is made."""

    window_size: Size3
    """(depth, height, width) of a window, in voxels."""
    overlap: float | tuple[float, float, float] = 0.5
    """Of neighboring windows, as a share of a window: one for all axes, or one each."""
    weights: str = "gaussian"
    """``gaussian``: the middle of a window counts most; ``constant``: all of it counts alike."""
    sigma_scale: float = 0.125
    """Standard deviation of the gaussian, as a share of the window's edge."""
    batch_size: int = 1
    """Windows that the network sees at once; on a CPU fewer, where they take much memory."""
    mirror: tuple[int, ...] = ()
    """Axes (0 depth, 1 height, 2 width) along which windows are also shown mirrored."""
    padding: str = "constant"
    """What extends a scan that is smaller than a window: ``constant`` or ``replicate``."""
    padding_value: float = 0.0
    """With ``constant``."""
    skip_below: float | None = None
    """Windows without any voxel above this are not shown to the network; None shows it all."""
    max_buffer_bytes: int | None = None
    """For values of voxels that are begun and not done; more windows are run to keep to it.

    None: 3 GiB; less for smaller scans, but at least 1 GiB: 16.5% of what the values of all voxels
    take, if that runs at most half as many windows again. A network that is slow, with many
    classes, and does not end in a 1×1×1 convolution is quicker with a number here.
    """
    device: str | None = None
    """Where the network is; None asks its parameters, and without any the image."""
    buffer_device: str | None = None
    """Where values are added up and decided on; None: where the network gives them."""
    split_head: bool = True
    """Whether a network that ends in a 1×1×1 convolution to more channels is run up to it."""

    def __post_init__(self) -> None:
        faults = []
        if len(self.window_size) != 3 or min(self.window_size) < 1:
            faults.append(f"window_size is {self.window_size}, not three sizes of at least 1")
        if len(self.overlaps) != 3 or not all(0 <= share < 1 for share in self.overlaps):
            faults.append(f"overlap is {self.overlap}, not at least 0 and below 1")
        if self.weights not in ("gaussian", "constant"):
            faults.append(f"weights is {self.weights!r}, not gaussian or constant")
        if not 0 < self.sigma_scale < float("inf"):
            faults.append(f"sigma_scale is {self.sigma_scale}, not positive and finite")
        if self.batch_size < 1:
            faults.append(f"batch_size is {self.batch_size}, not at least 1")
        if len(set(self.mirror)) != len(self.mirror) or not set(self.mirror) <= {0, 1, 2}:
            faults.append(f"mirror is {self.mirror}, not different axes of 0, 1 and 2")
        if self.padding not in ("constant", "replicate"):
            faults.append(f"padding is {self.padding!r}, not constant or replicate")
        if self.skip_below is not None and not math.isfinite(self.skip_below):
            faults.append(f"skip_below is {self.skip_below}, not finite")
        if self.max_buffer_bytes is not None and self.max_buffer_bytes < 1:
            faults.append(f"max_buffer_bytes is {self.max_buffer_bytes}, not positive")
        if faults:
            raise_faults(
                InferenceError, "a scan cannot be seen so", faults, "Correct these settings."
            )

    @property
    def overlaps(self) -> tuple[float, ...]:
        """The overlap along (depth, height, width)."""
        return self.overlap if isinstance(self.overlap, tuple) else (self.overlap,) * 3

    def plan(self, size: Sequence[int], channels: int, *, bytes_per_value: int = 4) -> WindowPlan:
        """Plan the windows over a scan.

        Args:
            size: (depth, height, width) of the scan, in voxels.
            channels: Values that are added up for each voxel.
            bytes_per_value: Of each.

        Raises:
            InferenceError: If nothing fits in ``max_buffer_bytes``.
        """
        # One channel more holds the sum of the weights.
        per_voxel = (channels + 1) * bytes_per_value
        axes = size, self.window_size, self.overlaps
        if self.max_buffer_bytes is not None:
            return plan_windows(*axes, max_voxels=self.max_buffer_bytes // per_voxel)
        quickest = plan_windows(*axes, max_voxels=_MOST_BYTES // per_voxel)
        room = max(_LEAST_BYTES // per_voxel, int(_SHARE * math.prod(size)))
        if quickest.buffer_voxels <= room:
            return quickest
        try:
            smaller = plan_windows(*axes, max_voxels=room)
        except InferenceError:  # nothing fits there, but the quickest is within the bound
            return quickest
        return smaller if smaller.windows <= _MORE_WINDOWS * quickest.windows else quickest
