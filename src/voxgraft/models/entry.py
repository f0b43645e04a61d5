"""What the registry says of a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from voxgraft.models.declaration import Native
from voxgraft.models.encoder import Encoder

TWIN_OPTIONS = frozenset(
    {"convolution", "depth_padding", "depth_kernel", "depth_stride", "drop_path", "seed"}
)
"""Options of the networks that are made of layers whose depth can be chosen."""


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A network of the registry."""

    name: str
    description: str
    """What it is, in one line."""
    family: str
    build: Callable[..., Encoder]
    """Builds the encoder; takes ``in_channels``, ``seed`` and the ``options``."""
    options: frozenset[str] = frozenset({"seed"})
    """Names of the keyword arguments of ``build``, beside ``in_channels``."""
    twin_of: str | None = None
    """timm's name of the 2D network whose 3D twin this is, or None."""
    native: Native = "image"
    """What the published weights of this architecture were trained on."""
    reference: str | None = None
    """The public implementation that it equals, where it is no twin."""
