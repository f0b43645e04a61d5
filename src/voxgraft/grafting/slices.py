"""Whether a 2D network on slices computes, slice by slice, what its source did."""

from __future__ import annotations

from torch import Tensor

from voxgraft.grafting.plan import How, Plan
from voxgraft.models.slicewise import SlicewiseEncoder
from voxgraft.models.slicewise.encoder import PlanarReference
from voxgraft.models.slicewise.slices import take_slices
from voxgraft.weights.parity import (
    NOTHING_MAY_TRAIN,
    Comparison,
    Features,
    compare_features,
    parity_probe,
    probe_size,
    volume_probe,
)
from voxgraft.weights.report import Parity

_SLICES = 3


def compare_slices(
    how: How, plan: Plan, encoder: SlicewiseEncoder, reference: PlanarReference
) -> Parity:
    """Compare the map and the vector of every slice with timm's own, before they are joined.

    The volume is noise that differs from slice to slice. Only where a slice's neighbors are its
    further channels, and the stem was folded to their number, is it the same in all slices.

    Raises:
        GraftError: If they differ.
    """
    declared = encoder.declaration
    depth, height, width = probe_size(declared.min_size, declared.strides[-1])
    size = (max(depth, _SLICES * encoder.slice_stride), height, width)
    channels, constant = how.source.input.channels, False
    given: Tensor | None = None
    if channels == encoder.slice_channels:
        _, volume = volume_probe(encoder.in_channels, encoder.in_channels, size, how.stem)
    elif encoder.neighbors == 0:
        given, volume = volume_probe(channels, encoder.in_channels, size, how.stem)
    else:
        image, volume = parity_probe(channels, encoder.in_channels, size, how.stem)
        given, constant = image.unsqueeze(2).expand(-1, -1, *size), True
    training = encoder.training
    encoder.eval()
    worst = Comparison(0.0, 0.0, None)
    for number, plane in enumerate(encoder.planes):
        images = (
            encoder.take_slices(volume, plane)
            if given is None
            else take_slices(given, plane, step=encoder.slice_stride)
        )
        comparison = compare_features(
            _by_timm(reference, images), _ours(encoder, volume, number), reference, encoder
        )
        if comparison.relative_error >= worst.relative_error:
            worst = comparison
    encoder.train(training)
    worst.require(
        f"the features of {plan.name} with the weights of {how.source.id!r} differ from those of "
        f"timm's {declared.slices_of} on the slices",
        NOTHING_MAY_TRAIN,
    )
    content = "constant along depth" if constant else "of noise"
    return worst.parity(
        f"maps and vector of each slice against timm's {declared.slices_of}, on a volume of "
        f"{'×'.join(map(str, size))} voxels {content}"
    )


def _by_timm(reference: PlanarReference, images: Tensor) -> Features:
    def run() -> tuple[Tensor, ...]:
        return tuple(
            part.unflatten(0, images.shape[:2]) for part in reference(images.flatten(0, 1))
        )

    return run


def _ours(encoder: SlicewiseEncoder, volume: Tensor, plane: int) -> Features:
    def run() -> tuple[Tensor, ...]:
        slices = encoder.forward_slices(volume)[plane]
        return slices.maps, slices.vectors

    return run
