"""torchvision's networks and timm's compute the same with the same weights, through the layout."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from voxgraft.errors import SourceError
from voxgraft.weights.convert import convert
from voxgraft.weights.layouts import KEY_LAYOUTS, key_layout

TOLERANCE = 1e-4

# torchvision's name of a network and timm's; all other sizes of a family have the same rules.
PAIRS = {
    "resnet18": "resnet18",
    "densenet121": "densenet121",
    "efficientnet_b0": "efficientnet_b0",
    "efficientnet_v2_s": "efficientnetv2_s",
    "convnext_tiny": "convnext_tiny",
    "mobilenet_v2": "mobilenetv2_100",
    "mobilenet_v3_small": "mobilenetv3_small_100",
    "mobilenet_v3_large": "mobilenetv3_large_100",
    "regnet_x_400mf": "regnetx_004_tv",
    "regnet_y_800mf": "regnety_008_tv",
    "vit_b_32": "vit_base_patch32_224",
    "swin_t": "swin_tiny_patch4_window7_224",
}


def _uneven(network: nn.Module) -> None:
    """Make statistics, scales and zeros of a fresh network as uneven as trained ones."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            nn.init.normal_(module.running_mean, 0, 0.2)
            nn.init.uniform_(module.running_var, 0.01, 1.0)
    for name, parameter in network.named_parameters():
        if "layer_scale" in name:
            nn.init.uniform_(parameter, 0.1, 1.0)
        elif not parameter.any():
            nn.init.normal_(parameter, 0, 0.1)


def _networks(name: str) -> tuple[nn.Module, nn.Module, int]:
    """Return torchvision's network, timm's, and a size of image that both take."""
    if name == "vit_b_32":
        theirs = torchvision.models.VisionTransformer(64, 32, 2, 3, 96, 192, num_classes=10)
        ours = timm.models.VisionTransformer(
            64, 32, depth=2, num_heads=3, embed_dim=96, mlp_ratio=2, num_classes=10
        )
        return theirs.eval(), ours.eval(), 64
    theirs = getattr(torchvision.models, name)(weights=None, num_classes=10)
    ours = timm.create_model(PAIRS[name], num_classes=10)
    return theirs.eval(), ours.eval(), 224 if name == "swin_t" else 64


@pytest.mark.parametrize("name", PAIRS)
def test_both_networks_compute_the_same(name: str) -> None:
    torch.manual_seed(3)
    theirs, ours, size = _networks(name)
    theirs, ours = theirs.double(), ours.double()
    _uneven(theirs)
    state = theirs.state_dict()
    own = ours.state_dict()
    shapes = {key: tuple(tensor.shape) for key, tensor in own.items()}
    converted = convert(state, shapes, KEY_LAYOUTS["torchvision"](PAIRS[name]))
    assert not [v for v in converted.report.fresh if "num_batches" not in v["name"]]
    ours.load_state_dict({**own, **converted.state}, strict=True)
    image = torch.randn(1, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        expected, found = theirs(image), ours(image)
    assert expected.std() > 1e-3
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()
    plain = name in ("resnet18", "densenet121")
    assert key_layout(state.keys()) == ("timm" if plain else "torchvision")


def test_the_published_densenet_files_have_older_names() -> None:
    """``norm.1`` for ``norm1``: torchvision renames them when it loads its own files."""
    with torch.device("meta"):
        state = torchvision.models.densenet121(weights=None).state_dict()
        own = timm.create_model("densenet121").state_dict()
    published = {
        name.replace(".norm1.", ".norm.1.")
        .replace(".norm2.", ".norm.2.")
        .replace(".conv1.", ".conv.1.")
        .replace(".conv2.", ".conv.2."): tensor
        for name, tensor in state.items()
    }
    assert key_layout(published.keys()) == "torchvision"
    assert _renamed(published, "densenet121") == list(own)


def test_the_published_vit_files_may_have_older_names() -> None:
    with torch.device("meta"):
        state = torchvision.models.vit_b_32(weights=None).state_dict()
        own = timm.create_model("vit_base_patch32_224").state_dict()
    published = {
        name.replace(".mlp.0.", ".mlp.linear_1.").replace(".mlp.3.", ".mlp.linear_2."): tensor
        for name, tensor in state.items()
    }
    assert published.keys() != state.keys()
    assert sorted(_renamed(published, "vit_base_patch32_224")) == sorted(own)


def _renamed(state: dict[str, Tensor], architecture: str) -> list[str]:
    names = []
    for name in state:
        for rule in KEY_LAYOUTS["torchvision"](architecture):
            name = rule.rename(name) if hasattr(rule, "rename") else name
        names.append(name)
    return names


def test_radimagenet_names_the_networks_children_by_number() -> None:
    for name in ("resnet50", "densenet121"):
        with torch.device("meta"):
            network = getattr(torchvision.models, name)(weights=None)
            own = list(timm.create_model(name, num_classes=0).state_dict())
            children = nn.Sequential(*list(network.children())[:-1])
        published = [f"backbone.{key}" for key in children.state_dict()]
        assert key_layout(published) == "radimagenet"
        found = []
        for key in published:
            for rule in KEY_LAYOUTS["radimagenet"](name):
                key = rule.rename(key)
            found.append(key)
        assert found == own


def test_other_networks_are_refused() -> None:
    with pytest.raises(SourceError, match=r"knows resnet, .*, not 'inception_v3'"):
        KEY_LAYOUTS["torchvision"]("inception_v3")
