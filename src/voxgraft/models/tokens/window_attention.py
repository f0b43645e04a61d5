"""Attention within a window of tokens, with a bias for how far apart two tokens are."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from voxgraft.models.tokens.windows import relative_index
from voxgraft.types import Size3


class BiasFromTable(nn.Module):
    """Swin's attention: a learned bias for each offset between two tokens of a window.

    Names are those of timm's ``WindowAttention``. Equal planes get equal biases where the table is
    that of the plane, repeated for each offset along depth.

    Source: arXiv:2103.14030, equation 4; in 3D arXiv:2106.13230, section 3.2.
    """

    def __init__(self, attention: Any, window: Size3) -> None:
        """Adopt timm's attention.

        Args:
            attention: timm's layer.
            window: The window in tokens.
        """
        super().__init__()
        self.window = window
        self.num_heads = int(attention.num_heads)
        self.scale = float(attention.scale)
        offsets = math.prod(2 * size - 1 for size in window)
        self.relative_position_bias_table = nn.Parameter(torch.empty(offsets, self.num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        self.qkv = attention.qkv
        self.attn_drop = attention.attn_drop
        self.proj = attention.proj
        self.proj_drop = attention.proj_drop

    def forward(
        self, x: Float[Tensor, "windows n c"], window: Size3, foreign: Tensor | None
    ) -> Float[Tensor, "windows n c"]:
        """Attend; ``window`` may be shallower than the network's, ``foreign`` pairs are apart."""
        queries, keys, values = _heads(self.qkv(x), self.num_heads)
        index = relative_index(window, self.window, x.device)
        bias = self.relative_position_bias_table[index].permute(2, 0, 1)
        logits = (queries * self.scale) @ keys.transpose(-2, -1) + bias
        weights: Tensor = self.attn_drop(_masked(logits, foreign).softmax(dim=-1))
        mixed: Tensor = self.proj_drop(self.proj(_together(weights @ values)))
        return mixed


class BiasFromCoordinates(nn.Module):
    """Swin V2's attention: cosine similarity, and a bias computed from logarithmic offsets.

    Names are those of timm's ``WindowAttention`` of V2. Its small network takes offsets along
    (depth, height, width); with zeros for depth, equal planes get equal biases.

    Source: arXiv:2111.09883, sections 3.3 (cosine attention) and 3.4 (log-spaced continuous
    position bias). Offsets along depth are scaled by the window's depth, as those in the plane by
    its height and width (or those of the pre-training, where timm says so).
    """

    def __init__(self, attention: Any, window: Size3) -> None:
        """Adopt timm's attention.

        Args:
            attention: timm's layer.
            window: The window in tokens.
        """
        super().__init__()
        self.q_bias: nn.Parameter | None
        self.v_bias: nn.Parameter | None
        self.window = window
        self.num_heads = int(attention.num_heads)
        trained = tuple(int(size) for size in attention.pretrained_window_size)
        plane = trained if trained[0] > 0 else window[1:]
        self._span = (window[0], *plane)
        self.logit_scale = attention.logit_scale
        for name in ("q_bias", "v_bias"):
            self.register_parameter(name, getattr(attention, name))
        hidden = attention.cpb_mlp[0].out_features
        first = nn.Linear(3, hidden)
        nn.init.trunc_normal_(first.weight, std=0.02)
        nn.init.zeros_(first.bias)
        self.cpb_mlp = nn.Sequential(first, *list(attention.cpb_mlp)[1:])
        self.qkv = attention.qkv
        self.attn_drop = attention.attn_drop
        self.proj = attention.proj
        self.proj_drop = attention.proj_drop

    def forward(
        self, x: Float[Tensor, "windows n c"], window: Size3, foreign: Tensor | None
    ) -> Float[Tensor, "windows n c"]:
        """Attend; ``window`` may be shallower than the network's, ``foreign`` pairs are apart."""
        bias = None
        if self.q_bias is not None and self.v_bias is not None:
            bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        projected = F.linear(x, self.qkv.weight, bias)
        queries, keys, values = _heads(projected, self.num_heads)
        similarity = F.normalize(queries, dim=-1) @ F.normalize(keys, dim=-1).transpose(-2, -1)
        scale = self.logit_scale.clamp(max=math.log(100.0)).exp()
        table = 16 * torch.sigmoid(self.cpb_mlp(self._coordinates(x))).flatten(0, 2)
        index = relative_index(window, self.window, x.device)
        logits = similarity * scale + table[index].permute(2, 0, 1)
        weights: Tensor = self.attn_drop(_masked(logits, foreign).softmax(dim=-1))
        mixed: Tensor = self.proj_drop(self.proj(_together(weights @ values)))
        return mixed

    def _coordinates(self, x: Tensor) -> Float[Tensor, "d h w 3"]:
        """Return each offset as the network sees it: signed, logarithmic, scaled by the window."""
        axes = [
            torch.arange(1 - size, size, device=x.device, dtype=torch.float32) / max(span - 1, 1)
            for size, span in zip(self.window, self._span, strict=True)
        ]
        offsets = 8 * torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
        spaced = offsets.sign() * (offsets.abs() + 1).log2() / math.log2(8)
        return spaced.to(self.logit_scale.dtype)


def _heads(projected: Tensor, heads: int) -> tuple[Tensor, Tensor, Tensor]:
    windows, tokens, _ = projected.shape
    split = projected.view(windows, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
    return split[0], split[1], split[2]


def _together(values: Tensor) -> Tensor:
    return values.transpose(1, 2).flatten(2)


def _masked(logits: Tensor, foreign: Tensor | None) -> Tensor:
    """Take 100, as timm does, from the logits of pairs that may not attend to each other."""
    if foreign is None:
        return logits
    penalty = foreign.to(logits.dtype).unsqueeze(1) * -100.0
    volumes = logits.view(-1, len(foreign), *logits.shape[1:])
    return (volumes + penalty).view(logits.shape)
