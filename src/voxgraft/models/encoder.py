"""What every encoder offers: feature maps, a pooled vector, and a declaration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Any, get_args

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from voxgraft.errors import ModelError
from voxgraft.models.declaration import Declaration
from voxgraft.models.depth import DepthPadding, check_choice
from voxgraft.models.layers.padding import DepthPadded


class Encoder(nn.Module):
    """A network from volumes to features.

    A subclass gives ``forward_features`` and ``forward_stages``, and ``pool`` or ``forward``;
    each begins with ``self.check_input(x)`` and runs its blocks through ``self.run_block``.
    :class:`voxgraft.models.sequential.SequentialEncoder` does that for networks whose modules
    run one after the other.
    """

    declaration: Declaration

    def __init__(self, declaration: Declaration, *, in_channels: int) -> None:
        """Declare what the network is.

        Args:
            declaration: The facts that other rooms rely on.
            in_channels: Channels of the input.
        """
        super().__init__()
        self.declaration = declaration
        self.in_channels = in_channels
        self.gradient_checkpointing = False

    def forward_features(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f e i j"]:
        """Return the final feature map.

        Raises:
            ModelError: If ``x`` does not have five axes, the encoder's channels and at least its
                minimal size; or, in training, if there is one value a channel to normalize.
        """
        raise NotImplementedError

    def forward_stages(self, x: Float[Tensor, "b c d h w"]) -> list[Tensor]:
        """Return the feature map of each stage, shallowest first.

        Their channels and reductions are ``declaration.feature_channels`` and ``.strides``. The
        last one may be shallower than the final feature map: EfficientNet's last convolution
        belongs to none of its stages.

        Raises:
            ModelError: As ``forward_features``.
        """
        raise NotImplementedError

    def pool(self, features: Float[Tensor, "b f e i j"]) -> Float[Tensor, "b n"]:
        """Make a vector of the final feature map, as the original network does."""
        raise NotImplementedError

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

    def set_gradient_checkpointing(self, on: bool = True) -> None:
        """Compute the blocks' activations again in the backward pass instead of keeping them.

        Less memory in training for about a third more time; the results are the same. Has an
        effect where ``declaration.gradient_checkpointing`` says so.
        """
        self.gradient_checkpointing = on

    def run_block(self, name: str, block: Callable[..., Any], *inputs: Any) -> Any:
        """Run a block, with gradient checkpointing if that is on.

        Args:
            name: Of the block, for messages.
            block: The module, or a function of it.
            inputs: What it takes.

        Raises:
            ModelError: In training, if batch normalization is given one value a channel.
        """
        try:
            # A single layer has nothing to gain, and may change its input in place.
            single = isinstance(block, nn.Module) and not any(True for _ in block.children())
            if self.gradient_checkpointing and self.training and not single:
                return checkpoint(
                    block,
                    *inputs,
                    use_reentrant=False,
                    context_fn=lambda: (nullcontext(), self._running_statistics_kept()),
                )
            return block(*inputs)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ModelError(
                f"batch normalization in {name!r} was given one value a channel to normalize in "
                f"training: the map there is a single voxel of {len(inputs[0])} volume. Train with "
                "at least two volumes a batch, with larger volumes, or with group normalization."
            ) from error

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

    @contextmanager
    def _running_statistics_kept(self) -> Iterator[None]:
        """Let the second forward pass of a checkpointed block leave running statistics alone."""
        layers = [
            (module, module.momentum, module.num_batches_tracked)
            for module in self.modules()
            if isinstance(module, _BatchNorm) and module.num_batches_tracked is not None
        ]
        counts = [counter.clone() for _, _, counter in layers]
        for layer, _, _ in layers:
            layer.momentum = 0.0
        try:
            yield
        finally:
            for (layer, momentum, counter), count in zip(layers, counts, strict=True):
                layer.momentum = momentum
                counter.copy_(count)

    def check_input(self, x: Tensor) -> None:
        """See that a volume fits the network.

        Raises:
            ModelError: If it does not have five axes, the encoder's channels and at least its
                minimal size.
        """
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
