"""The blocks of video transformers: attention over all tokens, or over time and space in turn."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.types import Size3

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine of the angle of each place of a head, ``(tokens, head channels)`` each."""

Bias = Literal["all", "query_value", "none"]
"""Which of query, key and value have a bias."""

Activation = Literal["gelu", "gelu_tanh"]


def rotation(grid: Size3, channels: int, like: Tensor) -> Rotation:
    """Return the rotary positions of a grid of tokens.

    The channels of a head are split in three: the first part turns with depth, the next with
    height, the next with width; what is left over does not turn.

    Args:
        grid: Tokens along (depth, height, width).
        channels: Channels of a head.
        like: A tensor whose device and precision the result has.

    Source:
        arXiv:2506.09985, section 2.1 (3D-RoPE). The public code pairs neighboring channels but
        lets the frequencies run through twice instead of repeating each; its weights were trained
        so, and so it is here.
    """
    part = 2 * (channels // 3 // 2)
    steps = torch.arange(part // 2, dtype=torch.float32, device=like.device)
    frequencies = (10000.0 ** (-2.0 * steps / part)).repeat(2)
    axes = [torch.arange(size, dtype=torch.float32, device=like.device) for size in grid]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).view(-1, 3, 1)
    angles = (places * frequencies).flatten(1)
    angles = F.pad(angles, (0, channels - angles.shape[1]))
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def _rotated(x: Float[Tensor, "b heads n c"], turn: Rotation) -> Float[Tensor, "b heads n c"]:
    even, odd = x[..., 0::2], x[..., 1::2]
    return x * turn[0] + torch.stack((-odd, even), dim=-1).flatten(-2) * turn[1]


class Attention(nn.Module):
    """Attention of every token to every other, with one kernel for query, key and value."""

    def __init__(self, width: int, heads: int, bias: Bias) -> None:
        """Make the layer.

        Args:
            width: Channels of a token.
            heads: Number of heads.
            bias: Which of query, key and value have a bias. A key's bias changes nothing.
        """
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias == "all")
        if bias == "query_value":
            self.q_bias = nn.Parameter(torch.zeros(width))
            self.v_bias = nn.Parameter(torch.zeros(width))
        self.bias = bias
        self.proj = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "b n c"], turn: Rotation | None = None
    ) -> Float[Tensor, "b n c"]:
        """Let the tokens attend to each other; ``turn`` holds their rotary positions."""
        bias: Tensor | None = self.qkv.bias
        if self.bias == "query_value":
            bias = torch.cat((self.q_bias, torch.zeros_like(self.v_bias), self.v_bias))
        mixed = F.linear(x, self.qkv.weight, bias).view(*x.shape[:2], 3, self.heads, -1)
        query, key, value = mixed.permute(2, 0, 3, 1, 4).unbind(0)
        if turn is not None:
            query, key = _rotated(query, turn), _rotated(key, turn)
        attended = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return out


class Mlp(nn.Module):
    """Two linear layers, token by token."""

    def __init__(self, width: int, hidden: int, activation: Activation) -> None:
        """Make the layers."""
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU(approximate="tanh" if activation == "gelu_tanh" else "none")
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "*b c"]) -> Float[Tensor, "*b c"]:
        """Run them."""
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class Block(nn.Module):
    """Attention of all tokens to all, then an MLP, each around a shortcut and normalized before."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        bias: Bias,
        activation: Activation,
        eps: float,
        drop_path: float,
    ) -> None:
        """Make the block.

        Args:
            width: Channels of a token.
            heads: Number of heads.
            hidden: Channels inside the MLP.
            bias: Which of query, key and value have a bias.
            activation: Of the MLP.
            eps: Of the normalizations.
            drop_path: Probability of leaving a branch out in training.
        """
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads, bias)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, hidden, activation)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(
        self, x: Float[Tensor, "b n c"], grid: Size3, turn: Rotation | None
    ) -> Float[Tensor, "b n c"]:
        """Run the block on tokens, those of the grid last."""
        x = x + self.drop_path(self.attn(self.norm1(x), turn))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class DividedBlock(Block):
    """First the tokens of one place attend to each other along depth, then those of a slice.

    The class token takes part in the second step alone: once in every slice, and its answers are
    averaged.

    Source: arXiv:2102.05095, section 3, "divided space-time attention"; time is depth here.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        *,
        bias: Bias,
        activation: Activation,
        eps: float,
        drop_path: float,
    ) -> None:
        """Make the block; arguments as of :class:`Block`."""
        super().__init__(
            width,
            heads,
            hidden,
            bias=bias,
            activation=activation,
            eps=eps,
            drop_path=drop_path,
        )
        self.temporal_norm1 = nn.LayerNorm(width, eps=eps)
        self.temporal_attn = Attention(width, heads, bias)
        self.temporal_fc = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "b n c"], grid: Size3, turn: Rotation | None
    ) -> Float[Tensor, "b n c"]:
        """Run the block on a class token and the tokens of the grid."""
        batch, _, width = x.shape
        depth, plane = grid[0], grid[1] * grid[2]
        first, tokens = x[:, :1], x[:, 1:]

        columns = tokens.view(batch, depth, plane, width).transpose(1, 2).flatten(0, 1)
        change = self.drop_path(self.temporal_attn(self.temporal_norm1(columns)))
        change = self.temporal_fc(change).view(batch, plane, depth, width).transpose(1, 2)
        tokens = tokens + change.flatten(1, 2)

        slices = tokens.view(batch * depth, plane, width)
        copies = first.expand(-1, depth, -1).reshape(batch * depth, 1, width)
        answer = self.attn(self.norm1(torch.cat((copies, slices), dim=1)))
        answer = self.drop_path(answer)
        of_first = answer[:, 0].view(batch, depth, width).mean(dim=1, keepdim=True)
        of_tokens = answer[:, 1:].reshape(batch, depth * plane, width)

        x = torch.cat((first + of_first, tokens + of_tokens), dim=1)
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out
