"""2D networks on slices: what timm gives for each, laid back and joined."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from voxgraft.errors import ModelError
from voxgraft.models import MODELS, build_encoder, model_options
from voxgraft.models.slicewise.join import AttentionJoin, RecurrentJoin
from voxgraft.models.slicewise.slices import PLANES, lay_back, slice_positions, take_slices

NAMES = [name for name in MODELS.names() if name.startswith("slicewise_")]
VIT, CNN = "slicewise:vit_tiny_patch16_224", "slicewise:mobilenetv3_small_050"
VIEWS = {"axial": (0, 1, 2), "coronal": (1, 0, 2), "sagittal": (2, 0, 1)}


RUN = ["resnet18", "densenet121", "efficientnet_lite0", "mobilenetv3_large_100", "convnext_tiny",
       "regnety_008", "swin_tiny_patch4_window7_224", "vit_small_patch14_reg4_dinov2",
       "vit_small_patch16_dinov3"]  # fmt: skip


@pytest.mark.parametrize("name", RUN)
def test_the_declaration_is_true(name) -> None:
    with torch.device("meta"):
        encoder = build_encoder(f"slicewise_{name}").eval()
        facts = encoder.declaration
        size = facts.preferred_size
        stages = encoder.forward_stages(torch.empty(1, 1, *size))
        features = encoder.forward_features(torch.empty(1, 1, *size))
        assert encoder(torch.empty(1, 1, *facts.min_size)).shape == (1, facts.num_features)
    assert tuple(stage.shape[1] for stage in stages) == facts.feature_channels
    reductions = [[size[axis] // stage.shape[axis + 2] for axis in range(3)] for stage in stages]
    assert tuple(map(tuple, reductions)) == facts.strides
    assert features.shape[2:] == stages[-1].shape[2:] == (3, 3, 3)


@pytest.mark.parametrize("name", NAMES)
def test_the_tensors_are_timms(name) -> None:
    entry = MODELS.get(name)
    with torch.device("meta"):
        encoder = build_encoder(name)
    facts = encoder.declaration
    assert (facts.family, facts.twin_of, facts.reference) == (entry.family, None, entry.reference)
    assert f"slicewise_{facts.slices_of}" == name
    state = encoder.state_dict()
    assert facts.stem in state
    assert state[facts.stem].shape[1] == 1
    assert not any(key.startswith(f"{facts.head}.") for key in state)
    with torch.device("meta"):
        original = timm.create_model(facts.slices_of, in_chans=1, num_classes=0).state_dict()
    assert {f"network.{key}": tensor.shape for key, tensor in original.items()} == {
        key: tensor.shape for key, tensor in state.items()
    }


@pytest.mark.parametrize("planes", ["axial", "all"])
def test_a_convolutional_network_sees_every_slice(planes) -> None:
    encoder = build_encoder(CNN, planes=planes, in_channels=2, slice_stride=2, seed=0).eval()
    original = timm.create_model("mobilenetv3_small_050", in_chans=2, num_classes=0).eval()
    original.load_state_dict(encoder.network.state_dict())
    volume = torch.randn(2, 2, 5, 40, 36, generator=torch.Generator().manual_seed(0))
    vectors, maps = [], []
    with torch.no_grad():
        for plane in ("axial",) if planes == "axial" else PLANES:
            across, rows, columns = VIEWS[plane]
            turned = volume.permute(0, 1, *(axis + 2 for axis in (across, rows, columns)))
            count = turned.shape[2]
            chosen = list(range((count - 1) % 2 // 2, count, 2))
            found = [(original.forward_features(turned[:, :, i]), original(turned[:, :, i]))
                     for i in chosen]  # fmt: skip
            vectors.append(torch.stack([vector for _, vector in found]).mean(0))
            maps.append(torch.stack([image for image, _ in found], dim=2))
        slices = encoder.forward_slices(volume)
        pooled, features = encoder(volume), encoder.forward_features(volume)
    for expected, given_slices in zip(maps, slices, strict=True):
        torch.testing.assert_close(given_slices.maps.movedim(1, 2), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pooled, torch.stack(vectors).mean(0), rtol=1e-4, atol=1e-4)
    if planes == "axial":
        torch.testing.assert_close(features, maps[0], rtol=1e-4, atol=1e-4)
    else:
        assert features.shape[2:] == (1, 2, 2)


def test_a_transformer_sees_every_slice_of_any_size() -> None:
    encoder = build_encoder(VIT, join="max", seed=0).eval()
    original = timm.create_model(
        "vit_tiny_patch16_224", in_chans=1, num_classes=0, img_size=(48, 32)
    ).eval()
    state = encoder.network.state_dict()
    state["pos_embed"] = timm.layers.resample_abs_pos_embed(state["pos_embed"], [3, 2])
    original.load_state_dict(state)
    volume = torch.randn(1, 1, 3, 40, 32, generator=torch.Generator().manual_seed(0))
    padded = nn.functional.pad(volume, (0, 0, 0, 8))
    with torch.no_grad():
        tokens = torch.stack([original.forward_features(padded[:, :, i]) for i in range(3)])
        vectors = torch.stack([original(padded[:, :, i]) for i in range(3)])
        features, pooled = encoder.forward_features(volume), encoder(volume)
    grid = tokens[:, 0, 1:].reshape(3, 3, 2, 192).permute(3, 0, 1, 2)
    torch.testing.assert_close(features[0], grid, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(pooled, vectors.amax(0), rtol=1e-4, atol=1e-4)


def test_stages_of_a_transformer_are_its_quarters_normalized() -> None:
    encoder = build_encoder(VIT, seed=0).eval()
    volume = torch.randn(1, 1, 2, 32, 32)
    with torch.no_grad():
        stages = encoder.forward_stages(volume)
        features = encoder.forward_features(volume)
        tokens = encoder.network.patch_embed(volume[:, :, 0])
        tokens = encoder.network._pos_embed(tokens)
        for block in encoder.network.blocks[:3]:
            tokens = block(tokens)
        first = encoder.network.norm(tokens)[0, 1:].T.reshape(-1, 2, 2)
    assert [stage.shape[1:] for stage in stages] == [(192, 2, 2, 2)] * 4
    torch.testing.assert_close(stages[0][0, :, 0], first)
    torch.testing.assert_close(stages[-1], features)


@pytest.mark.parametrize(
    ("name", "join"),
    [(CNN, "mean"), (CNN, "max"), (CNN, "attention"), (CNN, "gru"), (VIT, "attention")],
)
def test_neither_portions_nor_other_volumes_change_features(name, join) -> None:
    encoder = build_encoder(name, join=join, planes="all", neighbors=1, seed=0).eval()
    volumes = torch.randn(2, 1, 5, 7, 34, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = encoder(volumes)
        encoder.pixels_at_once = 500
        portions = encoder(volumes)
        alone = torch.cat([encoder(volume[None]) for volume in volumes])
        other = encoder(torch.stack([volumes[0], 100 * volumes[1]]))
    scale = float(together.abs().max())
    torch.testing.assert_close(portions, together, rtol=1e-4, atol=1e-4 * scale)
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-4 * scale)
    torch.testing.assert_close(other[0], together[0], rtol=1e-4, atol=1e-4 * scale)
    assert not torch.allclose(together[0], together[1], atol=1e-3 * scale)


@pytest.mark.parametrize("name", [CNN, VIT])
def test_gradient_checkpointing_changes_nothing(name) -> None:
    encoder = build_encoder(name, join="attention", seed=0).train()
    volume = torch.randn(2, 1, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def step() -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        encoder.zero_grad()
        before = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
        vector = encoder(volume)
        vector.square().sum().backward()
        grads = {n: p.grad.clone() for n, p in encoder.named_parameters() if p.grad is not None}
        after = {key: tensor.clone() for key, tensor in encoder.state_dict().items()}
        encoder.load_state_dict(before)
        return vector.detach(), grads, after

    plain = step()
    encoder.set_gradient_checkpointing()
    again = step()
    torch.testing.assert_close(again[0], plain[0])
    assert len(plain[1]) == len(list(encoder.parameters()))
    largest = max(float(grad.abs().max()) for grad in plain[1].values())
    torch.testing.assert_close(again[1], plain[1], rtol=1e-3, atol=1e-5 * largest)
    torch.testing.assert_close(again[2], plain[2])


@settings(deadline=None)
@given(count=st.integers(1, 40), step=st.integers(1, 9))
def test_positions_of_slices(count, step) -> None:
    found = list(slice_positions(count, step))
    assert len(found) == math.ceil(count / step)
    assert 0 <= found[0] <= found[-1] < count
    assert abs(found[0] - (count - 1 - found[-1])) <= 1  # even about the middle


@settings(deadline=None)
@given(data=st.data())
def test_slices_and_their_neighbors(data) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 5)] * 3))
    neighbors, step = data.draw(st.integers(0, 3)), data.draw(st.integers(1, 3))
    plane = data.draw(st.sampled_from(PLANES))
    channels = data.draw(st.integers(1, 2))
    volume = torch.arange(channels * math.prod(shape)).view(1, channels, *shape).float()
    images = take_slices(volume, plane, step=step, neighbors=neighbors)
    axis = PLANES.index(plane)
    positions = slice_positions(shape[axis], step)
    assert images.shape[:3] == (1, len(positions), channels * (2 * neighbors + 1))
    for image, position in zip(images[0], positions, strict=True):
        for offset in range(-neighbors, neighbors + 1):
            near = min(max(position + offset, 0), shape[axis] - 1)
            start = (offset + neighbors) * channels
            expected = volume[0].select(axis + 1, near)
            assert torch.equal(image[start : start + channels], expected)
    if neighbors == 0 and step == 1:
        assert torch.equal(lay_back(images, plane), volume)


def test_gated_attention_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    join = AttentionJoin(6)
    bag = torch.randn(5, 6)
    join.requires_grad_(False)
    v, u, w = join.content, join.gate, join.score
    score = [float(w.weight @ (torch.tanh(v.weight @ h + v.bias)
                               * torch.sigmoid(u.weight @ h + u.bias)) + w.bias)
             for h in bag]  # fmt: skip
    share = [math.exp(s) / sum(map(math.exp, score)) for s in score]
    expected = sum(a * h for a, h in zip(share, bag, strict=True))
    torch.testing.assert_close(join(bag[None])[0], expected)
    torch.testing.assert_close(join.weights(bag[None])[0], torch.tensor(share))


def test_the_recurrent_join_reads_both_ways_and_minds_the_order() -> None:
    torch.manual_seed(0)
    join = RecurrentJoin(5)  # odd: three channels each way
    bag = torch.randn(1, 4, 5)
    assert join(bag).shape == (1, 6)
    forward = nn.GRU(5, 3, batch_first=True)
    forward.load_state_dict({k: v for k, v in join.gru.state_dict().items() if "reverse" not in k})
    torch.testing.assert_close(join(bag)[:, :3], forward(bag)[0].mean(1))
    assert not torch.allclose(join(bag), join(bag.flip(1)), atol=1e-3)


def test_what_cannot_be_built() -> None:
    with pytest.raises(ModelError, match=r"timm .* has no network called 'resnet19'"):
        build_encoder("slicewise:resnet19")
    for name in ("beit_base_patch16_224", "hiera_tiny_224"):
        with torch.device("meta"), pytest.raises(ModelError, match="takes images of its own size"):
            build_encoder(f"slicewise:{name}")
    with pytest.raises(ModelError, match="join is 'sum'; expected 'mean' or 'max' or"):
        build_encoder(CNN, join="sum")
    with pytest.raises(ModelError, match="planes is 'coronal'; expected 'axial' or 'all'"):
        build_encoder(CNN, planes="coronal")
    with pytest.raises(ModelError, match="neighbors is -1; expected a whole number of at least 0"):
        build_encoder(CNN, neighbors=-1)
    with pytest.raises(ModelError, match="slice_stride is 0"):
        build_encoder(CNN, slice_stride=0)
    with torch.device("meta"), pytest.raises(ModelError, match="vgg11 has no stochastic depth"):
        build_encoder("slicewise:vgg11", drop_path=0.1)
    with pytest.raises(ModelError, match="has no option 'depth_padding'; it takes"):
        build_encoder(CNN, depth_padding="zeros")
    assert "join" in model_options(VIT)
    encoder = build_encoder("slicewise:convnext_atto", seed=0)
    with pytest.raises(ModelError, match="this network needs at least \\(1, 32, 32\\)"):
        encoder(torch.zeros(1, 1, 4, 31, 40))


def test_seeds_give_the_same_network_and_leave_others_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one = build_encoder(CNN, join="gru", seed=3).state_dict()
    assert torch.equal(torch.rand(1), expected)
    two = build_encoder(CNN, join="gru", seed=3).state_dict()
    assert all(map(torch.equal, one.values(), two.values()))
