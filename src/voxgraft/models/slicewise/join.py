"""What makes one vector of the vectors of a volume's slices."""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.errors import ModelError
from voxgraft.models.depth import check_choice

Join = Literal["mean", "max", "attention", "gru", "lrcn"]

_ATTENTION_CHANNELS = 128
_LRCN_CHANNELS = 256


class MeanJoin(nn.Module):
    """The mean over the slices."""

    def forward(self, vectors: Float[Tensor, "b n f"]) -> Float[Tensor, "b f"]:
        """Join."""
        return vectors.mean(1)


class MaxJoin(nn.Module):
    """The largest value of each feature over the slices."""

    def forward(self, vectors: Float[Tensor, "b n f"]) -> Float[Tensor, "b f"]:
        """Join."""
        return vectors.amax(1)


class AttentionJoin(nn.Module):
    """A weighted mean over the slices, by gated attention.

    Source: arXiv:1802.04712, section 2.4, equations 7 and 9, with 128 hidden channels by default.
    """

    def __init__(self, features: int, channels: int = _ATTENTION_CHANNELS) -> None:
        """Make the attention for slices of so many features, with so many hidden channels."""
        super().__init__()
        self.content = nn.Linear(features, channels)
        self.gate = nn.Linear(features, channels)
        self.score = nn.Linear(channels, 1)

    def weights(self, vectors: Float[Tensor, "b n f"]) -> Float[Tensor, "b n"]:
        """Return the weight of each slice; those of a volume sum to one."""
        hidden = torch.tanh(self.content(vectors)) * torch.sigmoid(self.gate(vectors))
        scores: Tensor = self.score(hidden).squeeze(-1)
        return scores.softmax(dim=1)

    def forward(self, vectors: Float[Tensor, "b n f"]) -> Float[Tensor, "b f"]:
        """Join."""
        return (self.weights(vectors).unsqueeze(-1) * vectors).sum(1)


class RecurrentJoin(nn.Module):
    """The mean of what a recurrent network says at each slice, having read it in both directions.

    Source: the gated recurrent unit of arXiv:1406.1078, appendix A.1.1, bidirectional; averaged
    over the slices. By default, each direction has half as many channels as the slices have
    features.
    """

    def __init__(self, features: int, channels: int | None = None) -> None:
        """Make the recurrent network for slices of so many features, so many channels each way."""
        super().__init__()
        self.gru = _both_ways(features, -(-features // 2) if channels is None else channels)

    def forward(self, vectors: Float[Tensor, "b n f"]) -> Float[Tensor, "b g"]:
        """Join."""
        read: Tensor = self.gru(vectors)[0]
        return read.mean(1)


class LrcnJoin(nn.Module):
    """LRCN: what a recurrent network says of the slices and of how each differs from the next.

    Each slice is its vector, its difference to the slice before and its difference to the slice
    after; where there is none, the difference is zero. A gated recurrent unit reads the slices of
    one study in both directions, never those of another study; its outputs are averaged over the
    slices, and the mean is normalized by batch normalization. So in evaluation a study's vector
    depends on its own slices alone; in training on the whole batch too, as batch normalization
    does. A study may have any number of slices. Slices that fill a volume up are background: they
    are read like all others and count in the mean.

    Source: recurrent networks on convolutional features are arXiv:1411.4389; this one, with 256
    channels each way and the mean over the slices, is the baseline of arXiv:2304.00546.
    """

    def __init__(self, features: int, channels: int = _LRCN_CHANNELS) -> None:
        """Make the join for slices of so many features, with so many channels each way."""
        super().__init__()
        self.gru = _both_ways(3 * features, channels)
        self.norm = nn.BatchNorm1d(2 * channels)

    def forward(self, vectors: Float[Tensor, "b n f"]) -> Float[Tensor, "b g"]:
        """Join.

        Raises:
            ModelError: In training, if the batch has one study: nothing to normalize by.
        """
        if self.norm.training and len(vectors) == 1:
            raise ModelError(
                "join is 'lrcn', which ends in batch normalization over the studies of a batch, "
                "and a batch in training has one study. Train with at least two studies a batch, "
                "or choose join 'gru'."
            )
        read: Tensor = self.gru(with_differences(vectors))[0]
        normalized: Tensor = self.norm(read.mean(1))
        return normalized


def with_differences(vectors: Float[Tensor, "b n f"]) -> Float[Tensor, "b n g"]:
    """Return each vector, less the one before, and less the one after: three times as long.

    The first has none before it and the last none after it: there the difference is zero.
    """
    steps = vectors[:, 1:] - vectors[:, :-1]
    none = torch.zeros_like(vectors[:, :1])
    return torch.cat(
        [vectors, torch.cat([none, steps], dim=1), torch.cat([-steps, none], dim=1)], dim=2
    )


def _both_ways(features: int, channels: int) -> nn.GRU:
    return nn.GRU(features, channels, batch_first=True, bidirectional=True)


def make_join(kind: str, features: int, channels: int | None = None) -> tuple[nn.Module, int]:
    """Return the module that joins slices, and the length of its vectors.

    Args:
        kind: How slices are joined.
        features: Length of a slice's vector.
        channels: Channels within a join that learns; None for its default.

    Raises:
        ModelError: If ``kind`` is none of its choices, or ``channels`` is not positive or given
            for a join that has none.
    """
    check_choice("join", kind, get_args(Join))
    whole = isinstance(channels, int) and not isinstance(channels, bool)
    if channels is not None and (not whole or channels < 1):
        raise ModelError(
            f"join_channels is {channels!r}; expected a whole number of at least 1, or None for "
            "the default."
        )
    match cast(Join, kind):
        case "attention":
            return AttentionJoin(features, channels or _ATTENTION_CHANNELS), features
        case "gru":
            recurrent = RecurrentJoin(features, channels)
            return recurrent, 2 * recurrent.gru.hidden_size
        case "lrcn":
            lrcn = LrcnJoin(features, channels or _LRCN_CHANNELS)
            return lrcn, lrcn.norm.num_features
    if channels is not None:
        raise ModelError(
            f"join_channels is {channels}, but join is {kind!r}, which learns nothing. Leave it "
            "out, or choose join 'attention', 'gru' or 'lrcn'."
        )
    return (MeanJoin() if kind == "mean" else MaxJoin()), features
