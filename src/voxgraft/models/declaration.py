"""What a network declares about itself, held against the built network by contract tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from voxgraft.models.depth import Convolution
from voxgraft.types import Size3

Native = Literal["image", "video", "volume"]
"""What the published weights of an architecture were trained on."""


@dataclass(frozen=True, kw_only=True)
class Positions:
    """A learned table of positions, which a graft resizes where the source's grid differs."""

    name: str
    """State-dict name of the table."""
    kind: Literal["absolute", "relative", "coordinates"]
    """``"absolute"``: a vector a token, ``(1, prefix + tokens, channels)`` or ``(prefix + tokens,
    channels)``; ``"relative"``: Swin's bias, ``((2d-1)(2h-1)(2w-1), heads)``; ``"coordinates"``:
    the first layer of a network of offsets, ``(hidden, 3)``."""
    grid: Size3
    """Tokens along (depth, height, width): of the input (``"absolute"``), or of a window."""
    prefix: int = 0
    """Rows before those of the tokens (class token, registers)."""
    axes: tuple[int, ...] = (0, 1, 2)
    """Axes along which the table runs: (0,) of one for depth alone, (1, 2) for the plane."""


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """The facts about an encoder that other rooms rely on.

    A test builds every network of the registry and holds each of these fields against it.
    """

    family: str
    """Name of the family of architectures ("resnet", "efficientnet", ...)."""
    stem: str
    """State-dict name of the first convolution's weight, ``(out, in_channels, d, h, w)``; without
    depth where kernels are 2D."""
    head: str
    """Prefix of the 2D classifier's tensors, which the encoder does not have ("fc", "head.fc")."""
    feature_channels: tuple[int, ...]
    """Channels of each feature map that ``forward_stages`` returns, shallowest first."""
    strides: tuple[Size3, ...]
    """Reduction of each of those feature maps against the input, (depth, height, width)."""
    num_features: int
    """Length of the pooled feature vector that ``forward`` returns."""
    min_size: Size3
    """Smallest input, in voxels, on which the network runs; for a network that the registry does
    not name, possibly a larger one."""
    preferred_size: Size3
    """Smallest input whose last feature map still has three positions along each axis."""
    twin_of: str | None
    """timm's name of the 2D network whose 3D twin this is, or None."""
    convolution: Convolution = "full"
    """Whether a twin's kernels are 3D, or the 2D ones, each in a plane (``"acs"``)."""
    slices_of: str | None = None
    """timm's name of the 2D network that this one applies to slices, or None. Its tensors then lie
    under ``network.``, by timm's names; those under ``join.`` are this network's own."""
    native: Native = "image"
    """What the published weights of this architecture were trained on."""
    reference: str | None = None
    """The public implementation that this network equals (``torchvision.models.video.r3d_18``),
    where it is no twin; None for networks of our own."""
    more_stems: tuple[str, ...] = ()
    """Further kernels that take the input, of a network with several pathways."""
    positions: tuple[Positions, ...] = ()
    """Learned tables of positions."""
    additions: tuple[str, ...] = ()
    """Tensors that a twin's 2D network does not have, all zeros at first, which change nothing
    then: a graft leaves them so."""
    with_head: tuple[str, ...] = ()
    """Beginnings of the names of parameters that no source has, as a module that joins slices:
    they train together with the head, also where the rest is frozen."""
    gradient_checkpointing: bool = True
    """Whether :meth:`Encoder.set_gradient_checkpointing` has an effect."""

    @property
    def original(self) -> str | None:
        """Return timm's name of the 2D network whose weights belong here, or None."""
        return self.twin_of or self.slices_of

    @property
    def stems(self) -> frozenset[str]:
        """State-dict names of all kernels that take the input."""
        return frozenset({self.stem, *self.more_stems})

    def center_notes(self) -> list[str]:
        """Say what inflation by ``center`` leaves unseen in this network; nothing if nothing."""
        # Of a network of tokens, the patch embedding alone is inflated.
        stride = self.strides[0 if self.positions else -1][0]
        if stride == 1:
            return []
        return [
            f"inflated by center, with a depth stride of {stride}, this network sees one slice in "
            f"{stride} only, and just one of a volume of up to {stride} slices, until "
            "training changes it. Inflation by average sees all; the model option depth_stride "
            "makes the stride smaller"
        ]
