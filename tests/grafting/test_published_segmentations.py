"""SuPreM's files as they were published: a backbone inside of a class, a head made of names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from voxgraft.errors import GraftError
from voxgraft.grafting import graft_segmentation
from voxgraft.models import SegmentationNetwork, build_segmentation
from voxgraft.weights import SOURCES, LocalFile, Source

CLASSES = ("pancreas", "cyst", "spleen")


def _original() -> SegmentationNetwork:
    embeddings = torch.randn(32, 512, generator=torch.Generator().manual_seed(1))
    return build_segmentation(
        "genesis_unet", 32, decoder="native", head="text", embeddings=embeddings, seed=4
    )


@pytest.fixture
def suprem(tmp_path: Path) -> Source:
    """SuPreM's U-Net as its authors keep it, with other numbers."""
    entry = SOURCES.get("genesis_unet.suprem")
    state = {}
    for name, tensor in _original().state_dict().items():
        room, _, rest = name.partition(".")
        if room in ("encoder", "decoder"):
            state[f"module.backbone.{rest}"] = tensor
        elif room == "head":
            state[f"module.{rest}"] = tensor
    path = tmp_path / "supervised_suprem_unet_2100.pth"
    torch.save({"net": state, "optimizer": {}, "scheduler": {}, "epoch": 2100}, path)
    return replace(entry, file=LocalFile(path=str(path)))


def test_its_text_driven_head_segments_as_before(suprem: Source) -> None:
    state = torch.load(suprem.file.path, weights_only=True)["net"]  # type: ignore[union-attr]
    known = state["module.organ_embedding"]
    given = torch.stack([known[10], torch.zeros(512), known[0]])
    result = graft_segmentation(
        suprem, "genesis_unet", parts="all", classes=CLASSES, embeddings=given
    )
    assert result.report.coverage == 1.0
    assert result.filled == ("pancreas", "spleen")
    own = result.network.state_dict()
    for name in ("controller.weight", "text_to_vision.bias", "precls_conv.2.weight"):
        assert torch.equal(own[f"head.{name}"], state[f"module.{name}"])
    assert torch.equal(own["head.organ_embedding"], given)
    assert [v["name"] for v in result.report.fresh] == ["head.organ_embedding"]
    original = _original().eval()
    original.input_mean.fill_(0.0)
    original.input_sd.fill_(1.0)
    volume = torch.rand(1, 1, 16, 16, 16)
    turned = volume.permute(0, 1, 4, 3, 2) if result.model_options.get("axes") == "RAS" else volume
    with torch.no_grad():
        expected = original(turned)[:, [10, 0]]
        expected = expected.permute(0, 1, 4, 3, 2) if turned is not volume else expected
        found = result.network.eval()(volume)[:, [0, 2]]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert {v["name"]: v["because"] for v in result.report.dropped} == {
        "organ_embedding": "the Universal Model's embedding of organ names"
    }


def test_a_plain_head_after_it_is_fresh(suprem: Source) -> None:
    report = graft_segmentation(suprem, "genesis_unet", 3).report
    assert {v["name"] for v in report.fresh} == {"head.weight", "head.bias"}
    with pytest.raises(GraftError, match="no head that is a convolution"):
        graft_segmentation(suprem, "genesis_unet", parts="all", classes=CLASSES)
