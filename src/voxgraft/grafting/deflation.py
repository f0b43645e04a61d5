"""A 3D twin made into timm's 2D network again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from voxgraft.errors import GraftError
from voxgraft.models import Encoder
from voxgraft.models.declaration import Declaration
from voxgraft.models.depth import check_choice
from voxgraft.models.layers.acs import laid_axially
from voxgraft.weights.convert import DEFLATIONS, Deflate, Deflation, FlattenPositions, convert
from voxgraft.weights.parity import compare_features, parity_probe, probe_size
from voxgraft.weights.report import NOT_CHECKED, GraftReport, Parity


@dataclass(frozen=True, kw_only=True)
class Deflated:
    """A 2D network with the weights of a 3D twin, and the account of how they came there."""

    network: nn.Module
    """timm's network without classifier, in evaluation mode, with the encoder's channels."""
    report: GraftReport


def deflate(encoder: Encoder, *, method: Deflation = "sum", check_parity: bool = True) -> Deflated:
    """Make timm's 2D network of a 3D twin: for slices, for X-rays, or for timm's own tools.

    By ``"sum"`` the 2D network gives, for an image, what the twin gives for a volume of which every
    slice is that image (with replicated depth padding), whatever the twin was trained on; this is
    checked. Of a transformer that holds for volumes of one patch: what it learned of distances
    along depth is left out. By ``"center"`` each kernel keeps its middle slice alone. The kernels
    of an ACS twin are 2D already.

    Args:
        encoder: The twin, on the CPU; it stays as it is.
        method: How kernels are made flat, see :func:`voxgraft.weights.convert.deflate_kernel`.
        check_parity: Whether to check. ``"center"`` has nothing that it must agree with.

    Returns:
        The 2D network and the report.

    Raises:
        GraftError: If the encoder is no twin, or its tensors are not those of its original (batch
            normalization was exchanged), or the check fails.
        ModelError: If there is no such method.
    """
    check_choice("method", method, DEFLATIONS)
    declared = encoder.declaration
    if declared.twin_of is None:
        raise GraftError(
            f"this {declared.family} network is no twin of a 2D network: it cannot be made flat. "
            "Choose a twin; `voxgraft models` names each network's 2D original."
        )
    network = encoder.build_reference()
    own = network.state_dict()
    converted = convert(
        encoder.state_dict(),
        {name: tuple(tensor.shape) for name, tensor in own.items()},
        [Deflate(method), *_flattening(declared)],
        source=f"the {declared.twin_of} twin",
        model=f"timm's {declared.twin_of}",
        method=method if declared.convolution == "full" else "acs",
        buffers=[name for name, _ in network.named_buffers()],
    )
    # Counters of batches, which a source may lack, stay as they are.
    network.load_state_dict({**own, **converted.state}, strict=True)
    network.eval()
    flat = declared.convolution == "full" and method == "center"
    parity = _compare(encoder, network) if check_parity and not flat else NOT_CHECKED
    return Deflated(network=network, report=replace(converted.report, parity=parity))


def _flattening(declared: Declaration) -> list[FlattenPositions]:
    return [
        FlattenPositions(name=table.name, kind=table.kind, grid=table.grid, prefix=table.prefix)
        for table in declared.positions
    ]


def _compare(encoder: Encoder, network: nn.Module) -> Parity:
    declared = encoder.declaration
    size = probe_size(declared.min_size, declared.strides[-1])
    if declared.positions:
        # Planes of tokens may have learned of their distance: an image is one of them.
        size = (declared.strides[0][0], *size[1:])
    image, volume = parity_probe(encoder.in_channels, encoder.in_channels, size, "sum")
    training = encoder.training
    reference: Any = network  # timm's networks are untyped
    encoder.eval()
    with torch.no_grad(), encoder.set_depth_padding("replicate"), laid_axially(encoder):
        comparison = compare_features(
            lambda: (encoder.forward_features(volume)[:, :, 0], encoder(volume)),
            lambda: (reference.forward_features(image), reference(image)),
            encoder,
            network,
        )
    encoder.train(training)
    comparison.require(
        f"the features of timm's {declared.twin_of} with the twin's weights differ from the twin's",
        "Do not use them.",
    )
    shown = "×".join(map(str, size))
    acs = declared.convolution == "acs"
    planes = "; for this, all kernels lay in the axial plane" if acs else ""
    return comparison.parity(
        f"features and pooled vector against the twin's, on a volume of {shown} voxels constant "
        f"along depth (replicated depth padding){planes}"
    )
