"""The rules of a conversion: what may happen to a tensor on its way into a model."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from voxgraft.errors import ConversionError
from voxgraft.weights.convert.channels import StemMethod, fold_channels
from voxgraft.weights.convert.deflate import Deflate
from voxgraft.weights.convert.epsilon import ShiftVariance
from voxgraft.weights.convert.inflate import Inflation, inflate_kernel
from voxgraft.weights.convert.patches import ResizePatch
from voxgraft.weights.convert.positions import (
    DeepenCoordinates,
    FlattenPositions,
    ResizePositions,
    ResizeRelativePositions,
)
from voxgraft.weights.convert.rows import TakeRows
from voxgraft.weights.convert.subset import TakeChannels

Shape = tuple[int, ...]


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as fault:
        raise ConversionError(
            f"{pattern!r} is no regular expression: {fault}. Mend the rule's pattern."
        ) from fault


@dataclass(frozen=True)
class Rename:
    """Give tensors of the source another name: ``re.sub`` on every name."""

    pattern: str
    replacement: str

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return _compiled(self.pattern)

    def rename(self, name: str) -> str:
        """Return the new name; the same where the pattern is not found."""
        try:
            return self._regex.sub(self.replacement, name)
        except (re.error, IndexError) as fault:
            raise ConversionError(
                f"{self.replacement!r} cannot replace {self.pattern!r}: {fault}. Mend the rule."
            ) from fault


@dataclass(frozen=True)
class Join:
    """Stack tensors of the source along their first axis: query, key and value become one."""

    parts: tuple[str, ...]
    """Patterns of the parts' names, in the order in which they are stacked."""
    replacement: str
    """Name of the whole; may refer to groups that all patterns have."""

    @cached_property
    def _regexes(self) -> tuple[re.Pattern[str], ...]:
        return tuple(map(_compiled, self.parts))

    def place(self, name: str) -> tuple[str, int] | None:
        """Return the name of the whole and which part of it ``name`` is; None if it is none."""
        for index, regex in enumerate(self._regexes):
            match = regex.fullmatch(name)
            if match is not None:
                return match.expand(self.replacement), index
        return None


@dataclass(frozen=True)
class _Chosen:
    pattern: str
    reason: str

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return _compiled(self.pattern)

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ConversionError(
                f"a {type(self).__name__} rule for {self.pattern!r} has no reason. Say why."
            )

    def chooses(self, name: str) -> bool:
        """Say whether the whole name matches the pattern."""
        return self._regex.fullmatch(name) is not None


@dataclass(frozen=True)
class Drop(_Chosen):
    """Leave tensors of the source out, for a reason; sees names as earlier rules made them."""


@dataclass(frozen=True)
class Fresh(_Chosen):
    """Leave tensors of the model as it initialised them, for a reason."""


@dataclass(frozen=True)
class Inflate:
    """Extend 2D kernels along depth, to the depth of the model's kernel."""

    method: Inflation
    patches: Collection[str] = field(default=())
    """Names of the model's kernels that cut patches without overlap; their depth may be even."""

    def adapt(self, name: str, tensor: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
        """Return the adapted tensor and how, or None if the rule has nothing to do."""
        if tensor.ndim != 4 or len(shape) != 5:
            return None
        inflated = inflate_kernel(tensor, shape[2], self.method, patch=name in self.patches)
        return inflated, f"inflated ({self.method}) to depth {shape[2]}"


@dataclass(frozen=True)
class FoldChannels:
    """Make the stem's kernels fit the channels of the model's input."""

    stem: Collection[str]
    """Names of the kernels that take the input."""
    method: StemMethod

    def adapt(self, name: str, tensor: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
        """Return the adapted tensor and how, or None if the rule has nothing to do."""
        if name not in self.stem or tensor.ndim < 3 or len(shape) < 3:
            return None
        if tensor.shape[1] == shape[1]:
            return None
        how = f"{tensor.shape[1]} channels to {shape[1]} ({self.method})"
        return fold_channels(tensor, shape[1], self.method), how


@dataclass(frozen=True)
class UnitAxes:
    """Add or take away axes of length 1 where that alone makes a tensor fit.

    A kernel of a 2D convolution that a network runs slice by slice has a depth of 1 in 3D; a class
    token may be ``(1, 1, channels)`` or ``(channels)``.
    """

    pattern: str = ".*"
    """Regular expression of the names of the model's tensors that may be changed so."""

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return _compiled(self.pattern)

    def adapt(self, name: str, tensor: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
        """Return the adapted tensor and how, or None if the rule has nothing to do."""
        if self._regex.fullmatch(name) is None:
            return None
        found = tuple(tensor.shape)
        if found == shape or [n for n in found if n != 1] != [n for n in shape if n != 1]:
            return None
        return tensor.reshape(shape), f"axes of length 1: {_size(found)} to {_size(shape)}"


@dataclass(frozen=True)
class ReconcileKernel:
    """Change a kernel's size in space where the model's differs.

    ``"center"`` cuts what is outside, or pads with zeros, evenly on both sides: sizes must differ
    by even numbers. ``"resample"`` interpolates linearly and keeps the response to a constant.
    """

    pattern: str
    method: Literal["center", "resample"] = "center"

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return _compiled(self.pattern)

    def adapt(self, name: str, tensor: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
        """Return the adapted tensor and how, or None if the rule has nothing to do."""
        old, new = tuple(tensor.shape[2:]), shape[2:]
        if self._regex.fullmatch(name) is None or not new or len(old) != len(new) or old == new:
            return None
        how = f"kernel {_size(old)} to {_size(new)} ({self.method})"
        if self.method == "resample":
            return _resampled(tensor, new), how
        if self.method != "center":
            raise ConversionError(
                f"no way to reconcile kernels is called {self.method!r}. "
                "Expected center or resample."
            )
        if any((a - b) % 2 for a, b in zip(old, new, strict=True)):
            raise ConversionError(
                f"{name}: a kernel of {_size(old)} has no middle of {_size(new)}: the sizes "
                "differ by an odd number. Use ReconcileKernel(method='resample')."
            )
        margins = [(b - a) // 2 for a, b in zip(old, new, strict=True)]
        padding = [margin for margin in reversed(margins) for _ in range(2)]
        return functional.pad(tensor, padding), how


@dataclass(frozen=True)
class Cast:
    """Give all tensors of numbers with fractions another precision."""

    dtype: torch.dtype = torch.float32

    def adapt(self, name: str, tensor: Tensor, shape: Shape) -> tuple[Tensor, str] | None:
        """Return the adapted tensor and how, or None if the rule has nothing to do."""
        if not tensor.is_floating_point() or tensor.dtype == self.dtype:
            return None
        return tensor.to(self.dtype), f"{tensor.dtype} to {self.dtype}".replace("torch.", "")


Naming = Rename | Drop | Join
Adapting = (
    Inflate
    | FoldChannels
    | UnitAxes
    | ReconcileKernel
    | Cast
    | ResizePatch
    | ResizePositions
    | ResizeRelativePositions
    | DeepenCoordinates
    | FlattenPositions
    | ShiftVariance
    | Deflate
    | TakeChannels
    | TakeRows
)
Rule = Naming | Fresh | Adapting


def _size(axes: tuple[int, ...]) -> str:
    return "×".join(map(str, axes))


def _resampled(tensor: Tensor, new: Shape) -> Tensor:
    modes = {1: "linear", 2: "bilinear", 3: "trilinear"}
    values = functional.interpolate(tensor, new, mode=modes[len(new)], align_corners=False)
    wanted = tensor.sum(dim=tuple(range(2, tensor.ndim)), keepdim=True)
    found = values.sum(dim=tuple(range(2, tensor.ndim)), keepdim=True)
    return values + (wanted - found) / values[0, 0].numel()
