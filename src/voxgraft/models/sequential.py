"""Encoders whose modules run one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from voxgraft.models.declaration import Declaration
from voxgraft.models.encoder import Encoder


class SequentialEncoder(Encoder):
    """An encoder that is a row of modules.

    First those of ``trunk`` run, whose last output is the final feature map, then those of
    ``pool``, which make one vector of it. The feature maps after the modules of ``taps`` are what
    ``forward_stages`` returns.
    """

    def __init__(
        self,
        declaration: Declaration,
        *,
        trunk: Sequence[str],
        pool: Sequence[str],
        taps: Sequence[str],
        in_channels: int,
    ) -> None:
        """Declare the order of the modules, which a subclass registers.

        Args:
            declaration: What the network is.
            trunk: Names of the modules from the input to the final feature map.
            pool: Names of the modules from there to the feature vector.
            taps: Those of ``trunk`` after which a stage ends.
            in_channels: Channels of the input.
        """
        super().__init__(declaration, in_channels=in_channels)
        self._trunk = tuple(trunk)
        self._pool = tuple(pool)
        self._taps = tuple(taps)

    def forward_features(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Return the final feature map.

        Raises:
            ModelError: If ``x`` does not have five axes, the encoder's channels and at least its
                minimal size; or, in training, if there is one value a channel to normalize.
        """
        self.check_input(x)
        for name in self._trunk:
            x = self.run_block(name, self.get_submodule(name), x)
        return x

    def forward_stages(self, x: Float[Tensor, "b c d h w"]) -> list[Tensor]:
        """Return the feature map of each stage, shallowest first.

        Raises:
            ModelError: As ``forward_features``.
        """
        self.check_input(x)
        stages = []
        for name in self._trunk:
            x = self.run_block(name, self.get_submodule(name), x)
            if name in self._taps:
                stages.append(x)
            if len(stages) == len(self._taps):
                break
        return stages

    def pool(self, features: Float[Tensor, "b f e i j"]) -> Float[Tensor, "b n"]:
        """Make a vector of the final feature map, with the operations and order of the original."""
        for name in self._pool:
            features = self.run_block(name, self.get_submodule(name), features)
        return features
