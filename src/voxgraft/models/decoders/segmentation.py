"""An encoder, a decoder and a head: a class, or several, for each voxel."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.errors import ModelError
from voxgraft.models.decoders.decoder import Decoder
from voxgraft.models.decoders.text_head import TextHead
from voxgraft.models.encoder import Encoder
from voxgraft.models.initialization import seeded
from voxgraft.models.network import StandardizedNetwork
from voxgraft.models.orientation import Oriented
from voxgraft.types import Size3


class SegmentationNetwork(StandardizedNetwork):
    """Standardizes a volume, encodes and decodes it, and gives values for each voxel.

    The state dict has ``encoder.*`` with the encoder's own names, ``decoder.*`` with the
    decoder's, ``head.weight``, ``head.bias``, ``input_mean`` and ``input_sd``; with deep
    supervision, ``deep_heads.*`` too. ``network.encoder`` is the encoder, to be used again. With
    embeddings of the classes' names ``head`` is a :class:`TextHead`, with ``head.*`` of its own.

    A volume of any size runs: it is extended at its ends by its border voxels to multiples of the
    encoder's strides (and to two voxels of the deepest map, which normalization needs), and the
    result is cut to the volume. Layers of the encoder after its last stage (EfficientNet's last
    convolution) take no part, and learn nothing; they wait for a classification.
    """

    def __init__(
        self,
        encoder: Encoder,
        decoder: Decoder,
        outputs: int,
        *,
        input_mean: float | Sequence[float] = 0.5,
        input_sd: float | Sequence[float] = 0.25,
        deep_supervision: bool = False,
        embeddings: Float[Tensor, "k 512"] | None = None,
        seed: int | None = None,
    ) -> None:
        """Join an encoder, a decoder and a new head.

        Its bias is zero, and the standard deviation of its weights one over the root of the map's
        channels, so that outputs begin with the variance of the map. (With outputs that begin
        near zero, background wins a short training before the classes' weights have grown.)

        Args:
            encoder: The encoder.
            decoder: A decoder that was made for it.
            outputs: Values for each voxel.
            input_mean: Mean that is taken from the volumes: one for all channels, or one each.
            input_sd: Standard deviation by which they are then divided, likewise.
            deep_supervision: Whether the decoder's coarser maps, but the coarsest, have heads.
            embeddings: Of the classes' names, for a text-driven head; a plain one if None. Heads
                of coarser maps are plain.
            seed: Seed of the heads' weights; None draws from PyTorch's global generator.

        Raises:
            ModelError: If ``outputs`` is not positive, or the mean or sd does not fit the
                encoder's channels, is not finite, or the sd not positive; or the embeddings are
                not ``outputs`` rows of 512 finite numbers.
        """
        super().__init__(encoder, outputs, input_mean=input_mean, input_sd=input_sd)
        self.decoder = decoder
        coarser = decoder.channels[1:-1] if deep_supervision else ()
        with seeded(seed):
            self.head = self._made_head(embeddings)
            if deep_supervision:
                self.deep_heads = nn.ModuleList(_head(width, outputs) for width in coarser)
        self.level_strides: tuple[Size3, ...] = decoder.strides[: 1 + len(coarser)]
        """Reduction of each of the maps that ``forward_levels`` returns."""

    @property
    def stems(self) -> frozenset[str]:
        """State-dict names of all kernels that take the volume."""
        encoder = {f"encoder.{name}" for name in self.encoder.declaration.stems}
        return frozenset(encoder | {f"decoder.{name}" for name in self.decoder.stems})

    def padded_size(self, size: Sequence[int]) -> Size3:
        """Return the size, in voxels, to which a volume of ``size`` is extended."""
        facts = self.encoder.declaration
        whole = []
        for axis in range(3):
            step = math.lcm(*(stride[axis] for stride in facts.strides))
            whole.append(-(-max(size[axis], facts.min_size[axis]) // step) * step)
        deepest = facts.strides[-1]
        if all(edge == stride for edge, stride in zip(whole, deepest, strict=True)):
            whole[2] *= 2
        return (whole[0], whole[1], whole[2])

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b k d h w"]:
        """Return the outputs of each voxel (logits, or standardized values).

        Raises:
            ModelError: If the volume does not fit the encoder.
        """
        if isinstance(self.head, TextHead):
            finest, deepest = self._maps_and_deepest(x)
            return _cut(self.head(finest[0], deepest), x, self.level_strides[0])
        out: Tensor = self.head(self.forward_features(x))
        return out

    def forward_features(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f d h w"]:
        """Return the finest map, on the volume's grid: what the head makes the outputs of.

        Raises:
            ModelError: If the volume does not fit the encoder.
        """
        return _cut(self._maps(x)[0], x, self.level_strides[0])

    def forward_levels(self, x: Float[Tensor, "b c d h w"]) -> list[Tensor]:
        """Return the outputs on the volume's grid, then those of each coarser supervised map.

        A coarser one has as many voxels along an axis as strides begin in the volume.

        Raises:
            ModelError: If the volume does not fit the encoder, or the network was built without
                deep supervision.
        """
        if not hasattr(self, "deep_heads"):
            raise ModelError(
                "this network was built without deep supervision: it has no outputs on coarser "
                "grids. Build it with deep_supervision=True, or call it for the finest alone."
            )
        maps, deepest = self._maps_and_deepest(x)
        finest = self.head(maps[0], deepest) if self.is_text_driven else self.head(maps[0])
        coarser = zip(self.deep_heads, maps[1 : len(self.level_strides)], strict=True)
        levels = [finest, *(head(level) for head, level in coarser)]
        return [
            _cut(level, x, stride) for level, stride in zip(levels, self.level_strides, strict=True)
        ]

    @property
    def is_text_driven(self) -> bool:
        """Whether the head is made of embeddings of the classes' names."""
        return isinstance(self.head, TextHead)

    def set_embeddings(self, embeddings: Float[Tensor, "k 512"]) -> None:
        """Segment other classes with the same weights: those of other embeddings.

        Raises:
            ModelError: If the head is not text-driven; if it has coarser heads beside it and the
                number of classes differs; or as :class:`TextHead`.
        """
        if not isinstance(self.head, TextHead):
            raise ModelError(
                "this network has a plain head, which knows no embeddings. Build it with "
                "head='text' and embeddings."
            )
        if len(embeddings) != self.outputs and hasattr(self, "deep_heads"):
            raise ModelError(
                f"{len(embeddings)} embeddings are given, and the heads of coarser maps have "
                f"{self.outputs} outputs. Build the network without deep supervision to take "
                "another number of classes."
            )
        self.head.set_embeddings(embeddings)
        self.outputs = self.head.outputs

    def _made_head(self, embeddings: Tensor | None) -> nn.Conv3d | TextHead:
        channels = self.decoder.channels[0]
        if embeddings is None:
            return _head(channels, self.outputs)
        if len(embeddings) != self.outputs:
            raise ModelError(
                f"{len(embeddings)} embeddings are given for {self.outputs} outputs; expected one "
                "each, with one of the background if that is an output."
            )
        return TextHead(channels, self.encoder.declaration.feature_channels[-1], embeddings)

    def set_gradient_checkpointing(self, on: bool = True) -> None:
        """Compute the encoder's activations again in the backward pass instead of keeping them."""
        self.encoder.set_gradient_checkpointing(on)

    def _maps(self, x: Tensor) -> list[Tensor]:
        return self._maps_and_deepest(x)[0]

    def _maps_and_deepest(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the decoder's maps, finest first, and the one that it begins with.

        The latter is turned as the decoder sees it, which makes no difference to its mean.
        """
        fits = x.ndim == 5 and x.shape[1] == self.encoder.in_channels and 0 not in x.shape
        if not fits:
            self.encoder.check_input(x)
        volume = self.prepare(x)
        size = self.padded_size(volume.shape[2:])
        margins = [size[axis] - volume.shape[axis + 2] for axis in (2, 1, 0)]
        if any(margins):
            padding = [margin for axis in margins for margin in (0, axis)]
            volume = F.pad(volume, padding, mode="replicate")
        stages = self.encoder.forward_stages(volume)
        turning = self.encoder if isinstance(self.encoder, Oriented) else None
        if turning is None or not self.decoder.original_head:
            return self.decoder(volume, stages), self._deepest(stages)
        # The decoder of the same training sees the body from the same side as the encoder.
        stages = [turning.turned(stage) for stage in stages]
        maps = self.decoder(turning.turned(volume), stages)
        return [turning.turned_back(level) for level in maps], self._deepest(stages)

    def _deepest(self, stages: list[Tensor]) -> Tensor:
        return self.decoder.deepest(stages) if self.is_text_driven else stages[-1]


def _head(channels: int, outputs: int) -> nn.Conv3d:
    head = nn.Conv3d(channels, outputs, 1)
    nn.init.normal_(head.weight, std=channels**-0.5)
    if head.bias is not None:
        nn.init.zeros_(head.bias)
    return head


def _cut(out: Tensor, volume: Tensor, stride: Size3) -> Tensor:
    depth, height, width = (-(-volume.shape[axis + 2] // stride[axis]) for axis in range(3))
    return out[:, :, :depth, :height, :width]
