"""Networks whose weights install as packages: with the real weights, against the originals."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from voxgraft.errors import FetchError, ModelError
from voxgraft.models import MODELS, build_encoder
from voxgraft.packages import package_file
from voxgraft.weights import SOURCES, read_state_dict

NAMES = ("linknet_deepbet", "deepbrain_unet", "transnetv2")


def _file(source: str) -> Path:
    try:
        return package_file(SOURCES.get(source).file)  # type: ignore[arg-type]
    except FetchError as fault:
        pytest.skip(str(fault))


def _loaded(name: str, state: Mapping[str, Tensor], channels: int) -> nn.Module:
    encoder = build_encoder(name, in_channels=channels).eval()
    encoder.load_state_dict({key: state[key] for key in encoder.state_dict()}, strict=True)
    return encoder


@pytest.mark.parametrize("tag", ["brain_mask", "brain_box"])
def test_deepbet_computes_what_its_own_program_does(tag: str) -> None:
    path = _file(f"linknet_deepbet.{tag}")
    encoder = _loaded("linknet_deepbet", read_state_dict(path), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        program = torch.jit.load(str(path), map_location="cpu")
    volume = torch.randn(1, 1, 33, 40, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        activation = getattr(program.conv, "2")
        stages = [program.init(activation, volume)]
        for stage in (program.down0, program.down1, program.down2, program.down3):
            stages.append(stage(activation, stages[-1]))
        found = encoder.forward_stages(volume)
        pooled = encoder(volume)
    for ours, theirs in zip(found[1:], stages[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pooled, stages[-1].mean((2, 3, 4)), rtol=1e-5, atol=1e-5)


def test_transnet_computes_what_its_tensors_say() -> None:
    """A second implementation, straight from the file's tensors (section 2 of the paper)."""
    state = read_state_dict(_file("transnetv2.film_cuts"))
    encoder = _loaded("transnetv2", state, 3)
    clip = torch.rand(1, 3, 10, 27, 48, generator=torch.Generator().manual_seed(1))

    def block(x: Tensor, name: str) -> Tensor:
        parts = []
        for dilation in (1, 2, 4, 8):
            layers = f"{name}.Conv3D_{dilation}.layers"
            plane = functional.conv3d(x, state[f"{layers}.0.weight"], padding=(0, 1, 1))
            parts.append(
                functional.conv3d(
                    plane,
                    state[f"{layers}.1.weight"],
                    padding=(dilation, 0, 0),
                    dilation=(dilation, 1, 1),
                )
            )
        kept = [f"{name}.bn.{part}" for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(torch.cat(parts, 1), *(state[key] for key in kept), eps=1e-3)

    expected, x = [], clip
    with torch.no_grad():
        for stage in range(3):
            first = block(x, f"SDDCNN.{stage}.DDCNN.0").relu()
            x = block(first, f"SDDCNN.{stage}.DDCNN.1").relu() + first
            x = functional.avg_pool3d(x, (1, 2, 2))
            expected.append(x)
        found = encoder.forward_stages(clip)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_the_declaration_is_true(name: str) -> None:
    entry = MODELS.get(name)
    with torch.device("meta"):
        encoder = build_encoder(name, in_channels=2)
        facts = encoder.declaration
        volume = torch.empty(2, 2, *facts.preferred_size)
        stages, pooled = encoder.forward_stages(volume), encoder(volume)
        encoder.eval()(torch.empty(1, 2, *facts.min_size))
    assert (facts.family, facts.native, facts.reference) == (
        entry.family,
        entry.native,
        entry.reference,
    )
    assert tuple(stage.shape[1] for stage in stages) == facts.feature_channels
    for stage, stride in zip(stages, facts.strides, strict=True):
        expected = [size // step for size, step in zip(facts.preferred_size, stride, strict=True)]
        assert list(stage.shape[2:]) == expected
    assert pooled.shape == (2, facts.num_features)
    shapes = {key: tensor.shape for key, tensor in encoder.state_dict().items()}
    assert all(shapes[stem][1] == 2 for stem in facts.stems)
    takers = [key for key, shape in shapes.items() if len(shape) == 5 and shape[1] == 2]
    assert set(takers) == facts.stems


@pytest.mark.parametrize("name", NAMES)
def test_seeds_checkpointing_and_training(name: str) -> None:
    encoder, again = build_encoder(name, seed=3), build_encoder(name, seed=3)
    for ours, theirs in zip(encoder.parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    least = encoder.declaration.min_size
    volume = torch.randn(2, 1, *least, generator=torch.Generator().manual_seed(1))
    encoder(volume).square().sum().backward()
    again.set_gradient_checkpointing()
    again(volume).square().sum().backward()
    for ours, theirs in zip(encoder.parameters(), again.parameters(), strict=True):
        assert ours.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-4)
    with pytest.raises(ModelError, match="needs at least"):
        encoder(volume[..., :-1])
