"""A network over a whole scan, window by window; only the part in work is in memory."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.errors import InferenceError
from voxgraft.sliding.window_buffer import Block, Place, WindowBuffer
from voxgraft.sliding.window_crops import is_empty, windows_of
from voxgraft.sliding.window_head import Predictor, run_and_part
from voxgraft.sliding.window_plan import Step, WindowPlan, plan_windows
from voxgraft.sliding.window_settings import Sliding
from voxgraft.sliding.window_weights import window_weights

__all__ = ["Predictor", "Sliding", "done_blocks", "sliding_window"]

_CPU_BATCH_BYTES = 2**26
"""Of a batch's values on a CPU, where larger ones gain nothing and take memory."""


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

    A network that ends in a 1×1×1 convolution to more channels is run up to it. The convolution,
    which is linear and sees single voxels, then runs once for each voxel of the scan on the mean
    instead of once for each window. The scores are the same but for rounding.

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
    flips = _flips(sliding.mirror)
    size, window = image.shape[1:], sliding.window_size
    # How many values a voxel has is known from the first window, which every plan begins with.
    first = next(plan_windows(size, window, sliding.overlaps).steps()).start
    windows = windows_of(image, [first], sliding).to(device)
    given: object
    if head is None and sliding.split_head:
        given, headless = run_and_part(predict, windows)
        predict, head = headless or (predict, None)
    else:
        given = predict(windows)
    shown = _mirrored(predict, windows, _checked(given, windows), flips)
    del given, windows
    where = shown.device if sliding.buffer_device is None else torch.device(sliding.buffer_device)
    dtype = torch.float64 if shown.dtype == torch.float64 else torch.float32
    weights = window_weights(window, sliding.weights, sigma_scale=sliding.sigma_scale)
    plan = sliding.plan(size, shown.shape[1], bytes_per_value=dtype.itemsize)
    weights = weights.to(where, dtype)
    buffer = WindowBuffer(shown.shape[1], weights, plan.buffer_voxels, scale=1 / len(flips))
    at_once = sliding.batch_size
    if shown.device.type == "cpu":
        at_once = max(1, min(at_once, _CPU_BATCH_BYTES // shown.nbytes))
    ready = deque(shown)
    del shown  # nothing but `ready` may hold outputs, or they would be there twice
    for batch in _batches(plan, at_once):
        wanted = [not is_empty(image, step.start, sliding) for step in batch]
        if any(wanted) and not ready:
            starts = [step.start for step, one in zip(batch, wanted, strict=True) if one]
            windows = windows_of(image, starts, sliding).to(device)
            ready.extend(_mirrored(predict, windows, _checked(predict(windows), windows), flips))
            del windows
        for step, one in zip(batch, wanted, strict=True):
            values = ready.popleft().to(where, dtype) if one else None
            for block in buffer.take(step, values):
                yield _finished(block, head, means)
            del values
        ready.clear()


def _finished(block: Block, head: Predictor | None, means: bool) -> Block:
    values, weights, place = block
    if head is not None or means:
        values /= weights.clamp_min(torch.finfo(weights.dtype).tiny)
    return Block(values if head is None else head(values[None])[0], weights, place)


def _device_of(predict: Predictor, image: Tensor) -> torch.device:
    first = next(predict.parameters(), None) if isinstance(predict, nn.Module) else None
    return image.device if first is None else first.device


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


def _mirrored(
    predict: Predictor, windows: Tensor, found: Tensor, flips: Sequence[tuple[int, ...]]
) -> Float[Tensor, "b k d h w"]:
    """Return the sum of the outputs for windows, over ways to mirror them; the first is not to."""
    for axes in flips[1:]:
        found = found + _checked(predict(windows.flip(axes)), windows).flip(axes)
    return found


def _checked(found: object, windows: Tensor) -> Float[Tensor, "b k d h w"]:
    batch, size = windows.shape[0], windows.shape[2:]
    shape = found.shape if isinstance(found, Tensor) else None
    if not isinstance(found, Tensor) or found.ndim != 5 or found[:, 0].shape != (batch, *size):
        gave = type(found).__name__ if shape is None else f"a tensor of shape {tuple(shape)}"
        raise InferenceError(
            f"the network gave {gave} for windows of shape {tuple(windows.shape)}; expected one "
            f"tensor ({batch}, outputs, {', '.join(map(str, size))}). Wrap it in a function that "
            "returns the scores of the windows' own voxels."
        )
    return found
