"""Models Genesis' U-Net is the original in training: batch statistics always."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voxgraft.models import build_segmentation
from voxgraft.models.volumetric.genesis_unet import build_genesis_unet


class _Genesis(nn.Module):
    """Models Genesis' U-Net written another way: by names of tensors, batch statistics always."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.state = state

    def stage(self, name: str, x: Tensor) -> Tensor:
        for unit in ("0", "1"):
            at = f"{name}.ops.{unit}."
            x = nn.functional.conv3d(
                x, self.state[at + "conv1.weight"], self.state[at + "conv1.bias"], padding=1
            )
            spread, mean = torch.var_mean(x, dim=(0, 2, 3, 4), correction=0, keepdim=True)
            scale, shift = (self.state[f"{at}bn1.{k}"] for k in ("weight", "bias"))
            x = (x - mean) / (spread + 1e-5).sqrt() * scale[:, None, None, None]
            x = (x + shift[:, None, None, None]).clamp_min(0)
        return x

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        maps = []
        for width in (64, 128, 256, 512):
            if maps:
                x = nn.functional.max_pool3d(x, 2)
            x = self.stage(f"down_tr{width}", x)
            maps.append(x)
        for width, skip in ((256, maps[2]), (128, maps[1]), (64, maps[0])):
            at = f"up_tr{width}."
            x = nn.functional.conv_transpose3d(
                x, self.state[at + "up_conv.weight"], self.state[at + "up_conv.bias"], stride=2
            )
            x = self.stage(f"up_tr{width}", torch.cat((x, skip), dim=1))
        return maps, x


def test_the_genesis_unet_is_the_originals_in_training(fill) -> None:
    network = build_segmentation(
        build_genesis_unet(), 2, decoder="native", input_mean=0.0, input_sd=1.0
    )
    fill(network)
    network.input_mean.zero_()
    network.input_sd.fill_(1.0)
    network.train()
    state = {
        name.partition(".")[2]: tensor
        for name, tensor in network.state_dict().items()
        if name.startswith(("encoder.", "decoder."))
    }
    volume = torch.randn(1, 1, 16, 8, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        maps, last = _Genesis(state)(volume)
        for found, wanted in zip(network.encoder.forward_stages(volume), maps, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        expected = network.head(last)
        torch.testing.assert_close(network(volume), expected, rtol=1e-4, atol=1e-4)
