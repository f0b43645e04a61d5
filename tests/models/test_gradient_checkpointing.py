"""Gradient checkpointing changes memory and time, no number."""

import copy

import pytest
import torch

from voxgraft.models import build_encoder


@pytest.mark.parametrize("name", ["plain_resnet10_3d", "mobilenetv3_small_3d"])
def test_gradients_and_running_statistics_are_the_same(name: str) -> None:
    plain = build_encoder(name, seed=0)
    checkpointed = copy.deepcopy(plain)
    checkpointed.set_gradient_checkpointing()
    volume = torch.randn(2, 1, 32, 32, 32, generator=torch.Generator().manual_seed(1))
    for encoder in (plain, checkpointed):
        torch.manual_seed(2)
        encoder(volume).square().sum().backward()
    for (key, expected), (_, found) in zip(
        plain.named_parameters(), checkpointed.named_parameters(), strict=True
    ):
        torch.testing.assert_close(found.grad, expected.grad, msg=key)
    for (key, expected), (_, found) in zip(
        plain.named_buffers(), checkpointed.named_buffers(), strict=True
    ):
        torch.testing.assert_close(found, expected, msg=key)
    assert any(key.endswith("num_batches_tracked") for key, _ in plain.named_buffers())


def test_fewer_activations_are_kept_for_the_backward_pass() -> None:
    encoder = build_encoder("plain_resnet10_3d", seed=0)
    volume = torch.zeros(1, 1, 32, 32, 32)

    def kept() -> int:
        sizes: list[int] = []

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            encoder(volume + 1)
        return sum(sizes)

    before = kept()
    encoder.set_gradient_checkpointing()
    assert kept() < 0.5 * before
    encoder.set_gradient_checkpointing(False)
    assert kept() == before
