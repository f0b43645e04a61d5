"""A network over a whole scan, window by window; only the part in work is in memory."""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.errors import InferenceError, raise_faults
from voxgraft.models import SegmentationNetwork
from voxgraft.sliding.window_buffer import Block, Place, WindowBuffer
from voxgraft.sliding.window_plan import Step, WindowPlan, plan_windows
from voxgraft.sliding.window_weights import window_weights
from voxgraft.types import Size3

Predictor = Callable[[Float[Tensor, "b c d h w"]], Float[Tensor, "b k d h w"]]
"""From windows to values of their voxels."""


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
    """Windows that the network sees at once."""
    mirror: tuple[int, ...] = ()
    """Axes (0 depth, 1 height, 2 width) along which windows are also shown mirrored."""
    padding: str = "constant"
    """What extends a scan that is smaller than a window: ``constant`` or ``replicate``."""
    padding_value: float = 0.0
    """With ``constant``."""
    skip_below: float | None = None
    """Windows without any voxel above this are not shown to the network; None shows it all."""
    max_buffer_bytes: int | None = 3 * 2**30
    """For values of voxels that are begun and not done; more windows are run to keep to it."""
    device: str | None = None
    """Where the network is; None asks its parameters, and without any the image."""
    buffer_device: str | None = None
    """Where values are added up and decided on; None: where the network gives them."""

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
        room = self.max_buffer_bytes
        # One channel more holds the sum of the weights.
        voxels = None if room is None else room // ((channels + 1) * bytes_per_value)
        return plan_windows(size, self.window_size, self.overlaps, max_voxels=voxels)


@torch.inference_mode()
def sliding_window(
    predict: Predictor,
    image: Float[Tensor, "c d h w"],
    sliding: Sliding,
    *,
    on_block: Callable[[Float[Tensor, "k d h w"], Place], None],
    head: Predictor | None = None,
) -> None:
    """Run a network over a scan, and hand over the scores part by part as they are done.

    Every voxel is handed over once. Its scores are the weighted mean of those of all windows that
    see it, as MONAI's ``sliding_window_inference`` has them. They are tensors of inference mode,
    and their memory is used again: what is to be kept must be copied. NaN stands where every
    window was skipped (``skip_below``).

    A ``SegmentationNetwork`` with more outputs than its last map has channels is run up to that
    map; its head, which is linear and sees single voxels, then runs once for each voxel of the
    scan on the mean instead of once for each window. The scores are the same but for rounding.

    Args:
        predict: The network; any callable from windows to values of the windows' voxels.
        image: The scan, preprocessed as the network expects.
        sliding: How windows go over it.
        on_block: Takes scores, and where they stand.
        head: Applied to the means; an affine map of single voxels gives what ``predict`` followed
            by it would.

    Raises:
        InferenceError: If the image is no scan, ``predict`` is in training mode or does not give
            values of the windows' voxels, or the buffer cannot be kept within its bound.
    """
    for block in done_blocks(predict, image, sliding, head=head):
        if sliding.skip_below is not None:
            block.values.masked_fill_(block.weights == 0, torch.nan)
        on_block(block.values, block.place)


@torch.inference_mode()
def done_blocks(
    predict: Predictor,
    image: Float[Tensor, "c d h w"],
    sliding: Sliding,
    *,
    head: Predictor | None = None,
    means: bool = True,
) -> Iterator[Block]:
    """Yield the parts of a scan as they are done; see ``sliding_window``.

    Args:
        predict: The network.
        image: The scan.
        sliding: How windows go over it.
        head: Applied to the means.
        means: False leaves sums as they are where there is no head; they have the same largest
            class and the same signs.

    Raises:
        InferenceError: As ``sliding_window``.
    """
    if image.ndim != 4 or image.numel() == 0:
        raise InferenceError(
            f"the image has the shape {tuple(image.shape)}; a scan has (channels, depth, height, "
            "width), none of them 0. Give one scan, without an axis for a batch."
        )
    if isinstance(predict, nn.Module) and predict.training:
        raise InferenceError(
            "the network is in training mode, where scores depend on the batch. Call its eval()."
        )
    device = _device_of(predict, image) if sliding.device is None else torch.device(sliding.device)
    if head is None:
        predict, head = _without_head(predict)
    flips = _flips(sliding.mirror)
    size, window = image.shape[1:], sliding.window_size
    # How many values a voxel has is known from the first window, which every plan begins with.
    first = next(plan_windows(size, window, sliding.overlaps).steps()).start
    shown = _show(predict, _windows(image, [first], sliding), device, flips)
    where = shown.device if sliding.buffer_device is None else torch.device(sliding.buffer_device)
    dtype = torch.float64 if shown.dtype == torch.float64 else torch.float32
    weights = window_weights(window, sliding.weights, sigma_scale=sliding.sigma_scale)
    plan = sliding.plan(size, shown.shape[1], bytes_per_value=dtype.itemsize)
    buffer = WindowBuffer(shown.shape[1], weights.to(where, dtype), scale=1 / len(flips))
    ready = deque(shown)
    del shown  # nothing but `ready` may hold outputs, or they would be there twice
    for batch in _batches(plan, sliding.batch_size):
        wanted = [not _is_empty(image, step.start, sliding) for step in batch]
        if any(wanted) and not ready:
            starts = [step.start for step, one in zip(batch, wanted, strict=True) if one]
            ready.extend(_show(predict, _windows(image, starts, sliding), device, flips))
        for step, one in zip(batch, wanted, strict=True):
            if one:
                buffer.add(step, ready.popleft().to(where, dtype))
            yield from buffer.done(step, head=head, means=means)
        ready.clear()


def _device_of(predict: Predictor, image: Tensor) -> torch.device:
    first = next(predict.parameters(), None) if isinstance(predict, nn.Module) else None
    return image.device if first is None else first.device


def _without_head(predict: Predictor) -> tuple[Predictor, Predictor | None]:
    """Return a network up to its last map and the rest, if that makes fewer values of a voxel."""
    if not isinstance(predict, SegmentationNetwork):
        return predict, None
    last = predict.head
    if not isinstance(last, nn.Conv3d):  # a text-driven head needs the deepest map too
        return predict, None
    if last.kernel_size != (1, 1, 1) or last.in_channels >= last.out_channels:
        return predict, None
    return predict.forward_features, last


def _flips(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Return every choice among the axes, none first, as axes of a batch."""
    counts = range(len(axes) + 1)
    return [
        tuple(axis + 2 for axis in choice)
        for count in counts
        for choice in itertools.combinations(axes, count)
    ]


def _batches(plan: WindowPlan, size: int) -> Iterator[list[Step]]:
    steps = plan.steps()
    yield [next(steps)]
    while batch := list(itertools.islice(steps, size)):
        yield batch


def _crop(image: Tensor, start: Size3, window: Size3) -> Tensor:
    places = [slice(max(0, a), max(0, a + edge)) for a, edge in zip(start, window, strict=True)]
    return image[(slice(None), *places)]


def _is_empty(image: Tensor, start: Size3, sliding: Sliding) -> bool:
    if sliding.skip_below is None:
        return False
    return bool(_crop(image, start, sliding.window_size).amax() <= sliding.skip_below)


def _windows(
    image: Tensor, starts: Sequence[Size3], sliding: Sliding
) -> Float[Tensor, "b c d h w"]:
    """Return windows of a scan, extended where they reach beyond it."""
    window = sliding.window_size
    crops = torch.stack([_crop(image, start, window) for start in starts])
    if not crops.is_floating_point():
        crops = crops.float()
    margins: list[int] = []
    for axis in (2, 1, 0):  # a window beyond the scan is the only one along that axis
        before = max(0, -starts[0][axis])
        margins += [before, window[axis] - before - crops.shape[axis + 2]]
    if not any(margins):
        return crops
    if sliding.padding == "replicate":
        return F.pad(crops, margins, mode="replicate")
    return F.pad(crops, margins, value=sliding.padding_value)


def _show(
    predict: Predictor, windows: Tensor, device: torch.device, flips: Sequence[tuple[int, ...]]
) -> Float[Tensor, "b k d h w"]:
    """Return the sum of the outputs for windows, over ways to mirror them."""
    windows = windows.to(device)
    total: Tensor | None = None
    for axes in flips:
        found = predict(windows.flip(axes) if axes else windows)
        _check_outputs(found, windows)
        if axes:
            found = found.flip(axes)
        total = found if total is None else total + found
    if total is None:
        raise AssertionError("there is at least the way not to mirror")
    return total


def _check_outputs(found: object, windows: Tensor) -> None:
    batch, size = windows.shape[0], tuple(windows.shape[2:])
    shape = tuple(found.shape) if isinstance(found, Tensor) else None
    if shape is None or len(shape) != 5 or shape[0] != batch or shape[2:] != size:
        gave = type(found).__name__ if shape is None else f"a tensor of shape {shape}"
        raise InferenceError(
            f"the network gave {gave} for windows of shape {tuple(windows.shape)}; expected one "
            f"tensor ({batch}, outputs, {', '.join(map(str, size))}). Wrap it in a function that "
            "returns the scores of the windows' own voxels."
        )
