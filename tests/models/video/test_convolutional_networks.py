"""Convolutional video networks against torchvision's and PyTorchVideo's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from voxgraft.errors import ModelError
from voxgraft.models import MODELS, Encoder, build_encoder
from voxgraft.models.video.entries_convolutional import ENTRIES
from voxgraft.models.video.slowfast import SlowFast

NAMES = [entry.name for entry in ENTRIES]
ELSEWHERE = ("ircsn_r50", "ircsn_r152", "ipcsn_r152", "inception_i3d")
"""Networks with tests of their own (test_openmmlab_networks.py, test_inception_i3d.py)."""
TOLERANCE = 1e-4
SMALL = (
    "slow_r50",
    "slow_r101",
    "c2d_r50",
    "i3d_r50",
    "slowfast_r50",
    "slowfast_4x16_r50",
    "slowfast_16x8_r101_50_50",
)
"""Networks whose original can be built with two blocks a stage."""


@pytest.fixture(scope="module")
def built(request) -> Encoder:
    """Build a network for three channels, without memory for its weights."""
    with torch.device("meta"):
        return build_encoder(request.param, in_channels=3).eval()


KINDS = (
    "mc3_18",
    "s3d",
    "slow_r50",
    "c2d_r50",
    "r2plus1d_r50",
    "csn_r101",
    "slowfast_r50",
    "slowfast_4x16_r50",
    "x3d_m",
    "hara_resnet18_3d",
    "inception_i3d",
)
"""The smallest size follows from a network's kind, not from its depth."""

every_network = pytest.mark.parametrize("built", NAMES, indirect=True, scope="module")
every_kind = pytest.mark.parametrize("built", KINDS, indirect=True, scope="module")


def _volume(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(3))


def _small(name: str) -> Encoder:
    """Build one of PyTorchVideo's networks with two blocks a stage."""
    build = MODELS.get(name).build
    plan = replace(build.args[0], blocks=(2, 2, 2, 2))  # type: ignore[attr-defined]
    return build.func(plan, in_channels=3)  # type: ignore[attr-defined]


def _pair(
    reference: Callable[[], nn.Module], build: Callable[[], Encoder], filled: Callable
) -> tuple[nn.Module, Encoder]:
    with torch.device("meta"):
        original, encoder = reference(), build()
    state = filled(original).state_dict()
    head = f"{encoder.declaration.head}."
    own = {name: tensor for name, tensor in state.items() if not name.startswith(head)}
    encoder.load_state_dict(own, strict=True, assign=True)
    return original, encoder.eval()


class _FittingWindows(nn.Module):
    """Average pooling over windows that are no larger than the map."""

    def __init__(self, window: tuple[int, ...]) -> None:
        super().__init__()
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        fitting = [min(n, size) for n, size in zip(self.window, x.shape[2:], strict=True)]
        return nn.functional.avg_pool3d(x, fitting, stride=1)


def _let_windows_fit(network: nn.Module) -> None:
    """Shrink pooling over windows of the native size, which small volumes do not have."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.AvgPool3d):
                assert child.stride in (1, (1, 1, 1))
                setattr(module, name, _FittingWindows(child.kernel_size))


def _original_input(encoder: Encoder, volume: Tensor) -> Tensor | list[Tensor]:
    """Feed two pathways as PyTorchVideo's PackPathway does."""
    if not isinstance(encoder, SlowFast):
        return volume
    depth = volume.shape[2]
    slices = torch.linspace(0, depth - 1, depth // encoder.step).long()
    return [volume.index_select(2, slices), volume]


def _mean_of_windows(given: Tensor) -> Tensor:
    """Return what a linear classifier's mean over the windows is that of, channels last."""
    if given.ndim == 5 and given.shape[1:4] != (1, 1, 1) and given.shape[2:] != (1, 1, 1):
        return given.mean((1, 2, 3))
    return given.flatten(1)


def _run(original: nn.Module, encoder: Encoder, volume: Tensor) -> dict[str, Tensor]:
    """Return the original's maps by module name, and what its classifier takes as "vector"."""
    kept: dict[str, Tensor] = {}
    handles = [
        module.register_forward_hook(
            lambda _, __, out, name=name: (
                kept.__setitem__(name, out.clone()) if isinstance(out, Tensor) else None
            )
        )
        for name, module in original.named_modules()
    ]
    classifier = original.get_submodule(encoder.declaration.head)
    handles.append(
        classifier.register_forward_pre_hook(
            lambda _, given: kept.__setitem__("vector", _mean_of_windows(given[0]))
        )
    )
    with torch.no_grad():
        original(_original_input(encoder, volume))
    for handle in handles:
        handle.remove()
    return kept


def _assert_equal(found: Tensor, expected: Tensor, what: str) -> None:
    assert found.shape == expected.shape, what
    scale = expected.abs().max()
    assert 1e-3 < scale < 1e6, f"{what} is trivial"
    error = float((found - expected).abs().max() / scale)
    assert error < TOLERANCE, f"{what} differs by {error:.1e}"


def _original_stages(encoder: Encoder, kept: dict[str, Tensor]) -> list[Tensor]:
    family = encoder.declaration.family
    if family == "slowfast":
        assert isinstance(encoder, SlowFast)
        stages = []
        for block in range(5):
            part = ".activation" if block == 0 else ""
            slow, fast = (
                kept[f"blocks.{block}.multipathway_blocks.{pathway}{part}"] for pathway in (0, 1)
            )
            groups = fast.unflatten(2, (-1, encoder.step))
            stages.append(torch.cat([slow, groups.mean(3)], 1))
        return stages
    if family == "s3d":
        return [kept[f"features.{number}"] for number in (0, 3, 6, 12, 15)]
    if "layer1" in kept:
        stem = "act" if family == "hara_resnet" else "stem"
        return [kept[name] for name in (stem, "layer1", "layer2", "layer3", "layer4")]
    numbers = [n for n in range(1, 6) if kept.get(f"blocks.{n}.res_blocks.0") is not None]
    return [kept["blocks.0.activation"], *(kept[f"blocks.{number}"] for number in numbers)]


def _assert_same(original: nn.Module, encoder: Encoder, volume: Tensor) -> None:
    kept = _run(original, encoder, volume)
    with torch.no_grad():
        stages = encoder.forward_stages(volume)
        features = encoder.forward_features(volume)
        vector = encoder(volume)
        pooled = encoder.pool(features)
    expected = _original_stages(encoder, kept)
    assert len(stages) == len(expected)
    for index, (found, wanted) in enumerate(zip(stages, expected, strict=True)):
        _assert_equal(found, wanted, f"stage {index}")
    last = kept.get("blocks.5.pool.pre_act", expected[-1])
    _assert_equal(features, last, "the final feature map")
    _assert_equal(vector, kept["vector"].flatten(1), "the feature vector")
    _assert_equal(pooled, vector, "the pooled feature map")


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_equal_pytorchvideos(name, references, two_blocks_a_stage, filled) -> None:
    original, encoder = _pair(references[name], lambda: _small(name), filled)
    _let_windows_fit(original)
    _assert_same(original, encoder, _volume(2, 3, 16, 40, 36))


@pytest.mark.parametrize(
    "name", ["r3d_18", "mc3_18", "r2plus1d_18", "r2plus1d_34", "hara_resnet18_3d"]
)
def test_networks_equal_torchvisions_and_monais(name, references, filled) -> None:
    original, encoder = _pair(references[name], lambda: build_encoder(name, in_channels=3), filled)
    _assert_same(original, encoder, _volume(2, 3, 9, 27, 33))


@pytest.mark.parametrize("name", ["slow_r50", "r2plus1d_r50", "csn_r101", "x3d_m"])
def test_whole_networks_equal_pytorchvideos(name, references, filled) -> None:
    original, encoder = _pair(references[name], lambda: build_encoder(name, in_channels=3), filled)
    _let_windows_fit(original)
    _assert_same(original, encoder, _volume(1, 3, 8, 33, 40))


def _assert_same_vector(original: nn.Module, encoder: Encoder, volume: Tensor) -> None:
    expected = _run(original, encoder, volume)["vector"].flatten(1)
    with torch.no_grad():
        _assert_equal(encoder(volume), expected, "the feature vector")


@pytest.mark.parametrize(("name", "size"), [("s3d", (13, 209, 209)), ("x3d_xs", (4, 160, 160))])
def test_at_their_native_size_untouched_originals_are_equal(name, size, references, filled) -> None:
    original, encoder = _pair(references[name], lambda: build_encoder(name, in_channels=3), filled)
    _assert_same_vector(original, encoder, _volume(1, 3, *size))


def test_s3ds_stages_equal_torchvisions(references, filled) -> None:
    original, encoder = _pair(
        references["s3d"], lambda: build_encoder("s3d", in_channels=3), filled
    )
    _let_windows_fit(original)
    _assert_same(original, encoder, _volume(1, 3, 9, 40, 36))


def test_a_network_of_windows_at_its_native_size(references, two_blocks_a_stage, filled) -> None:
    original, encoder = _pair(references["c2d_r50"], lambda: _small("c2d_r50"), filled)
    _assert_same_vector(original, encoder, _volume(1, 3, 8, 193, 193))


@pytest.mark.parametrize(
    "built", [name for name in NAMES if name not in ELSEWHERE], indirect=True, scope="module"
)
def test_tensors_are_those_of_the_original_in_their_order(built, references, request) -> None:
    name = request.node.callspec.params["built"]
    with torch.device("meta"):
        original = references[name]()
    head = f"{built.declaration.head}."
    theirs = [(n, t.shape) for n, t in original.state_dict().items() if not n.startswith(head)]
    assert [(n, t.shape) for n, t in built.state_dict().items()] == theirs
    assert len(theirs) < len(original.state_dict())


@every_network
def test_the_declaration_is_true(built, request) -> None:
    entry = MODELS.get(request.node.callspec.params["built"])
    facts = built.declaration
    volume = torch.empty(2, 3, *facts.preferred_size, device="meta")
    with torch.no_grad():
        stages = built.forward_stages(volume)
        # The last stage is the final map, but for X3D's last convolution, which is of no stage.
        features = built.forward_features(volume) if facts.family == "x3d" else stages[-1]
        vector = built.pool(features)
    assert (facts.family, facts.native, facts.reference, facts.twin_of) == (
        entry.family,
        "video",
        entry.reference,
        entry.twin_of,
    )
    assert entry.native == "video"
    state = built.state_dict()
    takers = {key for key, tensor in state.items() if tensor.ndim == 5 and tensor.shape[1] == 3}
    assert facts.stems == takers
    assert tuple(stage.shape[1] for stage in stages) == facts.feature_channels
    found = [
        tuple(volume.shape[axis] // stage.shape[axis] for axis in (2, 3, 4)) for stage in stages
    ]
    assert tuple(found) == facts.strides
    assert tuple(vector.shape) == (2, facts.num_features)
    assert features.shape[2:] == stages[-1].shape[2:] == (3, 3, 3)


@every_kind
def test_any_size_runs(built) -> None:
    with torch.no_grad():
        vector = built(torch.empty(1, 3, 33, 17, 45, device="meta"))
    assert vector.shape == (1, built.declaration.num_features)


@every_kind
def test_min_size_is_the_smallest_that_runs(built, monkeypatch) -> None:
    smallest = built.declaration.min_size
    with torch.no_grad():
        vector = built(torch.empty(1, 3, *smallest, device="meta"))
    assert vector.shape == (1, built.declaration.num_features)
    for axis in (axis for axis in range(3) if smallest[axis] > 1):
        size = list(smallest)
        size[axis] -= 1
        volume = torch.empty(1, 3, *size, device="meta")
        with pytest.raises(ModelError, match=r"needs at least \("):
            built(volume)
        monkeypatch.setattr(built, "check_input", lambda x: None)
        with pytest.raises(RuntimeError):
            built(volume)
        monkeypatch.undo()


@pytest.mark.parametrize("name", ["slowfast_r50", "x3d_xs"])
def test_gradient_checkpointing_changes_no_gradient(name) -> None:
    encoder = _small(name) if name == "slowfast_r50" else build_encoder(name, in_channels=3)
    volume = _volume(2, 3, 5, 40, 40)
    statistics = {n: t.clone() for n, t in encoder.named_buffers()}
    gradients, buffers = [], []
    for on in (False, True):
        encoder.load_state_dict({**encoder.state_dict(), **statistics})
        encoder.set_gradient_checkpointing(on)
        encoder.zero_grad()
        encoder(volume).square().sum().backward()
        gradients.append([p.grad.clone() for p in encoder.parameters() if p.grad is not None])
        buffers.append({n: t.clone() for n, t in encoder.named_buffers()})
    assert len(gradients[0]) == len(list(encoder.parameters()))
    for plain, checked in zip(*gradients, strict=True):
        torch.testing.assert_close(checked, plain, rtol=1e-4, atol=1e-6)
    for key, buffer in buffers[0].items():
        torch.testing.assert_close(buffers[1][key], buffer)


def test_every_block_but_the_pooling_is_checkpointed(monkeypatch) -> None:
    for name in ("slowfast_r50", "x3d_xs", "mc3_18"):
        with torch.device("meta"), torch.no_grad():
            encoder = build_encoder(name).eval()
            ran: list[str] = []
            run = encoder.run_block
            monkeypatch.setattr(
                encoder,
                "run_block",
                lambda n, b, *x, ran=ran, run=run: (ran.append(n), run(n, b, *x))[1],
            )
            encoder(torch.empty(1, 1, 4, 32, 32))
        owners = {key.rpartition(".")[0] for key in encoder.state_dict()}
        assert all(any(f"{o}.".startswith(f"{n}.") for n in ran) for o in owners)


def test_the_same_seed_gives_the_same_weights() -> None:
    for name in ("x3d_xs", "mc3_18"):
        first, again = (build_encoder(name, seed=5) for _ in range(2))
        other = build_encoder(name, seed=6)
        assert all(
            torch.equal(a, b)
            for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True)
        )
        stem = first.declaration.stem
        assert not torch.equal(first.state_dict()[stem], other.state_dict()[stem])


def test_new_networks_begin_with_residuals_of_zero_as_pytorchvideos() -> None:
    network = build_encoder("x3d_xs", seed=1)
    last = [t for n, t in network.named_parameters() if n.endswith("norm_c.weight")]
    assert len(last) == sum((3, 5, 11, 7))
    assert all(not tensor.any() for tensor in last)
    with torch.no_grad():
        assert network.eval()(_volume(1, 1, 4, 40, 40)).std() > 0


def test_wrong_inputs_end_in_words() -> None:
    with torch.device("meta"):
        encoder = build_encoder("slowfast_r50", in_channels=2)
        for shape in ((1, 3, 8, 32, 32), (2, 8, 32, 32)):
            with pytest.raises(ModelError, match=r"expected \(batch, 2, depth, height, width\)"):
                encoder(torch.empty(shape))
            with pytest.raises(ModelError, match="Add the missing axes"):
                encoder.forward_stages(torch.empty(shape))
    for name in ("r3d_18", "slow_r50", "slowfast_r50", "x3d_s"):
        with pytest.raises(ModelError, match="in_channels is 0; expected a whole number"):
            build_encoder(name, in_channels=0)
    with pytest.raises(ModelError, match="r3d_18 has no option 'depth_padding'; it takes seed"):
        build_encoder("r3d_18", depth_padding="zeros")


def test_a_single_value_a_channel_is_refused_in_training() -> None:
    for name in ("slowfast_r50", "slow_r50"):
        with pytest.raises(ModelError, match="was given one value a channel to normalize"):
            _small(name).train()(_volume(1, 3, 1, 16, 16))
