"""The registry of networks, and the one function that builds them."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, cast

import timm
from torch import nn

from voxgraft.errors import ModelError
from voxgraft.models import slicewise, tokens, twin, video, volumetric
from voxgraft.models.catalog import FAMILY_OF_PREFIX, PLAIN, TWINS
from voxgraft.models.encoder import Encoder
from voxgraft.models.entry import TWIN_OPTIONS, ModelEntry
from voxgraft.models.plain_resnet import build_plain_resnet
from voxgraft.registry import Registry

_TIMM_PREFIX = "timm3d:"
_SLICES_PREFIX = "slicewise:"


MODELS: Registry[ModelEntry] = Registry("model")
"""All networks that Voxgraft names. `docs/models.md` lists them."""


def _register_all() -> None:
    for name, architecture in TWINS.items():
        family, kind = next((f, k) for start, f, k in FAMILY_OF_PREFIX if name.startswith(start))
        entry = ModelEntry(
            name=name,
            description=f"3D twin of timm's {architecture}: {kind}",
            family=family,
            twin_of=architecture,
            build=partial(twin.build_twin, architecture),
            options=TWIN_OPTIONS,
        )
        MODELS.register(name, entry)
    for name, (block, depths) in PLAIN.items():
        kind_of_block = cast(Literal["basic", "bottleneck"], block)
        entry = ModelEntry(
            name=name,
            description=f"plain 3D ResNet of {block} blocks {depths}, stem (3, 7, 7), no pooling",
            family="plain_resnet",
            build=partial(build_plain_resnet, kind_of_block, depths),
            options=TWIN_OPTIONS - {"convolution"},
        )
        MODELS.register(name, entry)
    for room in (video, tokens, volumetric, slicewise):
        for entry in room.ENTRIES:
            MODELS.register(entry.name, entry)


_register_all()


def build_encoder(name: str, *, in_channels: int = 1, **options: Any) -> Encoder:
    """Build a network without its head, with random weights.

    Every network takes ``seed``: the same seed gives the same weights; None, the default, draws
    from PyTorch's global generator. What else it takes, `voxgraft models NAME` and
    :func:`model_options` name; twins of timm's networks take

    - ``depth_padding``: what lies beyond the first and last slice, for convolutions and mean
      pooling: ``"zeros"``, or ``"replicate"``: the border slice again. Can be switched later:
      :meth:`Encoder.set_depth_padding`.
    - ``depth_kernel``: ``"full"``: kernels are as deep as high; ``"flat"``: one slice deep.
    - ``depth_stride``: total reduction along depth, by default the network's own. Smaller values,
      for thick slices, leave the depth whole in the layers nearest the input.
    - ``convolution``: ``"full"``: 3D kernels; ``"acs"``: the 2D kernels themselves, a third of
      each layer's in the axial, coronal and sagittal plane.
    - ``drop_path``: probability of stochastic depth in the deepest block.

    Twins of transformers take what :func:`voxgraft.models.tokens.build_plain.build_vit` and
    :func:`voxgraft.models.tokens.build_windowed.build_swin` do.
    2D networks on slices take what :func:`voxgraft.models.slicewise.build_slicewise` does.

    Args:
        name: A name of the registry; or ``timm3d:NAME`` or ``NAME_3d`` for the twin of any other
            of timm's networks all of whose modules have a 3D rule; or ``slicewise:NAME`` for any
            other of timm's networks on slices.
        in_channels: Channels of the volumes.
        **options: Options of that network.

    Returns:
        The encoder, in training mode.

    Raises:
        RegistryError: If no network has that name; near names are suggested.
        ModelError: If an option is unknown or impossible, or a module of timm's network has no 3D
            rule.
    """
    known = model_options(name)
    wrong = [repr(option) for option in options if option not in known]
    if wrong:
        raise ModelError(
            f"{name} has no option {', '.join(wrong)}; it takes {', '.join(sorted(known))}. "
            "Leave out what it does not take, or choose another network."
        )
    if name.startswith(_SLICES_PREFIX):
        sliced = name.removeprefix(_SLICES_PREFIX)
        return slicewise.build_slicewise(sliced, in_channels=in_channels, **options)
    architecture = None if name in MODELS else _timm_name(name)
    if architecture is None:
        return MODELS.get(name).build(in_channels=in_channels, **options)
    transformer = tokens.token_twin(architecture)
    if transformer is not None:
        return transformer.build(in_channels=in_channels, **options)
    return twin.build_twin(architecture, in_channels=in_channels, **options)


def model_options(name: str) -> frozenset[str]:
    """Return the options that a network takes, beside ``in_channels``.

    Raises:
        RegistryError: If no network has that name.
    """
    if name.startswith(_SLICES_PREFIX):
        return slicewise.SLICEWISE_OPTIONS
    architecture = None if name in MODELS else _timm_name(name)
    if architecture is not None:
        transformer = tokens.token_twin(architecture)
        return TWIN_OPTIONS if transformer is None else transformer.options
    return MODELS.get(name).options


def _timm_name(name: str) -> str | None:
    if name.startswith(_TIMM_PREFIX):
        return name.removeprefix(_TIMM_PREFIX)
    architecture = name.removesuffix("_3d")
    return architecture if architecture != name and timm.is_model(architecture) else None


def build_reference_2d(
    name: str, *, in_channels: int = 1, image_size: tuple[int, int] | None = None
) -> nn.Module:
    """Build the 2D network of timm whose twin ``name`` is, with random weights, for evaluation.

    Args:
        name: A twin's name, or ``timm3d:NAME``.
        in_channels: Channels of the images.
        image_size: Height and width in pixels whose grid the learned table of positions has, for
            networks with one; by default timm's.

    Raises:
        RegistryError: If no network has that name.
        ModelError: If the network is no twin.
    """
    architecture = MODELS.get(name).twin_of if name in MODELS else _timm_name(name)
    if architecture is None:
        MODELS.get(name)
        raise ModelError(
            f"{name} is no twin of a 2D network: there is no reference. Choose a twin; "
            "`voxgraft models` names each network's 2D original."
        )
    if tokens.token_twin(architecture) is not None:
        options = {} if image_size is None else {"img_size": image_size}
        return tokens.build_image_reference(architecture, in_channels=in_channels, **options)
    return twin.build_reference(architecture, in_channels=in_channels)
