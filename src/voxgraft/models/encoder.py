"""What every encoder offers: feature maps, a pooled vector, and a declaration."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import get_args

from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.errors import ModelError
from voxgraft.models.declaration import Declaration
from voxgraft.models.depth import DepthPadding, check_choice
from voxgraft.models.layers.padding import DepthPadded


class Encoder(nn.Module):
    """A network from volumes to features.

    The modules of an encoder are run one after the other: first those of ``trunk``, whose last
    output is the final feature map, then those of ``pool``, which make one vector of it. The
    feature maps after the modules of ``taps`` are what ``forward_stages`` returns.
    """

    declaration: Declaration

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
        super().__init__()
        self.declaration = declaration
        self.in_channels = in_channels
        self._trunk = tuple(trunk)
        self._pool = tuple(pool)
        self._taps = tuple(taps)

    def forward_features(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Return the final feature map.

        Raises:
            ModelError: If ``x`` does not have five axes, the encoder's channels and at least its
                minimal size; or, in training, if there is one value a channel to normalize.
        """
        self._check_input(x)
        for name in self._trunk:
            x = self._run(name, x)
        return x

    def forward_stages(self, x: Float[Tensor, "b c d h w"]) -> list[Tensor]:
        """Return the feature map of each stage, shallowest first.

        Their channels and reductions are ``declaration.feature_channels`` and ``.strides``. The
        last one may be shallower than the final feature map: EfficientNet's last convolution
        belongs to none of its stages.

        Raises:
            ModelError: As ``forward_features``.
        """
        self._check_input(x)
        stages = []
        for name in self._trunk:
            x = self._run(name, x)
            if name in self._taps:
                stages.append(x)
            if len(stages) == len(self._taps):
                break
        return stages

    def pool(self, features: Float[Tensor, "b f e i j"]) -> Float[Tensor, "b n"]:
        """Make a vector of the final feature map, with the operations and order of the 2D twin."""
        for name in self._pool:
            features = self._run(name, features)
        return features

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b n"]:
        """Return the pooled features that a classifier takes.

        Raises:
            ModelError: As ``forward_features``.
        """
        return self.pool(self.forward_features(x))

    def build_reference(self) -> nn.Module:
        """Build the 2D network whose twin this is, with random weights, in evaluation mode.

        It takes ``(b, c, h, w)`` with this encoder's channels, has ``forward_features``, and
        returns pooled features; its state dict has this encoder's names.

        Raises:
            ModelError: If this network is not a twin.
        """
        raise ModelError(
            f"this {self.declaration.family} network is no twin of a 2D network: there is nothing "
            "to compare it with. Leave the parity check out."
        )

    @property
    def depth_padding(self) -> DepthPadding | None:
        """What lies beyond the first and last slice; None if no layer pads along depth."""
        for module in self.modules():
            if isinstance(module, DepthPadded):
                return module.depth_padding
        return None

    def set_depth_padding(self, mode: DepthPadding) -> DepthPaddingChange:
        """Set what lies beyond the first and last slice, at once and in every layer.

        Used as a context manager, the result sets each layer back at the end of the block::

            with encoder.set_depth_padding("replicate"):
                features = encoder(volume)

        Raises:
            ModelError: If ``mode`` is not a padding mode.
        """
        check_choice("depth_padding", mode, get_args(DepthPadding))
        layers = [module for module in self.modules() if isinstance(module, DepthPadded)]
        change = DepthPaddingChange([(layer, layer.depth_padding) for layer in layers])
        for layer in layers:
            layer.depth_padding = mode
        return change

    def _run(self, name: str, x: Tensor) -> Tensor:
        try:
            out: Tensor = self.get_submodule(name)(x)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ModelError(
                f"batch normalization in {name!r} was given one value a channel to normalize in "
                f"training: the map there is a single voxel of {x.shape[0]} volume. Train with at "
                "least two volumes a batch, with larger volumes, or with group normalization."
            ) from error
        return out

    def _check_input(self, x: Tensor) -> None:
        if x.ndim != 5 or x.shape[1] != self.in_channels:
            raise ModelError(
                f"the encoder was given a tensor of shape {tuple(x.shape)}; expected (batch, "
                f"{self.in_channels}, depth, height, width). Add the missing axes, or build the "
                "encoder with in_channels as the data has them."
            )
        smallest = self.declaration.min_size
        if any(found < least for found, least in zip(x.shape[2:], smallest, strict=True)):
            raise ModelError(
                f"the encoder was given volumes of {tuple(x.shape[2:])} voxels (depth, height, "
                f"width); this network needs at least {smallest}. Resample or pad the volumes to "
                "that, or choose a network with a smaller minimum."
            )


class DepthPaddingChange:
    """A change of padding along depth that can be taken back, by leaving its ``with`` block."""

    def __init__(self, before: list[tuple[DepthPadded, DepthPadding]]) -> None:
        """Remember what each layer had."""
        self._before = before

    def __enter__(self) -> None:
        """Keep the change for the length of the block."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Take the change back."""
        for layer, mode in self._before:
            layer.depth_padding = mode
