"""The body as a network saw it in training: its axes in another order or direction than here."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from voxgraft.errors import ModelError
from voxgraft.models.declaration import Declaration
from voxgraft.models.encoder import Encoder
from voxgraft.types import Size3

AXES = "SAR"
"""Directions in which depth, height and width run here: superior, anterior, right."""

_OPPOSITE = {"S": "I", "I": "S", "A": "P", "P": "A", "R": "L", "L": "R"}


def check_axes(axes: str) -> None:
    """Refuse what are no three directions, one along each axis of the body.

    Raises:
        ModelError: If it does not name superior or inferior, anterior or posterior, and right or
            left, each once.
    """
    upright = sorted(min(letter, _OPPOSITE.get(letter, "?")) for letter in axes)
    if upright != sorted(min(letter, _OPPOSITE[letter]) for letter in AXES):
        raise ModelError(
            f"axes is {axes!r}; expected three letters, one of S and I, one of A and P, one of R "
            f"and L: where the first, second and third axis of a volume run to. Here it is {AXES}."
        )


class Oriented(Encoder):
    """An encoder that turns each volume as its weights were trained to see it.

    A volume is turned on the way in, and each map is turned back: outside, depth, height and width
    run as everywhere here, and so do the strides and sizes that the encoder declares. Its windows
    and tables of positions must be as deep as high as wide. Stands before another encoder among
    the bases of a class; or the class turns in its own ``forward_stages``.
    """

    axes: str = AXES
    _in_training: Declaration | None = None
    """What the network is along the axes of the training."""

    def set_axes(self, axes: str) -> None:
        """Say how the axes of the training ran, first to third.

        Raises:
            ModelError: If it is no orientation.
        """
        check_axes(axes)
        self._in_training = self._in_training or self.declaration
        own, same = self._in_training, [_place(letter) for letter in axes] == [0, 1, 2]
        most = max(own.min_size)
        self.axes = axes
        self.declaration = replace(
            own,
            strides=tuple(_outside(triple, axes) for triple in own.strides),
            # It holds for the volume as it comes and as it is turned.
            min_size=own.min_size if same else (most, most, most),
            preferred_size=_outside(own.preferred_size, axes),
        )

    def forward_features(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Return the final feature map.

        Raises:
            ModelError: As the encoder that this one stands before.
        """
        self.check_input(x)
        return self.turned_back(super().forward_features(self.turned(x)))

    def forward_stages(self, x: Float[Tensor, "b c d h w"]) -> list[Tensor]:
        """Return the feature map of each stage, shallowest first.

        Raises:
            ModelError: As ``forward_features``.
        """
        self.check_input(x)
        return [self.turned_back(stage) for stage in super().forward_stages(self.turned(x))]

    def turned(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c i j k"]:
        """Turn a volume or a map from the axes that hold here to those of the training."""
        places = [_place(letter) for letter in self.axes]
        flips = [axis + 2 for axis, letter in enumerate(self.axes) if letter not in AXES]
        x = x.permute(0, 1, *(place + 2 for place in places))
        return x.flip(flips) if flips else x

    def turned_back(self, x: Float[Tensor, "b c i j k"]) -> Float[Tensor, "b c d h w"]:
        """Turn a map from the axes of the training to those that hold here."""
        flips = [axis + 2 for axis, letter in enumerate(self.axes) if letter not in AXES]
        x = x.flip(flips) if flips else x
        places = [_place(letter) for letter in self.axes]
        return x.permute(0, 1, *(places.index(axis) + 2 for axis in range(3)))


def _outside(triple: Size3, axes: str) -> Size3:
    """Return sizes along the axes here, of those along the axes of the training."""
    places = [_place(letter) for letter in axes]
    depth, height, width = (triple[places.index(axis)] for axis in range(3))
    return depth, height, width


def _place(letter: str) -> int:
    """Return the axis here along which a direction lies."""
    return AXES.index(letter if letter in AXES else _OPPOSITE[letter])
