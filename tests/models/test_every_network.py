"""Every convolutional twin, and every plain ResNet, is what it declares; twins equal timm's.

Networks of the other rooms (tokens, video, volumetric, slicewise) have tests of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from voxgraft.models import MODELS, Encoder, build_encoder
from voxgraft.models.catalog import PLAIN, TWINS

TOLERANCE = 1e-4  # relative to the largest feature; issue 2, "It must show" 2
SIZE = 32  # px


@dataclass
class Built:
    name: str
    encoder: Encoder
    """Without memory for its weights."""


every_network = pytest.mark.parametrize("built", [*TWINS, *PLAIN], indirect=True, scope="module")
every_twin = pytest.mark.parametrize("built", TWINS, indirect=True, scope="module")


@pytest.fixture(scope="module")
def built(request) -> Built:
    with torch.device("meta"):
        return Built(request.param, build_encoder(request.param).eval())


@dataclass
class Pair:
    encoder: Encoder
    state: dict[str, Tensor]
    image: Tensor
    stages: list[Tensor]
    features: Tensor
    pooled: Tensor


@pytest.fixture(scope="module")
def pair(built, randomize) -> Pair:
    encoder = built.encoder
    with torch.device("meta"):
        reference = encoder.build_reference()
    randomize(reference)
    image = torch.randn(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    stages: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        stages.append(output)

    handles = [
        reference.get_submodule(info["module"]).register_forward_hook(note)
        for info in reference.feature_info
    ]
    with torch.no_grad():
        features = reference.forward_features(image)
        for handle in handles:
            handle.remove()
        pooled = reference(image)
    return Pair(encoder, reference.state_dict(), image, stages, features, pooled)


def assert_equal_in_every_slice(found: Tensor, expected: Tensor, what: str) -> None:
    scale = expected.abs().max()
    assert scale > 1e-3, f"{what} is trivial"
    if found.ndim == 5:
        expected = expected.unsqueeze(2)
    error = ((found - expected).abs().max() / scale).item()
    assert error < TOLERANCE, f"{what} differs by {error:.1e}"


@every_twin
@pytest.mark.parametrize("method", ["center", "average"])
def test_inflation_identity(pair, inflate, method) -> None:
    """On a volume constant along depth, every slice has the 2D network's features.

    With zeros beyond the border slices for "center", with these slices repeated for "average".
    """
    encoder = pair.encoder
    shapes = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    state = {name: inflate(pair.state[name], shape, method) for name, shape in shapes.items()}
    encoder.load_state_dict(state, assign=True)
    depth = max(9, encoder.declaration.min_size[0])
    volume = pair.image.unsqueeze(2).expand(-1, -1, depth, -1, -1)
    mode = "zeros" if method == "center" else "replicate"
    with torch.no_grad(), encoder.set_depth_padding(mode):
        stages = encoder.forward_stages(volume)
        features = encoder.forward_features(volume)
        pooled = encoder.pool(features)
    assert len(stages) == len(pair.stages)
    for index, (found, expected) in enumerate(zip(stages, pair.stages, strict=True)):
        assert_equal_in_every_slice(found, expected, f"stage {index}")
    assert_equal_in_every_slice(features, pair.features, "the final feature map")
    assert_equal_in_every_slice(pooled, pair.pooled, "the feature vector")


@every_twin
def test_a_twin_has_the_tensors_of_its_original_in_their_order(pair) -> None:
    twin = pair.encoder.state_dict()
    assert list(twin) == list(pair.state)
    for key, tensor in pair.state.items():
        shape = tuple(tensor.shape)
        deep = (*shape[:2], twin[key].shape[2], *shape[2:]) if tensor.ndim == 4 else shape
        assert tuple(twin[key].shape) == deep, key


@every_network
def test_the_declaration_is_true(built) -> None:
    with torch.device("meta"):
        encoder, entry = built.encoder.to("meta"), MODELS.get(built.name)
        facts = encoder.declaration
        size = facts.preferred_size
        volume = torch.empty(2, 1, *size)
        stages, features = [], volume
        with torch.no_grad():
            for path in encoder._trunk:
                features = encoder.get_submodule(path)(features)
                if path in encoder._taps:
                    stages.append(features)
            pooled = encoder.pool(features)
    assert (facts.family, facts.twin_of) == (entry.family, entry.twin_of)
    first = next(name for name, m in encoder.named_modules() if isinstance(m, nn.Conv3d))
    assert facts.stem == f"{first}.weight"
    assert not any(key.startswith(f"{facts.head}.") for key in encoder.state_dict())
    assert tuple(stage.shape[1] for stage in stages) == facts.feature_channels
    reductions = [[size[axis] // stage.shape[axis + 2] for axis in range(3)] for stage in stages]
    assert tuple(map(tuple, reductions)) == facts.strides
    assert tuple(pooled.shape) == (2, facts.num_features)
    assert features.shape[2:] == stages[-1].shape[2:] == (3, 3, 3)


# The smallest size follows from the family and its kinds of pooling, not from width and depth.
KINDS = [
    "resnet18",
    "resnet18d",
    "seresnet50",
    "densenet121",
    "densenet201",
    "mobilenetv2",
    "mobilenetv3_small",
    "efficientnet_lite0",
    "tf_efficientnet_lite0",
    "tf_efficientnetv2_s",
    "convnext_atto",
    "convnextv2_atto",
    "regnetx_002",
    "plain_resnet10",
    "plain_resnet50",
]


@pytest.mark.parametrize("built", [f"{k}_3d" for k in KINDS], indirect=True, scope="module")
def test_min_size_is_the_smallest_that_runs(built) -> None:
    encoder = built.encoder.to("meta")
    smallest = encoder.declaration.min_size
    with torch.no_grad():
        encoder(torch.empty(1, 1, *smallest, device="meta"))
    for axis in range(3):
        if smallest[axis] == 1:
            continue
        size = list(smallest)
        size[axis] -= 1
        with pytest.raises(RuntimeError):
            run_unchecked(encoder, torch.empty(1, 1, *size, device="meta"))


def run_unchecked(encoder: Encoder, x: Tensor) -> None:
    for name in encoder._trunk:
        x = encoder.get_submodule(name)(x)
