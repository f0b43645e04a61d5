"""Rules for tables of positions: between grids, and from images to volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from voxgraft.errors import ConversionError
from voxgraft.positions import Interpolation, cubic_grid, resize_table, square_grid
from voxgraft.types import Size3

Shape = tuple[int, ...]


def _shown(grid: Sequence[int]) -> str:
    return "×".join(map(str, grid))


def _way(kind: str, old: Sequence[int], new: Size3) -> str:
    same_plane = tuple(old[-2:]) == new[1:]
    repeated = len(old) == 2 and new[0] > 1
    how = "interpolated" if not same_plane or not repeated else "repeated along depth"
    return f"{kind} {_shown(old)} to {_shown(new)} ({how})"


def _partial_grid(
    places: int, axes: tuple[int, ...], usual: Sequence[int] | None = None
) -> Size3 | None:
    """Return the grid of a table that runs along one axis, or in a plane, of a volume."""
    sizes: Sequence[int] | None = (places,)
    if len(axes) == 2:
        plane = [usual[axis] for axis in axes] if usual is not None and len(usual) == 3 else []
        sizes = plane if plane and math.prod(plane) == places else square_grid(places)
    if sizes is None:
        return None
    grid = [1, 1, 1]
    for axis, size in zip(axes, sizes, strict=True):
        grid[axis] = size
    return grid[0], grid[1], grid[2]


@dataclass(frozen=True, kw_only=True)
class ResizePositions:
    """Resample a learned table of absolute positions to the model's grid.

    Between images, from an image to a volume (the table of the plane in every plane), or between
    volumes. The rows before those of the tokens (class token, registers) stay as they are, and so
    does the whole table where the grid is the same.

    Source:
        arXiv:2010.11929, section 3.2 (2D interpolation of position embeddings at another
        resolution); repeating them along depth keeps the 2D response to a constant volume.
    """

    name: str
    """The model's name of the table, ``(1, prefix + places, channels)`` or without the first
    axis."""
    grid: Size3
    """The model's grid of tokens (depth, height, width)."""
    prefix: int = 0
    """Rows before those of the tokens, in the source as in the model."""
    image: bool = False
    """Whether the source's table is one of images."""
    source_grid: tuple[int, ...] | None = None
    """The source's grid; by default ``usual_grid`` where it has as many places, else a square
    (images) or a cube (volumes)."""
    usual_grid: tuple[int, ...] | None = None
    """The grid that the source's input contract implies."""
    axes: tuple[int, ...] = (0, 1, 2)
    """Axes of a volume along which the table runs, where it is a table of volumes."""
    interpolation: Interpolation = "bicubic"

    def adapt(self, name: str, tensor: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
        """Return the resampled table and how, or None if the rule has nothing to do."""
        if name != self.name or tensor.ndim not in (2, 3) or tensor.shape[-1] != shape[-1]:
            return None
        rows = tensor.reshape(-1, tensor.shape[-1])
        if tuple(tensor.shape) == shape and self.source_grid is None and not self.image:
            return None
        old = self.source_grid_of(len(rows) - self.prefix)
        if (1,) * (3 - len(old)) + tuple(old) == self.grid:
            return None
        table = resize_table(rows[self.prefix :], old, self.grid, self.interpolation)
        whole = torch.cat([rows[: self.prefix], table])
        return whole.reshape(*shape[:-2], *whole.shape), _way("positions", old, self.grid)

    def source_grid_of(self, places: int) -> tuple[int, ...]:
        """Return the grid of a source's table with so many places.

        Raises:
            ConversionError: If it is not given and cannot be told, or has another number of places.
        """
        if self.source_grid is not None:
            if math.prod(self.source_grid) != places:
                raise ConversionError(
                    f"the source's table has {places} positions after {self.prefix} of other "
                    f"tokens, but source_grid is {_shown(self.source_grid)}. Give the grid that "
                    "the source was trained with."
                )
            return self.source_grid
        if self.usual_grid is not None and math.prod(self.usual_grid) == places:
            return self.usual_grid
        if self.image:
            grid: tuple[int, ...] | None = square_grid(places)
        elif len(self.axes) < 3:
            grid = _partial_grid(places, self.axes, self.usual_grid)
        else:
            grid = cubic_grid(places)
        if grid is None:
            kind, example = ("square", "(14, 10)") if self.image else ("cubic", "(4, 14, 14)")
            raise ConversionError(
                f"the source's table has {places} positions after {self.prefix} of other tokens, "
                f"which is no {kind} grid. Say which grid it is, e.g. "
                f"ResizePositions(name={self.name!r}, grid={self.grid}, prefix={self.prefix}, "
                f"source_grid={example})."
            )
        return grid


@dataclass(frozen=True, kw_only=True)
class ResizeRelativePositions:
    """Resample Swin's table of relative positions to the model's window.

    A window of n tokens along an axis has 2n - 1 offsets there. A table of images is repeated for
    every offset along depth, so that attention among equal slices is that of one slice.

    Source:
        arXiv:2106.13230 (Video Swin), section 3.3: "duplicated 2M-1 times" along time;
        arXiv:2103.14030, section 3.2: bicubic interpolation for another window.
    """

    name: str
    """The model's name of the table, ``(offsets, heads)``."""
    window: Size3
    """The model's window in tokens (depth, height, width)."""
    image: bool = False
    """Whether the source's table is one of images."""
    source_window: tuple[int, ...] | None = None
    """The source's window; by default square (images) or cubic (volumes)."""
    axes: tuple[int, ...] = (0, 1, 2)
    """Axes of a volume along which the table runs, where it is a table of volumes."""

    def adapt(self, name: str, tensor: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
        """Return the resampled table and how, or None if the rule has nothing to do."""
        if name != self.name or tensor.ndim != 2 or tensor.shape[1] != shape[1]:
            return None
        old = self._source_window(len(tensor), tuple(tensor.shape) == shape)
        if old is None or (1,) * (3 - len(old)) + tuple(old) == self.window:
            return None
        depth, height, width = (2 * size - 1 for size in self.window)
        table = resize_table(tensor, [2 * size - 1 for size in old], (depth, height, width))
        return table, _way("relative positions of windows", old, self.window)

    def _source_window(self, offsets: int, same: bool) -> tuple[int, ...] | None:
        if self.source_window is not None:
            if math.prod(2 * size - 1 for size in self.source_window) != offsets:
                raise ConversionError(
                    f"the source's table has {offsets} offsets, which are not those of a window of "
                    f"{_shown(self.source_window)}. Give the window that the source was trained "
                    "with."
                )
            return self.source_window
        if same and not self.image:
            return None
        if self.image:
            grid: tuple[int, ...] | None = square_grid(offsets)
        elif len(self.axes) < 3:
            grid = _partial_grid(offsets, self.axes)
        else:
            grid = cubic_grid(offsets)
        if grid is None or any(size % 2 == 0 for size in grid):
            kind = "square" if self.image else "cubic"
            raise ConversionError(
                f"the source's table has {offsets} offsets, which are those of no {kind} window. "
                f"Say which window it is: ResizeRelativePositions(name={self.name!r}, "
                f"window={self.window}, source_window=...)."
            )
        return tuple((size + 1) // 2 for size in grid)


@dataclass(frozen=True, kw_only=True)
class DeepenCoordinates:
    """Give a network of (height, width) offsets a third input, depth, that it does not see yet.

    Swin V2 computes the bias of an offset by a small network of its coordinates. A first layer
    with zeros for depth gives every offset along depth the bias of its plane.
    """

    name: str
    """The model's name of that layer's weight, ``(hidden, 3)``."""

    def adapt(self, name: str, tensor: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
        """Return the adapted weight and how, or None if the rule has nothing to do."""
        if name != self.name or tensor.ndim != 2 or (tensor.shape[1], shape[-1]) != (2, 3):
            return None
        depth = tensor.new_zeros(len(tensor), 1)
        return torch.cat([depth, tensor], dim=1), "offsets (h, w) to (d, h, w), depth at zero"


@dataclass(frozen=True, kw_only=True)
class FlattenPositions:
    """Make a table of a volume's positions one of images: what the volume network has for a plane.

    Of absolute positions, the planes become one as the network itself makes them for a volume that
    is one token deep; of a window's offsets, and of the layer of a network of offsets, that within
    a plane stays.
    """

    name: str
    """The name of the table."""
    kind: Literal["absolute", "relative", "coordinates"]
    grid: Size3
    """The volume network's grid of tokens, or its window."""
    prefix: int = 0
    """Rows before those of the tokens."""

    def adapt(self, name: str, tensor: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
        """Return the flat table and how, or None if the rule has nothing to do."""
        if name != self.name or tuple(tensor.shape) == shape:
            return None
        if self.kind == "coordinates":
            return tensor[:, 1:], "offsets (d, h, w) to (h, w)"
        if self.kind == "relative":
            depth, height, width = (2 * size - 1 for size in self.grid)
            within = tensor.reshape(depth, height * width, -1)[depth // 2]
            return within, _flat("relative positions of windows", self.grid)
        rows = tensor.reshape(-1, tensor.shape[-1])
        plane = resize_table(rows[self.prefix :], self.grid, (1, *self.grid[1:]))
        whole = torch.cat([rows[: self.prefix], plane])
        return whole.reshape(*tensor.shape[:-2], *whole.shape), _flat("positions", self.grid)


def _flat(kind: str, grid: Size3) -> str:
    return f"{kind} {_shown(grid)} to {_shown(grid[1:])} (those of one plane)"
