"""Networks that end in a 1×1×1 convolution are run up to it; others are not."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import Tensor, nn

from voxgraft.errors import InferenceError
from voxgraft.sliding import Sliding, scores, segment_label_map
from voxgraft.sliding.window_head import run_and_part


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def ending(*last: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.ReLU(), *last).eval()


class Levels(nn.Module):
    """Gives maps of several levels, as networks with deep supervision do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = ending(nn.Conv3d(4, 11, 1))

    def forward(self, x: Tensor) -> list[Tensor]:
        found = self.body(x)
        return [found, nn.functional.avg_pool3d(found, 2)]


class Twice(nn.Module):
    """Uses its head twice; what it gives last is not all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv3d(1, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.head(x).mean(1, keepdim=True))


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv3d(1, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x).sigmoid_()


def hooked() -> nn.Module:
    network = ending(nn.Conv3d(4, 11, 1))
    network[-1].register_forward_hook(lambda *call: None)
    return network


class Patched(nn.Conv3d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).tanh()


LEVELS = Levels().eval()
SPLIT = {
    "module": ending(nn.Conv3d(4, 11, 1)),
    "without bias": ending(nn.Conv3d(4, 11, 1, bias=False)),
    "convolution alone": nn.Conv3d(1, 7, 1).eval(),
    "function": lambda x: LEVELS(x)[0],
}
WHOLE = {
    "softmax": ending(nn.Conv3d(4, 11, 1), nn.Softmax(1)),
    "wider kernel": ending(nn.Conv3d(4, 11, 3, padding=1)),
    "fewer outputs": ending(nn.Conv3d(4, 3, 1)),
    "groups": ending(nn.Conv3d(4, 12, 1, groups=2)),
    "subclass": ending(Patched(4, 11, 1)),
    "twice": Twice().eval(),
    "in place": InPlace().eval(),
    "hooked": hooked(),
    "no module": lambda x: torch.cat([x, 1 - x], 1),
}


@pytest.mark.parametrize("name", [*SPLIT, *WHOLE])
def test_scores_are_monais_with_and_without_the_head(name):
    predict = {**SPLIT, **WHOLE}[name]
    with torch.inference_mode():
        _, headless = run_and_part(predict, noise(1, 1, 8, 8, 8))
    assert (headless is not None) == (name in SPLIT)
    image = noise(1, 12, 9, 17)
    with torch.inference_mode():
        expected = sliding_window_inference(
            image[None], (8, 8, 8), 2, predict, overlap=0.25, mode="gaussian"
        )[0]
    for split in (True, False):
        own = Sliding((8, 8, 8), 0.25, split_head=split)
        torch.testing.assert_close(scores(predict, image, own), expected, atol=1e-5, rtol=1e-5)


def test_a_network_is_left_as_it_was():
    network = ending(nn.Conv3d(4, 11, 1))
    before = network(noise(1, 1, 8, 8, 8))
    segment_label_map(network, noise(1, 12, 8, 8), Sliding((8, 8, 8)))
    assert "forward" not in vars(network[-1])
    assert torch.equal(network(noise(1, 1, 8, 8, 8)), before)
    broken = noise(1, 12, 8, 8)
    with pytest.raises(RuntimeError, match="channels"):
        segment_label_map(network, torch.cat([broken, broken]), Sliding((8, 8, 8)))
    assert torch.equal(network(noise(1, 1, 8, 8, 8)), before)


def test_a_network_in_half_precision():
    network = ending(nn.Conv3d(4, 11, 1))
    image, sliding = noise(1, 12, 8, 8), Sliding((8, 8, 8))
    expected = scores(network, image, sliding)
    found = scores(network.bfloat16(), image.bfloat16(), sliding)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)


def test_a_head_that_comes_and_goes_is_told():
    network, calls = ending(nn.Conv3d(4, 11, 1)), []

    def predict(x: Tensor) -> Tensor:
        calls.append(x)
        found = network(x)
        return found if len(calls) == 1 else found.tanh()

    with pytest.raises(InferenceError, match="split_head=False"):
        scores(predict, noise(1, 12, 8, 8), Sliding((8, 8, 8)))
    calls.clear()
    scores(predict, noise(1, 12, 8, 8), Sliding((8, 8, 8), split_head=False))


def test_labels_differ_from_monais_only_where_two_scores_are_the_same_but_for_rounding():
    torch.manual_seed(0)
    network = ending(nn.Conv3d(4, 40, 1))
    with torch.no_grad():  # each class has another that is almost the same
        kernel = network[-1].weight
        kernel[20:] = kernel[:20] * (1 + 2e-7 * torch.randn(20, 1, 1, 1, 1))
        network[-1].bias[20:] = network[-1].bias[:20]
    image, sliding = noise(1, 40, 36, 44), Sliding((24, 24, 24), 0.5)
    with torch.inference_mode():
        theirs = sliding_window_inference(image[None], (24,) * 3, 1, network, 0.5, "gaussian")[0]
    ours = segment_label_map(network, image, sliding).long()
    differ = ours != theirs.argmax(0)
    assert differ.any()
    loss = theirs.amax(0) - theirs.gather(0, ours[None])[0]
    assert float(loss.max()) < 1e-5 * float(theirs.abs().max())
    assert float(loss[~differ].max()) == 0
