"""Running statistics find exchanged weights that no comparison of copies can see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from voxgraft.errors import FetchError, GraftError
from voxgraft.grafting import Graft, check_statistics, graft
from voxgraft.grafting.statistics import natural_noise
from voxgraft.weights import SOURCES, fetch_source, read_state_dict

LITE0 = "efficientnet_lite0.tf_in1k"
MODEL = "tf_efficientnet_lite0_3d"


@pytest.fixture(scope="module")
def lite0() -> Graft:
    try:
        fetch_source(SOURCES.get(LITE0))
    except FetchError as fault:
        pytest.skip(str(fault))
    return graft(LITE0, MODEL, check_parity=False)


def test_real_weights_agree(lite0: Graft) -> None:
    training = lite0.encoder.training
    found = check_statistics(lite0, strict=True)
    assert found.conclusive
    assert not found.faults
    assert len(found.layers) > 40
    assert sum(layer.best > 0.5 for layer in found.layers) > 30
    assert "layers agree with natural-like input" in found.sentence()
    assert lite0.encoder.training is training


def test_two_exchanged_kernels_of_one_shape_are_found(tmp_path: Path, lite0: Graft) -> None:
    """In a file of unknown origin: parity with timm's network, loaded from it too, holds."""
    state = read_state_dict(fetch_source(SOURCES.get(LITE0)))
    names = ["_blocks.9._expand_conv.weight", "_blocks.10._expand_conv.weight"]
    state[names[0]], state[names[1]] = state[names[1]], state[names[0]]
    # Changed a little everywhere: no longer a copy of the published values.
    state = {n: t * (1 + 1e-6) if t.is_floating_point() else t for n, t in state.items()}
    save_file({n: t.contiguous() for n, t in state.items()}, tmp_path / "theirs.safetensors")
    grafted = graft(f"timm:tf_efficientnet_lite0@{tmp_path / 'theirs.safetensors'}", MODEL)
    assert grafted.report.parity.relative_error is not None
    found = check_statistics(grafted)
    assert found.disagreeing == ("blocks.4.1.bn1", "blocks.4.2.bn1")
    with pytest.raises(GraftError, match=r"gross disagreement.*blocks\.4\.1\.bn1: mean and var"):
        check_statistics(grafted, strict=True)


def test_a_square_kernel_turned_in_its_plane_is_admitted_as_unseen(lite0: Graft) -> None:
    """Photographs, turned, are photographs: the statistics hardly change, and the text says so."""
    kernel = lite0.encoder.get_parameter("blocks.2.1.conv_dw.weight")
    before = kernel.detach().clone()
    try:
        with torch.no_grad():
            kernel.copy_(before.transpose(-1, -2))
        found = check_statistics(lite0)
    finally:
        with torch.no_grad():
            kernel.copy_(before)
    assert not found.faults
    assert "transposed in its plane alone cannot be seen" in found.sentence()


def test_exchanged_channels_of_a_square_kernel_are_found(tmp_path: Path) -> None:
    """A network whose statistics were gathered with other pictures of the same kind."""
    torch.manual_seed(4)
    network = timm.create_model("resnet18", num_classes=0).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    with torch.no_grad():
        for seed in (1, 2, 3):
            pictures = natural_noise((1, 96, 96), flat=True, seed=seed)[:, :, 0]
            network(pictures.expand(-1, 3, -1, -1))
    state = dict(network.state_dict())
    save_file(state, tmp_path / "right.safetensors")
    right = check_statistics(
        graft(f"timm:resnet18@{tmp_path / 'right.safetensors'}", "resnet18_3d")
    )
    assert right.conclusive
    assert not right.faults
    state["layer2.1.conv1.weight"] = state["layer2.1.conv1.weight"].transpose(0, 1).contiguous()
    save_file(state, tmp_path / "wrong.safetensors")
    wrong = graft(f"timm:resnet18@{tmp_path / 'wrong.safetensors'}", "resnet18_3d")
    found = check_statistics(wrong)
    assert found.exchanged == ("layer2.1.conv1",)
    assert "input and output channels exchanged" in found.sentence()


def test_networks_without_running_statistics_say_nothing(lite0: Graft) -> None:
    plain = graft(LITE0, MODEL, norm="group", check_parity=False)
    assert "nothing to compare" in check_statistics(plain).sentence()
    assert not check_statistics(replace(plain, input_mean=(0.0,))).conclusive


def test_noise_falls_with_the_frequency() -> None:
    noise = natural_noise((1, 64, 64), flat=True)[:, 0, 0]
    power = torch.fft.fft2(noise).abs().square().mean(0)
    octaves = [float(power[:1, k : 2 * k].sum()) for k in (2, 4, 8)]
    assert octaves[0] > octaves[1] > octaves[2]
    assert abs(float(noise.std()) - 1.0) < 0.25
    volume = natural_noise((16, 16, 16), flat=False)
    assert volume.shape == (2, 1, 16, 16, 16)
    assert torch.equal(volume, natural_noise((16, 16, 16), flat=False))
