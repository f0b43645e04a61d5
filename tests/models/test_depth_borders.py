"""Where zero padding along depth is felt, and where it is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from voxgraft.models import Encoder, build_encoder

TOLERANCE = 1e-4


def border_reach(encoder: Encoder, depth: int, plane: tuple[int, int], taps: int) -> list[int]:
    """Bound how many input slices each stage sees on either side, from the layers' geometry.

    Layers are added up as if they stood one after the other, which shortcuts do not exceed.
    """
    reach, reaches = 0, []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal reach
        kernel = getattr(module, "kernel_size", (1, 1, 1))[0]
        reach += (kernel - 1) * -(-depth // inputs[0].shape[2])

    def note_end(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        reaches.append(reach)

    layers = [m for m in encoder.modules() if hasattr(m, "kernel_size")]
    handles = [layer.register_forward_pre_hook(note) for layer in layers]
    names = encoder._taps[:taps]
    handles += [encoder.get_submodule(n).register_forward_hook(note_end) for n in names]
    encoder.forward_stages(torch.empty(1, 1, depth, *plane, device="meta"))
    for handle in handles:
        handle.remove()
    return reaches


def interior(map_depth: int, depth: int, reach: int) -> slice:
    stride = -(-depth // map_depth)
    inside = [
        i for i in range(map_depth) if i * stride >= reach and (i + 1) * stride + reach <= depth
    ]
    assert inside, f"a depth of {depth} has no interior for a reach of {reach}"
    return slice(inside[0], inside[-1] + 1)


@pytest.mark.parametrize(
    ("name", "taps", "depth", "side"),
    [
        # All stages, where the volume that has an interior is small enough.
        ("resnet18_3d", 5, 960, 16),
        ("regnetx_002_3d", 5, 1400, 16),
        ("efficientnet_lite0_3d", 5, 2400, 16),
        # The first stages: the whole of the others sees too many slices.
        ("resnet50d_3d", 4, 640, 16),
        ("resnext50_32x4d_3d", 3, 320, 16),
        ("tf_efficientnet_lite0_3d", 4, 800, 16),
        ("mobilenetv2_3d", 4, 700, 16),
        ("densenet121_3d", 2, 160, 32),
        ("convnext_atto_3d", 2, 420, 32),
    ],
)
def test_average_with_zeros_equals_2d_at_interior_slices(
    name, taps, depth, side, randomize, inflate
) -> None:
    with torch.device("meta"):
        encoder = build_encoder(name).eval()
        reference = encoder.build_reference()
    reaches = border_reach(encoder, depth, (32, 32), taps)
    randomize(reference)
    state, shapes = reference.state_dict(), encoder.state_dict()
    deep = {key: inflate(state[key], tuple(shapes[key].shape), "average") for key in shapes}
    encoder.load_state_dict(deep, assign=True)
    image = torch.randn(1, 1, side, side, generator=torch.Generator().manual_seed(2))
    expected: list[Tensor] = []
    for info in reference.feature_info[:taps]:
        module = reference.get_submodule(info["module"])
        module.register_forward_hook(lambda m, i, output: expected.append(output))
    found: list[Tensor] = []
    volume = image.unsqueeze(2).expand(-1, -1, depth, -1, -1)
    with torch.no_grad():
        reference.forward_features(image)
        x = volume
        for path in encoder._trunk:
            x = encoder.get_submodule(path)(x)
            if path in encoder._taps:
                found.append(x)
            if len(found) == taps:
                break
    border_error = 0.0
    for stage in range(taps):
        error = (found[stage] - expected[stage].unsqueeze(2)).abs().amax((0, 1, 3, 4))
        error = error / expected[stage].abs().max()
        inside = interior(len(error), depth, reaches[stage])
        assert error[inside].max() < TOLERANCE, f"stage {stage}"
        border_error = max(border_error, float(error[0]), float(error[-1]))
    assert border_error > TOLERANCE  # else the test would see nothing


def test_squeeze_and_excitation_carries_the_border_everywhere(randomize, inflate) -> None:
    """The limit that docs/models.md states: such networks pool over the border slices too."""
    with torch.device("meta"):
        encoder = build_encoder("regnety_002_3d").eval()
        reference = encoder.build_reference()
    randomize(reference)
    state, shapes = reference.state_dict(), encoder.state_dict()
    deep = {key: inflate(state[key], tuple(shapes[key].shape), "average") for key in shapes}
    encoder.load_state_dict(deep, assign=True)
    image = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(2))
    volume = image.unsqueeze(2).expand(-1, -1, 129, -1, -1)
    expected: list[Tensor] = []
    reference.s1.register_forward_hook(lambda m, i, output: expected.append(output))
    with torch.no_grad():
        reference.forward_features(image)
        zeros = encoder.forward_stages(volume)[1]
        with encoder.set_depth_padding("replicate"):
            replicate = encoder.forward_stages(volume)[1]
    scale = expected[0].abs().max()
    middle = zeros.shape[2] // 2
    assert (zeros[:, :, middle] - expected[0]).abs().max() / scale > TOLERANCE
    assert (replicate[:, :, middle] - expected[0]).abs().max() / scale < TOLERANCE
