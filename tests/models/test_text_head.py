"""Text-driven heads: against one class after another, in every way that a network runs."""

import pytest
import torch
from torch.nn import functional as F

from voxgraft.errors import ModelError
from voxgraft.models.decoders import TextHead, build_segmentation
from voxgraft.sliding import Sliding, scores

CLASSES = 11


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def head(channels=32, deepest=48, classes=CLASSES):
    torch.manual_seed(3)
    made = TextHead(channels, deepest, draw(classes, 512, seed=5))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(draw(*parameter.shape, seed=7), alpha=0.05)
    return made


def network(**options):
    settings = {"decoder_width": 8, "seed": 1, "head": "text", "embeddings": draw(3, 512)}
    return build_segmentation("plain_resnet10_3d", 3, **{**settings, **options})


def one_after_another(made, x, deepest):
    """Each volume and each class alone, by grouped convolutions of one group."""
    state = dict(made.state_dict())
    reduced = F.group_norm(x, 16, state["precls_conv.0.weight"], state["precls_conv.0.bias"])
    reduced = F.conv3d(reduced.relu(), state["precls_conv.2.weight"], state["precls_conv.2.bias"])
    pooled = F.group_norm(deepest, 16, state["GAP.0.weight"], state["GAP.0.bias"])
    pooled = pooled.relu().mean(dim=(2, 3, 4), keepdim=True)
    pooled = F.conv3d(pooled, state["GAP.3.weight"], state["GAP.3.bias"])
    volumes = []
    for sample in range(len(x)):
        logits = []
        for embedding in state["organ_embedding"]:
            text = state["text_to_vision.weight"] @ embedding + state["text_to_vision.bias"]
            condition = torch.cat([pooled[sample].flatten(), text.relu()])
            numbers = state["controller.weight"].flatten(1) @ condition
            numbers = numbers + state["controller.bias"]
            out = reduced[sample : sample + 1]
            for layer, rows in enumerate((8, 8, 1)):
                kernel = numbers[64 * layer : 64 * layer + 8 * rows].view(rows, 8, 1, 1, 1)
                bias = numbers[136 + 8 * layer : 136 + 8 * layer + rows]
                out = F.conv3d(out, kernel, bias)
                out = out.relu() if layer < 2 else out
            logits.append(out)
        volumes.append(torch.cat(logits, dim=1))
    return torch.cat(volumes)


def test_names_and_shapes_are_those_of_the_published_files():
    found = {
        name: tuple(t.shape) for name, t in TextHead(64, 512, draw(32, 512)).state_dict().items()
    }
    assert found == {
        "organ_embedding": (32, 512),
        "precls_conv.0.weight": (64,),
        "precls_conv.0.bias": (64,),
        "precls_conv.2.weight": (8, 64, 1, 1, 1),
        "precls_conv.2.bias": (8,),
        "GAP.0.weight": (512,),
        "GAP.0.bias": (512,),
        "GAP.3.weight": (256, 512, 1, 1, 1),
        "GAP.3.bias": (256,),
        "controller.weight": (153, 512, 1, 1, 1),
        "controller.bias": (153,),
        "text_to_vision.weight": (256, 512),
        "text_to_vision.bias": (256,),
    }


def test_classes_at_once_are_classes_one_after_another():
    made, x, deepest = head(), draw(2, 32, 3, 4, 5), draw(2, 48, 2, 1, 1, seed=2)
    with torch.no_grad():
        expected = one_after_another(made, x, deepest)
        torch.testing.assert_close(made(x, deepest), expected, rtol=1e-4, atol=1e-4)
    assert expected.std(dim=1).min() > 0  # the classes differ


def test_gradients_are_those_of_one_class_after_another():
    made, x, deepest = head(), draw(1, 32, 2, 3, 4), draw(1, 48, 2, 1, 1, seed=2)
    weights = draw(1, CLASSES, 2, 3, 4, seed=9)
    x.requires_grad_()
    deepest.requires_grad_()
    (made(x, deepest) * weights).sum().backward()
    grown = [x.grad, deepest.grad]
    x.grad = deepest.grad = None
    (one_after_another(made, x, deepest) * weights).sum().backward()
    torch.testing.assert_close(grown, [x.grad, deepest.grad], rtol=1e-3, atol=1e-4)
    assert all(parameter.grad is not None for parameter in made.parameters())


@pytest.mark.parametrize("size", [(32, 32, 32), (17, 20, 33)])
def test_a_network_cuts_what_its_head_gives(size):
    net = network(deep_supervision=True).eval()
    x = draw(2, 1, *size)
    with torch.no_grad():
        out, levels = net(x), net.forward_levels(x)
        assert out.shape == (2, 3, *size)
        torch.testing.assert_close(levels[0], out)
        finest = net.forward_features(x)
        assert finest.shape[2:] == size
        if size == net.padded_size(size):
            deepest = net.encoder.forward_stages(net.prepare(x))[-1]
            torch.testing.assert_close(net.head(finest, deepest), out)
    assert [level.shape[1] for level in levels] == [3] * len(net.level_strides)


def test_windows_go_through_the_whole_network():
    # More classes than the decoder has channels: a plain head would run apart, on the mean map.
    net = build_segmentation(
        "plain_resnet10_3d", 12, decoder_width=8, head="text", embeddings=draw(12, 512), seed=1
    ).eval()
    x = draw(1, 24, 32, 32)
    window = Sliding(window_size=(24, 32, 32))
    with torch.no_grad():
        expected = net(x[None])[0]
        found = scores(net, x, window)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_swin_unetr_pools_its_map_after_the_residual_block():
    net = build_segmentation(
        "swin_unetr_12", 2, decoder="native", head="text", embeddings=draw(2, 512), seed=1,
    ).eval()  # fmt: skip
    stages: list[torch.Tensor] = [torch.empty(0)] * 4 + [draw(1, 192, 2, 1, 1)]
    with torch.no_grad():
        deepest = net._deepest(stages)
        torch.testing.assert_close(deepest, net.decoder.encoder10(stages[4]))
        assert net.head.GAP(deepest).shape == (1, 256, 1, 1, 1)


def test_other_classes_take_the_place_of_the_old():
    net = network().eval()
    other = draw(5, 512, seed=11)
    x = draw(1, 1, 32, 32, 32)
    with torch.no_grad():
        before = net(x)
        net.set_embeddings(torch.cat([net.head.organ_embedding[[2, 0]], other]))
        after = net(x)
    assert (net.outputs, net.head.outputs) == (7, 7)
    torch.testing.assert_close(after[:, :2], before[:, [2, 0]])
    with pytest.raises(ModelError, match="heads of coarser maps"):
        network(deep_supervision=True).set_embeddings(other)
    with pytest.raises(ModelError, match="plain head"):
        network(head="plain", embeddings=None).set_embeddings(other)


def test_a_network_learns_in_half_precision():
    net = network()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        net(draw(1, 1, 32, 32, 32)).float().square().mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in net.head.controller.parameters())


def test_plain_networks_keep_their_names():
    net = network(head="plain", embeddings=None)
    assert {name for name in net.state_dict() if name.startswith("head")} == {
        "head.weight",
        "head.bias",
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"embeddings": None}, "not given"),
        ({"head": "plain"}, "given"),
        ({"head": "spoken"}, "'spoken'"),
        ({"embeddings": draw(2, 512)}, "2 embeddings are given for 3 outputs"),
        ({"embeddings": draw(3, 256)}, r"\(3, 256\)"),
        ({"embeddings": torch.ones(3, 512).int()}, "int32"),
        ({"embeddings": torch.full((3, 512), torch.nan)}, r"rows \[0, 1, 2\]"),
    ],
)
def test_what_makes_no_head_is_refused(options, words):
    with pytest.raises(ModelError, match=words):
        network(**options)
