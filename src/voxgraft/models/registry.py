"""The registry of networks, and the one function that builds them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, cast

import timm
import torch
from torch import nn

from voxgraft.errors import ModelError
from voxgraft.models import twin
from voxgraft.models.catalog import FAMILY_OF_PREFIX, PLAIN, TWINS
from voxgraft.models.depth import DepthKernel, DepthPadding
from voxgraft.models.encoder import Encoder
from voxgraft.models.plain_resnet import build_plain_resnet
from voxgraft.registry import Registry

_TIMM_PREFIX = "timm3d:"


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A network of the registry."""

    name: str
    description: str
    """What it is, in one line."""
    family: str
    twin_of: str | None
    """timm's name of the 2D network whose 3D twin this is, or None."""
    build: Callable[..., Encoder]
    """Builds it; takes the keyword arguments of :func:`build_encoder`."""


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
        )
        MODELS.register(name, entry)
    for name, (block, depths) in PLAIN.items():
        kind_of_block = cast(Literal["basic", "bottleneck"], block)
        entry = ModelEntry(
            name=name,
            description=f"plain 3D ResNet of {block} blocks {depths}, stem (3, 7, 7), no pooling",
            family="plain_resnet",
            twin_of=None,
            build=partial(build_plain_resnet, kind_of_block, depths),
        )
        MODELS.register(name, entry)


_register_all()


def build_encoder(
    name: str,
    *,
    in_channels: int = 1,
    depth_padding: DepthPadding = "zeros",
    depth_kernel: DepthKernel = "full",
    depth_stride: int | None = None,
    drop_path: float = 0.0,
    seed: int | None = None,
) -> Encoder:
    """Build a network without its head, with random weights.

    Args:
        name: A name of the registry; or ``timm3d:NAME`` or ``NAME_3d`` for the twin of any other
            of timm's networks all of whose modules have a 3D rule.
        in_channels: Channels of the volumes.
        depth_padding: What lies beyond the first and last slice, for convolutions and mean
            pooling: ``"zeros"``, or ``"replicate"``: the border slice again. Can be switched later:
            :meth:`Encoder.set_depth_padding`.
        depth_kernel: ``"full"``: kernels are as deep as high; ``"flat"``: one slice deep.
        depth_stride: Total reduction along depth, by default the network's own. Smaller values,
            for thick slices, leave the depth whole in the layers nearest the input.
        drop_path: Probability of stochastic depth in the deepest block.
        seed: Seed of the random weights: the same seed gives the same weights. None draws from
            PyTorch's global generator.

    Returns:
        The encoder, in training mode.

    Raises:
        RegistryError: If no network has that name; near names are suggested.
        ModelError: If an option is impossible, or a module of timm's network has no 3D rule.
    """
    if name in MODELS:
        build = MODELS.get(name).build
    else:
        architecture = _timm_name(name)
        if architecture is None:
            build = MODELS.get(name).build
        else:
            build = partial(twin.build_twin, architecture)
    return build(
        in_channels=in_channels,
        depth_padding=depth_padding,
        depth_kernel=depth_kernel,
        depth_stride=depth_stride,
        drop_path=drop_path,
        seed=seed,
    )


def _timm_name(name: str) -> str | None:
    if name.startswith(_TIMM_PREFIX):
        return name.removeprefix(_TIMM_PREFIX)
    architecture = name.removesuffix("_3d")
    return architecture if architecture != name and timm.is_model(architecture) else None


def build_reference_2d(name: str, *, in_channels: int = 1) -> nn.Module:
    """Build the 2D network of timm whose twin ``name`` is, with random weights, for evaluation.

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
    return twin.build_reference(architecture, in_channels=in_channels)


def models_table() -> str:
    """Return the registry as a Markdown table: what ``docs/models.md`` shows.

    The networks are built without memory for their weights, so this takes seconds.
    """
    rows = [
        "| name | twin of timm's | parameters (M) | features | stride (d, h, w) | smallest input |",
        "|---|---|---:|---:|---|---|",
    ]
    for entry in MODELS:
        with torch.device("meta"):
            encoder = entry.build()
        rows.append(table_row(entry, encoder))
    return "\n".join(rows)


def table_row(entry: ModelEntry, encoder: Encoder) -> str:
    """Return a network's row of :func:`models_table`."""
    facts = encoder.declaration
    count = sum(parameter.numel() for parameter in encoder.parameters()) / 1e6
    twin_of = f"`{entry.twin_of}`" if entry.twin_of else "—"
    return (
        f"| `{entry.name}` | {twin_of} | {count:.1f} | {facts.num_features} "
        f"| {_size(facts.strides[-1])} | {_size(facts.min_size)} |"
    )


def _size(size: tuple[int, int, int]) -> str:
    return " × ".join(map(str, size))
