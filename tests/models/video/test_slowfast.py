"""What SlowFast's two pathways see, and what comes of it."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from voxgraft.models import MODELS, Encoder, build_encoder
from voxgraft.models.video.slowfast import SlowFast, mean_of_groups


def _volume(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(3))


def _small() -> Encoder:
    """Build the network with two blocks in each stage."""
    build = MODELS.get("slowfast_r50").build
    plan = replace(build.args[0], blocks=(2, 2, 2, 2))  # type: ignore[attr-defined]
    return build.func(plan, in_channels=3)  # type: ignore[attr-defined]


def test_slowfasts_slices() -> None:
    with torch.device("meta"):
        encoder = build_encoder("slowfast_r50")
        assert isinstance(encoder, SlowFast)
        for depth in range(4, 400, 4):
            wanted = torch.linspace(0, depth - 1, depth // 4, device="cpu").long().tolist()
            assert encoder.slow_slices(depth) == wanted
        assert encoder.slow_slices(1) == [0]
        assert encoder.slow_slices(5) == [0, 4]
        assert encoder.slow_slices(9) == [0, 4, 8]


def test_groups_of_slices_are_averaged() -> None:
    x = _volume(2, 3, 10, 4, 5)
    wanted = [x[:, :, start : start + 4].mean(2) for start in (0, 4, 8)]
    torch.testing.assert_close(mean_of_groups(x, 4), torch.stack(wanted, 2))


def test_slowfasts_vector_has_each_pathways_own_mean() -> None:
    encoder = _small().eval()
    volume = _volume(1, 3, 9, 32, 32)
    with torch.no_grad():
        *_, (slow, fast) = encoder._pathways(volume)  # type: ignore[attr-defined]
        vector = encoder(volume)
    assert (slow.shape[2], fast.shape[2]) == (3, 9)
    torch.testing.assert_close(vector[:, :2048], slow.mean((2, 3, 4)))
    torch.testing.assert_close(vector[:, 2048:], fast.mean((2, 3, 4)))
