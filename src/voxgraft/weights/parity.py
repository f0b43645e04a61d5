"""Two networks that must answer alike: how far apart they are, and where they part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from voxgraft.errors import GraftError
from voxgraft.types import Size3
from voxgraft.weights.convert.channels import StemMethod
from voxgraft.weights.convert.convert import JOINED
from voxgraft.weights.report import Parity

TOLERANCE = 1e-4
"""Largest relative error allowed between a grafted network and its original."""

NOTHING_MAY_TRAIN = "Nothing may train on this: check the rules that were added."
"""What is to be said where a graft departs from its original."""


def relative_error(found: Tensor, expected: Tensor) -> tuple[float, float]:
    """Return the largest absolute difference, and that over the largest expected magnitude.

    Args:
        found: Values of any shape that broadcasts with ``expected``.
        expected: What they should be.

    Returns:
        Infinities if any value is NaN or infinite, or if shapes do not go together.
    """
    try:
        largest = float((found - expected).abs().max())
    except RuntimeError:
        return float("inf"), float("inf")
    scale = float(expected.abs().max())
    if not (largest < float("inf") and scale < float("inf")):
        return float("inf"), float("inf")
    return largest, largest / scale if scale > 0 else (0.0 if largest == 0 else float("inf"))


def along_depth(image: Tensor, volume: Tensor) -> Tensor:
    """Give features of an image a depth axis where those of a volume have one.

    Args:
        image: ``(b, c, h, w)``, ``(b, h, w, c)`` or ``(b, c)``.
        volume: The same with depth: ``(b, c, d, h, w)``, ``(b, d, h, w, c)`` or ``(b, c)``.
    """
    if volume.ndim != image.ndim + 1:
        return image
    channels_last = image.shape[-1] == volume.shape[-1] and image.shape[1] != volume.shape[1]
    return image.unsqueeze(1 if channels_last else 2)


@dataclass(frozen=True)
class Comparison:
    """How far the features of a grafted network are from its original's."""

    max_abs_error: float
    relative_error: float
    departure: str | None
    """Name of the first module that departs; None if the networks agree."""
    tolerance: float = TOLERANCE

    def require(self, what: str, remedy: str) -> None:
        """Refuse networks that do not agree.

        Args:
            what: Whose features differ from whose; the numbers follow it.
            remedy: What not to do, or to do.

        Raises:
            GraftError: Naming the first module that departs.
        """
        if self.departure is not None:
            raise GraftError(
                f"{what} by {self.relative_error:.1e} relative, {self.tolerance:.0e} is allowed. "
                f"They part at {self.departure}. {remedy}"
            )

    def parity(self, where: str) -> Parity:
        """Return the measurement for a report; ``where`` says what was compared."""
        return Parity(
            max_abs_error=self.max_abs_error,
            tolerance=self.tolerance,
            where=where,
            relative_error=self.relative_error,
        )


Features = Callable[[], tuple[Tensor, ...]]


def compare_features(
    expected: Features,
    found: Features,
    original: nn.Module,
    grafted: nn.Module,
    tolerance: float = TOLERANCE,
) -> Comparison:
    """Run two networks and compare what they give.

    Args:
        expected: Runs the 2D network and gives its features.
        found: Runs the 3D network and gives as many; those with a depth axis are compared in
            every slice.
        original: The 2D network.
        grafted: The 3D network, with modules of the same names.
        tolerance: Largest relative error that is no departure.
    """
    with torch.no_grad():
        errors = [
            relative_error(ours, along_depth(theirs, ours))
            for theirs, ours in zip(expected(), found(), strict=True)
        ]
    absolute, relative = (max(values) for values in zip(*errors, strict=True))
    if relative <= tolerance:
        return Comparison(absolute, relative, None, tolerance)
    first = _first_departure(expected, found, original, grafted, tolerance)
    return Comparison(absolute, relative, first or "an operation without weights", tolerance)


def probe_size(min_size: Size3, stride: Size3) -> Size3:
    """Return a small size at which a network has features: two positions across, one deep."""
    depth, height, width = (max(pair) for pair in zip(min_size, stride, strict=True))
    return depth, max(height, 2 * stride[1]), max(width, 2 * stride[2])


def parity_probe(
    channels: int, own: int, size_voxels: Size3, stem: StemMethod
) -> tuple[Tensor, Tensor]:
    """Return an image for the 2D network, and the volume that must give the same features.

    With as many channels in both, the volume is the image again in every slice. Otherwise all
    channels of the volume are one grey image, and the 2D network gets what the stem method makes
    of it: the grey image in all channels (``"sum"``, ``"repeat"``), divided by their number
    (``"mean"``), or in the first channel with zeros in the others (``"first"``).

    Args:
        channels: Channels of the 2D network.
        own: Channels of the 3D network.
        size_voxels: (depth, height, width) of the volume.
        stem: How the stem's kernel was folded.

    Returns:
        Noise of mean 0 and sd 1, always the same: ``(1, channels, h, w)``, ``(1, own, d, h, w)``.
    """
    depth, height, width = size_voxels
    generator = torch.Generator().manual_seed(0)
    if own == channels:
        image = torch.randn(1, channels, height, width, generator=generator)
        flat = image
    else:
        grey = torch.randn(1, 1, height, width, generator=generator)
        flat = grey.expand(-1, own, -1, -1)
        image = grey.repeat(1, channels, 1, 1)
        if stem == "mean":
            image = image / channels
        elif stem == "first":
            image[:, 1:] = 0.0
    return image, flat.unsqueeze(2).expand(-1, -1, depth, -1, -1).contiguous()


def volume_probe(
    channels: int, own: int, size_voxels: Size3, stem: StemMethod
) -> tuple[Tensor, Tensor]:
    """Return a volume for a network of ``channels`` and the one of ``own`` that must answer alike.

    As :func:`parity_probe`, with noise that varies along depth.

    Returns:
        ``(1, channels, d, h, w)`` and ``(1, own, d, h, w)``.
    """
    depth, height, width = size_voxels
    flat, volume = parity_probe(channels, own, (1, depth * height, width), stem)
    return flat.view(1, channels, *size_voxels), volume.view(1, own, *size_voxels)


def changed_tensors(
    own: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    loaded: Sequence[Mapping[str, str]],
) -> list[str]:
    """Return the names of tensors that should be bitwise those of the source and are not.

    Args:
        own: The network's tensors.
        given: The source's, by its own names.
        loaded: Verdicts ``{"name", "from"}``; tensors that were stacked are compared with all their
            parts, and those of other axes value by value.
    """
    changed = []
    for verdict in loaded:
        parts = [given[name].flatten() for name in verdict["from"].split(JOINED)]
        expected = parts[0] if len(parts) == 1 else torch.cat(parts)
        found = own[verdict["name"]].flatten()
        if found.dtype != expected.dtype or not torch.equal(found, expected):
            changed.append(verdict["name"])
    return changed


def _first_departure(
    run_original: Features,
    run_grafted: Features,
    original: nn.Module,
    grafted: nn.Module,
    tolerance: float,
) -> str | None:
    """Return the name of the first module with weights whose output departs from its namesake's."""
    expected: dict[str, Tensor] = {}
    departed: list[str] = []

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                expected[name] = output.detach().clone()

        return hook

    def compare(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if name in expected and isinstance(output, Tensor):
                image = along_depth(expected[name], output)
                if not relative_error(output.detach(), image)[1] <= tolerance:
                    departed.append(name)

        return hook

    handles = [
        module.register_forward_hook(make(name))
        for network, make in ((original, keep), (grafted, compare))
        for name, module in network.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    try:
        with torch.no_grad():
            run_original()
            run_grafted()
    finally:
        for handle in handles:
            handle.remove()
    return departed[0] if departed else None
