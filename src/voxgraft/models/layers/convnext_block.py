"""The block of ConvNeXt over volumes; the submodules have timm's names."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn


class ConvNeXtBlock3d(nn.Module):
    """Depthwise convolution, normalization over channels, and a two-layer perceptron a voxel.

    Source: arXiv:2201.03545, section 2.6, as timm's ``ConvNeXtBlock``, in both of its layouts:
    the perceptron is 1x1x1 convolutions, or linear layers on channels-last tensors.
    """

    def __init__(
        self,
        conv_dw: nn.Module,
        norm: nn.Module,
        mlp: nn.Module,
        gamma: nn.Parameter | None,
        shortcut: nn.Module,
        drop_path: nn.Module,
        *,
        conv_mlp: bool,
    ) -> None:
        """Make the block around its converted layers."""
        super().__init__()
        self.conv_mlp = conv_mlp
        self.conv_dw = conv_dw
        self.norm = norm
        self.mlp = mlp
        self.gamma = gamma
        self.shortcut = shortcut
        self.drop_path = drop_path

    def forward(self, x: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b f d h w"]:
        """Add the block's residual."""
        residual: Tensor = self.conv_dw(x)
        if self.conv_mlp:
            residual = self.mlp(self.norm(residual))
        else:
            residual = self.mlp(self.norm(residual.permute(0, 2, 3, 4, 1)))
            residual = residual.permute(0, 4, 1, 2, 3)
        if self.gamma is not None:
            residual = residual * self.gamma.view(1, -1, 1, 1, 1)
        out: Tensor = self.drop_path(residual) + self.shortcut(x)
        return out
