"""An encoder with its input contract and a head: what is trained."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from voxgraft.errors import ModelError
from voxgraft.models.encoder import Encoder
from voxgraft.models.initialization import seeded
from voxgraft.models.slicewise.join import AttentionJoin

_HEAD_SD = 0.01
_VOXELS_AT_ONCE = 2**24


class StandardizedNetwork(nn.Module):
    """An encoder that is given standardized volumes: what networks of every task have in common.

    The state dict has ``encoder.*`` with the encoder's own names, ``input_mean`` and ``input_sd``.
    """

    input_mean: Tensor
    input_sd: Tensor

    def __init__(
        self,
        encoder: Encoder,
        outputs: int,
        *,
        input_mean: float | Sequence[float] = 0.5,
        input_sd: float | Sequence[float] = 0.25,
    ) -> None:
        """Keep an encoder and its input contract.

        Args:
            encoder: The encoder.
            outputs: Values that the network predicts.
            input_mean: Mean that is taken from the volumes: one for all channels, or one each.
            input_sd: Standard deviation by which they are then divided, likewise.

        Raises:
            ModelError: If ``outputs`` is not positive, or the mean or sd does not fit the
                encoder's channels, is not finite, or the sd not positive.
        """
        super().__init__()
        if isinstance(outputs, bool) or not isinstance(outputs, int) or outputs < 1:
            raise ModelError(
                f"outputs is {outputs!r}; expected a whole number of at least 1. Give the number "
                "of values that the task predicts."
            )
        mean = _per_channel("input_mean", input_mean, encoder.in_channels)
        sd = _per_channel("input_sd", input_sd, encoder.in_channels)
        if any(value <= 0 for value in sd):
            raise ModelError(
                f"input_sd is {input_sd!r}; expected positive values, since volumes are divided "
                "by it. Give the standard deviation of the intensities."
            )
        self.encoder = encoder
        self.outputs = outputs
        self.register_buffer("input_mean", torch.tensor(mean))
        self.register_buffer("input_sd", torch.tensor(sd))
        self.memory_format = torch.contiguous_format

    def standardize(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b c d h w"]:
        """Take the mean from each channel and divide by the sd."""
        shape = (1, -1, 1, 1, 1)
        return (x - self.input_mean.view(shape)) / self.input_sd.view(shape)

    def prepare(self, x: Tensor) -> Tensor:
        """Standardize a volume and lay it out in memory, if it has the encoder's channels.

        A single channel would broadcast into any number of them: what has others is returned as
        it is, for the encoder to refuse.
        """
        if x.ndim != 5 or x.shape[1] != self.encoder.in_channels:
            return x
        return self.standardize(x).contiguous(memory_format=self.memory_format)

    def set_memory_format(self, memory_format: torch.memory_format) -> None:
        """Lay the weights, and from now on the inputs, out in memory as given.

        Raises:
            ModelError: If it is neither ``torch.contiguous_format`` nor
                ``torch.channels_last_3d``.
        """
        if memory_format not in (torch.contiguous_format, torch.channels_last_3d):
            raise ModelError(
                f"memory_format is {memory_format}; expected torch.contiguous_format or "
                "torch.channels_last_3d."
            )
        self.memory_format = memory_format
        for parameter in self.parameters():
            if parameter.ndim == 5:
                parameter.data = parameter.data.contiguous(memory_format=memory_format)


class Network(StandardizedNetwork):
    """Standardizes a volume, encodes it, and gives one value an output.

    With attention over windows, the windows of one study become one vector before the head: a
    mean weighted by gated attention. Only windows of the same study meet.

    The state dict has ``encoder.*`` with the encoder's own names, ``head.weight``, ``head.bias``,
    ``input_mean`` and ``input_sd``, and ``windows.*`` with attention over windows.
    """

    def __init__(
        self,
        encoder: Encoder,
        outputs: int,
        *,
        input_mean: float | Sequence[float] = 0.5,
        input_sd: float | Sequence[float] = 0.25,
        dropout: float = 0.0,
        windows_attention: bool = False,
        seed: int | None = None,
    ) -> None:
        """Join an encoder and a new linear head, with zero bias and weights of sd 0.01.

        Args:
            encoder: The encoder.
            outputs: Length of the result.
            input_mean: Mean that is taken from the volumes: one for all channels, or one each.
            input_sd: Standard deviation by which they are then divided, likewise.
            dropout: Probability with which a pooled feature is dropped in training.
            windows_attention: Whether attention joins the windows of a study.
            seed: Seed of the head's weights (and the attention's); None draws from PyTorch's
                global generator.

        Raises:
            ModelError: If ``outputs`` is not positive, ``dropout`` is no probability, or the mean
                or sd does not fit the encoder's channels, is not finite, or the sd not positive.
        """
        super().__init__(encoder, outputs, input_mean=input_mean, input_sd=input_sd)
        if not 0.0 <= dropout < 1.0:
            raise ModelError(f"dropout is {dropout!r}; expected a probability in [0, 1).")
        self.dropout = nn.Dropout(dropout)
        with seeded(seed):
            self.head = nn.Linear(encoder.declaration.num_features, outputs)
            nn.init.normal_(self.head.weight, std=_HEAD_SD)
            nn.init.zeros_(self.head.bias)
            self.windows: AttentionJoin | None = None
            if windows_attention:
                self.windows = AttentionJoin(encoder.declaration.num_features)

    def forward_pooled(
        self, x: Float[Tensor, "m c d h w"], bags: Int[Tensor, " m"] | None = None
    ) -> Float[Tensor, "b n"]:
        """Return the pooled features of volumes, before dropout and head.

        Args:
            x: Volumes, or windows of studies.
            bags: Which study of the batch each window is of, from 0, each at least once; None
                takes every window as a study of its own.

        Raises:
            ModelError: If a volume does not fit the encoder, or there are bags and no attention.
        """
        vectors = self._encode(x)
        if self.windows is None:
            if bags is not None:
                raise ModelError(
                    "the network was given windows of studies, and has no attention to join them. "
                    "Build it with windows_attention=True."
                )
            return vectors
        groups = (
            [vectors[bags == bag] for bag in range(int(bags.max()) + 1)]
            if (bags is not None)
            else list(torch.split(vectors, 1))
        )
        return torch.cat([self.windows(group.unsqueeze(0)) for group in groups])

    def forward(
        self, x: Float[Tensor, "m c d h w"], bags: Int[Tensor, " m"] | None = None
    ) -> Float[Tensor, "b k"]:
        """Return one value an output (logits, or standardized values) for each study.

        Args:
            x: Volumes, or windows of studies.
            bags: As for :meth:`forward_pooled`.

        Raises:
            ModelError: As :meth:`forward_pooled`.
        """
        out: Tensor = self.head(self.dropout(self.forward_pooled(x, bags)))
        return out

    def _encode(self, x: Tensor) -> Tensor:
        """Encode volumes: without gradients in portions, which bounds the memory."""
        portion = max(1, _VOXELS_AT_ONCE // max(1, x[0].numel())) if x.ndim == 5 else 1
        if torch.is_grad_enabled() or self.training or len(x) <= portion:
            pooled: Tensor = self.encoder(self.prepare(x))
            return pooled
        return torch.cat([self.encoder(self.prepare(part)) for part in torch.split(x, portion)])


def _per_channel(option: str, value: float | Sequence[float], channels: int) -> list[float]:
    given = [float(v) for v in value] if isinstance(value, Sequence) else [float(value)]
    if len(given) not in (1, channels) or not all(map(math.isfinite, given)):
        raise ModelError(
            f"{option} is {value!r}; expected one finite number, or {channels} of them, one a "
            "channel of the encoder."
        )
    return given * channels if len(given) == 1 else given
