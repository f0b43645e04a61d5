"""What makes one vector of the vectors of a volume's slices."""

from __future__ import annotations

from typing import Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from voxgraft.models.depth import check_choice

Join = Literal["mean", "max", "attention", "gru"]

_ATTENTION_CHANNELS = 128


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

    Source: arXiv:1802.04712, section 2.4, equations 7 and 9, with 128 hidden channels.
    """

    def __init__(self, features: int) -> None:
        """Make the attention for slices of so many features."""
        super().__init__()
        self.content = nn.Linear(features, _ATTENTION_CHANNELS)
        self.gate = nn.Linear(features, _ATTENTION_CHANNELS)
        self.score = nn.Linear(_ATTENTION_CHANNELS, 1)

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
    over the slices. Each direction has half as many channels as the slices have features.
    """

    def __init__(self, features: int) -> None:
        """Make the recurrent network for slices of so many features."""
        super().__init__()
        self.gru = nn.GRU(features, -(-features // 2), batch_first=True, bidirectional=True)

    def forward(self, vectors: Float[Tensor, "b n f"]) -> Float[Tensor, "b g"]:
        """Join."""
        read: Tensor = self.gru(vectors)[0]
        return read.mean(1)


def make_join(kind: str, features: int) -> tuple[nn.Module, int]:
    """Return the module that joins slices, and the length of its vectors.

    Raises:
        ModelError: If ``kind`` is none of its choices.
    """
    check_choice("join", kind, get_args(Join))
    if kind == "attention":
        return AttentionJoin(features), features
    if kind == "gru":
        return RecurrentJoin(features), 2 * (-(-features // 2))
    return (MeanJoin() if cast(Join, kind) == "mean" else MaxJoin()), features
