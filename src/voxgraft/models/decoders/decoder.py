"""What every decoder offers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from voxgraft.types import Size3


class Decoder(nn.Module):
    """A network from an encoder's feature maps to maps on ever finer grids."""

    stems: frozenset[str] = frozenset()
    """State-dict names of the kernels that take the volume itself."""

    original_head: str = ""
    """Module of the original network that gives the classes of the finest map, in the original's
    own names; empty if there is no original."""

    def __init__(self, channels: Sequence[int], strides: Sequence[Size3]) -> None:
        """Say which maps the decoder gives.

        Args:
            channels: Channels of each map, finest first.
            strides: Reduction of each against the volume, (depth, height, width); the first is
                (1, 1, 1).
        """
        super().__init__()
        self.channels = tuple(channels)
        self.strides = tuple(strides)

    def deepest(self, stages: list[Tensor]) -> Tensor:
        """Return the map of the whole volume's content: what the decoder begins with.

        It has as many channels as the encoder's last stage.
        """
        return stages[-1]

    def forward(self, x: Tensor, stages: list[Tensor]) -> list[Tensor]:
        """Return the maps, finest first.

        Args:
            x: The volume that the encoder was given; its size is a multiple of the encoder's
                strides.
            stages: What the encoder's ``forward_stages`` returned for it.
        """
        raise NotImplementedError
