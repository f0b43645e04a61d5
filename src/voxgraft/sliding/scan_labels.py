"""From a network's scores to labels of a whole scan, decided part by part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor

from voxgraft.errors import InferenceError, ScoresError
from voxgraft.sliding.sliding_window import done_blocks, sliding_window
from voxgraft.sliding.window_buffer import Place
from voxgraft.sliding.window_classes import largest_class, pack_above
from voxgraft.sliding.window_head import Predictor
from voxgraft.sliding.window_settings import Sliding


@dataclass(frozen=True)
class PackedMasks:
    """Masks of several classes over one scan, eight classes a byte."""

    bits: UInt8[Tensor, "bytes d h w"]
    """Class k is bit k % 8 (the lowest is 0) of byte k // 8."""
    classes: int

    def mask(self, index: int) -> Bool[Tensor, "d h w"]:
        """Return the mask of one class.

        Raises:
            InferenceError: If there is no such class.
        """
        if not 0 <= index < self.classes:
            raise InferenceError(
                f"there is no class {index}: the masks are of {self.classes} classes, counted "
                "from 0. Ask for one of those."
            )
        return (self.bits[index // 8] >> (index % 8)) & 1 == 1


def scores(
    predict: Predictor,
    image: Float[Tensor, "c d h w"],
    sliding: Sliding,
    *,
    head: Predictor | None = None,
) -> Float[Tensor, "k d h w"]:
    """Return the scores of a whole scan, on the CPU: ``outputs × voxels × 4`` bytes.

    Args:
        predict: The network.
        image: The scan.
        sliding: How windows go over it.
        head: As for ``sliding_window``.

    Raises:
        InferenceError: As ``sliding_window``.
    """
    size = tuple(image.shape[1:])
    found: list[Tensor] = []

    def keep(block: Tensor, place: Place) -> None:
        if not found:
            with torch.inference_mode(False):
                found.append(torch.empty((block.shape[0], *size), dtype=block.dtype))
        found[0][(slice(None), *place)] = block.cpu()

    sliding_window(predict, image, sliding, on_block=keep, head=head)
    return found[0]


def segment_label_map(
    predict: Predictor,
    image: Float[Tensor, "c d h w"],
    sliding: Sliding,
    *,
    head: Predictor | None = None,
) -> Integer[Tensor, "d h w"]:
    """Return for each voxel the class of the largest score, on the CPU.

    Of equal scores the first class wins. Voxels of which every window was skipped are of class 0.

    Args:
        predict: The network.
        image: The scan.
        sliding: How windows go over it.
        head: As for ``sliding_window``.

    Returns:
        uint8 for up to 256 classes, int16 for more.

    Raises:
        InferenceError: As ``sliding_window``.
        ScoresError: If scores are NaN.
    """
    size = tuple(image.shape[1:])
    labels: Tensor | None = None
    for values, weights, place in done_blocks(predict, image, sliding, head=head, means=False):
        largest, best = largest_class(values)
        _check(best, place)
        if sliding.skip_below is not None:
            largest = largest.masked_fill(weights == 0, 0)
        if labels is None:
            labels = torch.empty(size, dtype=largest.dtype)
        labels[place] = largest.cpu()
    if labels is None:
        raise AssertionError("a scan has at least one part")
    return labels


def segment_multilabel(
    predict: Predictor,
    image: Float[Tensor, "c d h w"],
    sliding: Sliding,
    *,
    threshold: float | Sequence[float] = 0.0,
    head: Predictor | None = None,
) -> PackedMasks:
    """Return for each class the voxels with a score above a threshold, on the CPU.

    They take an eighth of a byte a class and voxel. No class has a voxel of which every window
    was skipped.

    Args:
        predict: The network.
        image: The scan.
        sliding: How windows go over it.
        threshold: Of the scores, for all classes or one each. For logits 0 is a probability of
            one half; give 0.5 if the network gives probabilities.
        head: As for ``sliding_window``.

    Raises:
        InferenceError: As ``sliding_window``, or if there are not as many thresholds as classes.
        ScoresError: If scores are NaN.
    """
    size = tuple(image.shape[1:])
    bits: Tensor | None = None
    classes = 0
    means = threshold != 0 if isinstance(threshold, int | float) else any(threshold)
    for values, weights, place in done_blocks(predict, image, sliding, head=head, means=means):
        if bits is None:
            classes = values.shape[0]
            bits = torch.empty((-(-classes // 8), *size), dtype=torch.uint8)
            limits = _limits(threshold, classes)
        packed, best = pack_above(values, limits)
        _check(best, place)
        if sliding.skip_below is not None:
            packed.masked_fill_(weights == 0, 0)
        bits[(slice(None), *place)] = packed.cpu()
    if bits is None:
        raise AssertionError("a scan has at least one part")
    return PackedMasks(bits, classes)


def _limits(threshold: float | Sequence[float], classes: int) -> list[float]:
    if isinstance(threshold, int | float):
        return [float(threshold)] * classes
    if len(threshold) != classes:
        raise InferenceError(
            f"there are {len(threshold)} thresholds, and the network has {classes} outputs. Give "
            "one for all of them, or one each."
        )
    return [float(limit) for limit in threshold]


def _check(best: Tensor, place: Place) -> None:
    if not bool(torch.isnan(best).any()):
        return
    where = ", ".join(f"{part.start}:{part.stop}" for part in place)
    raise ScoresError(
        f"the network's scores are NaN in the voxels [{where}] of the scan, so no class can be "
        "told there. See whether the scan has NaN or values beyond what the network was made for."
    )
