"""Files of torchvision's layout through the whole graft: names, axes, epsilon, hash."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from voxgraft.errors import SourceError
from voxgraft.files import file_sha256
from voxgraft.grafting import graft
from voxgraft.weights import SOURCES, LocalFile, inspect_file

ENTRY = "torchvision_mobilenet_v3_small.imagenet1k_v1"


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(1)
    network = torchvision.models.mobilenet_v3_small(weights=None).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.05, 1.0)
            nn.init.normal_(module.running_mean, 0, 0.1)
    return network


@pytest.fixture(scope="module")
def file(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("torchvision") / "mobilenet_v3_small.safetensors"
    save_file(network.state_dict(), path)
    return path


def test_the_twin_gives_torchvisions_own_features(network: nn.Module, file: Path) -> None:
    """Against torchvision itself, not timm's network with the same converted tensors."""
    source = replace(
        SOURCES.get(ENTRY),
        file=LocalFile(path=str(file)),
        sha256_begins=file_sha256(file)[:8],
    )
    result = graft(source, "mobilenetv3_small_3d", method="center", in_channels=3)
    assert result.report.coverage == 1.0
    assert result.report.origin.startswith("the file's SHA-256 begins with the published ")
    assert any("for another epsilon" in verdict["how"] for verdict in result.report.adapted)
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    encoder = result.encoder.eval()
    with torch.no_grad():
        expected = network.classifier[:2](network.avgpool(network.features(image)).flatten(1))
        found = encoder(image.unsqueeze(2).expand(-1, -1, 5, -1, -1))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_another_file_is_refused_by_the_published_beginning_of_the_hash(file: Path) -> None:
    source = replace(SOURCES.get(ENTRY), file=LocalFile(path=str(file)))
    with pytest.raises(SourceError, match=r"expected one that begins with 047dcff4"):
        graft(source, "mobilenetv3_small_3d")


def test_its_layout_is_recognised(file: Path) -> None:
    found = inspect_file(file)
    assert found["layout"] == "torchvision"
    assert found["likely"][0]["architecture"].endswith("mobilenetv3_small_100")
