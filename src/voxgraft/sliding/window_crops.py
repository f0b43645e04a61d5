"""What a window shows of a scan."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from voxgraft.sliding.window_settings import Sliding
from voxgraft.types import Size3


def _crop(image: Tensor, start: Size3, window: Size3) -> Tensor:
    places = [slice(max(0, a), max(0, a + edge)) for a, edge in zip(start, window, strict=True)]
    return image[(slice(None), *places)]


def is_empty(image: Tensor, start: Size3, sliding: Sliding) -> bool:
    """Return whether a window has nothing to show to the network."""
    if sliding.skip_below is None:
        return False
    return bool(_crop(image, start, sliding.window_size).amax() <= sliding.skip_below)


def windows_of(
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
