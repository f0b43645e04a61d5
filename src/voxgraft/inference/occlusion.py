"""Occlusion in volumes: how much an output drops when a part of the image is covered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from voxgraft.inference.places import Axis, lay_out
from voxgraft.types import Size3

_VOXELS_AT_ONCE = 2**22


def occlusion(
    image: Float[Tensor, "c d h w"],
    outputs: Callable[[Float[Tensor, "b c d h w"]], Float[Tensor, " b"]],
    *,
    background: float,
    boxes: Size3,
) -> Float[Tensor, "d h w"]:
    """Return how much the output drops where a box of background covers the image; never below 0.

    The image is cut into boxes side by side; each is covered in turn. Between the boxes' centers
    the drop is interpolated.

    Args:
        image: What the network is shown.
        outputs: One value an image.
        background: What covers.
        boxes: Boxes along (depth, height, width); no more than voxels.

    Source: arXiv:1311.2901, section 4.2.
    """
    edges = [_edges(size, count) for size, count in zip(image.shape[1:], boxes, strict=True)]
    places = list(product(*(range(len(along) - 1) for along in edges)))
    portion = max(1, _VOXELS_AT_ONCE // image.numel())
    with torch.no_grad():
        whole = outputs(image[None])[0]
        drops = torch.cat(
            [
                whole - outputs(covered)
                for covered in _covered(image, edges, places, portion, background)
            ]
        )
    shape = [len(along) - 1 for along in edges]
    axes = [Axis((along[1] - 1) / 2, along[-1] / (len(along) - 1)) for along in edges]
    return lay_out(drops.relu().reshape(shape), image.shape[1:], axes)


def _edges(size: int, count: int) -> list[int]:
    parts = min(size, count)
    return [round(size * part / parts) for part in range(parts + 1)]


def _covered(
    image: Tensor,
    edges: Sequence[Sequence[int]],
    places: Sequence[tuple[int, ...]],
    portion: int,
    background: float,
) -> Iterator[Tensor]:
    for first in range(0, len(places), portion):
        own = places[first : first + portion]
        covered = image.repeat(len(own), 1, 1, 1, 1)
        for row, place in zip(covered, own, strict=True):
            box = [slice(along[i], along[i + 1]) for along, i in zip(edges, place, strict=True)]
            row[(slice(None), *box)] = background
        yield covered
