"""Whole plans: what is decided, and what a start changes; every start keeps what it can."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses import FakeTensorMode

from voxgraft.datasets import Table
from voxgraft.errors import RecipeError, RegistryError, TableError
from voxgraft.grafting import find_source
from voxgraft.models import build_encoder, build_segmentation
from voxgraft.planning import SegmentationPlan, TrainedNetwork
from voxgraft.planning import plan as module
from voxgraft.planning.decoder import choose_decoder, decide_parts
from voxgraft.planning.start_decisions import about_network, start_size
from voxgraft.recipes import recipe_from_dict
from voxgraft.weights import SOURCES, Card, save_weights


class Counted:
    """Stands in for the fake steps, which take seconds; the network is a real one."""

    checkpoints, batchnorm, positions, parameters = True, False, False, 1_000_000
    turns = False

    def __init__(self, trained: TrainedNetwork) -> None:
        self.trained = trained
        self.network = trained.build()
        self.min_size, self.steps = (16, 16, 16), (8, 8, 8)

    def padded(self, size: Any) -> Any:
        return tuple(-(-max(n, 16) // 8) * 8 for n in size)

    def training_bytes(self, crop: Any, batch: int, **_: Any) -> int:
        return batch * crop[0] * crop[1] * crop[2] * 1000

    def inference_bytes(self, crop: Any, windows: int) -> int:
        return windows * crop[0] * crop[1] * crop[2] * 100


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setattr(module, "TrainingMemory", Counted)

    def make(table: Table, **given: Any) -> SegmentationPlan:
        given = {"memory_gib": 24, "cache": tmp_path / "cache", **given}
        return module.plan_segmentation(table, given.pop("classes", None), **given)

    return make


def said(found: SegmentationPlan, what: str) -> Any:
    return next(decision for decision in found.decisions if decision.what == what)


def test_from_scratch(two_cases: Table, plan: Any) -> None:
    found = plan(two_cases, model="segresnet_8")
    assert found.classes == ("block", "plate")
    assert found.spacing_mm == (4.0, 1.0, 1.0)  # the test case's 9 mm is not looked at
    assert (found.intensity.low, found.intensity.high) == (40.0, 100.0)
    assert said(found, "split").from_data.startswith("2 of 3 cases")
    assert not any(decision.differs for decision in found.decisions)
    assert found.crop_size_voxels == (16, 24, 24)
    assert (found.decoder.kind, found.flip_axes, found.precision) == ("native", ("width",), "bf16")
    assert (found.schedule.steps, found.schedule.learning_rate) == (2500, 1e-3)
    recipe = found.to_recipe("table.csv")
    assert recipe_from_dict(recipe.to_dict(), "here") == recipe


def test_a_start_goes_first_where_the_data_can_follow(two_cases: Table, plan: Any) -> None:
    found = plan(two_cases, source="segresnet_16.suprem")
    assert found.model == "segresnet_16"
    spacing = said(found, "spacing")
    assert spacing.differs
    assert "trained at 1.5 × 1.5 × 1.5 mm" in spacing.from_start
    assert found.schedule.learning_rate == 1e-4
    assert found.parts == "decoder"
    assert "knows none of the structures by name" in said(found, "parts").why
    assert said(found, "axes").from_start == "RAS"


def test_a_structure_that_the_starts_spacing_loses(made: Any, plan: Any) -> None:
    sheet = (slice(4, 8), slice(4, 7), slice(2, 22))
    made.add("a", {1: (sheet, 60.0)}, spacing=(0.5, 0.4, 0.4))
    found = plan(made.table(["sheet"]), source="segresnet_16.suprem")
    assert found.spacing_mm == (0.5, 0.4, 0.4)
    assert "the data cannot follow the start" in said(found, "spacing").why
    assert "sheet (0.8)" in said(found, "spacing").why


def test_a_window_that_blackens_a_structure_is_widened(made: Any, plan: Any) -> None:
    block = (slice(2, 6), slice(4, 14), slice(4, 12))
    made.add("a", {1: (block, -800.0)})
    found = plan(made.table(["block"]), source="segresnet_16.suprem")
    assert (found.intensity.low, found.intensity.high) == (-800.0, 250.0)
    assert "block (-800 HU)" in said(found, "intensity").why


def test_networks_in_no_list_are_planned_too(two_cases: Table, plan: Any) -> None:
    assert plan(two_cases, source="resnet10t.c3_in1k").model == "resnet10t_3d"
    with pytest.raises(RegistryError, match="no model is called 'segresnet_17'"):
        plan(two_cases, model="segresnet_17")


def test_what_cannot_be_planned(two_cases: Table, plan: Any) -> None:
    with pytest.raises(RecipeError, match="neither a network nor a start"):
        plan(two_cases)
    with pytest.raises(TableError, match="no case annotates 'spleen'; annotated are block, plate"):
        plan(two_cases, model="segresnet_8", classes=("spleen",))
    with pytest.raises(TableError, match="each once"):
        plan(two_cases, model="segresnet_8", classes=("block", "block"))
    with pytest.raises(RecipeError, match="not even one crop"):
        plan(two_cases, model="segresnet_8", memory_gib=1.001)


def test_a_table_without_training_cases(made: Any, plan: Any) -> None:
    made.add("a", {}, split="test")
    with pytest.raises(TableError, match=r"has no case in split 'train'; found 'test'"):
        plan(made.table(), model="segresnet_8")


def test_another_network_than_the_starts_is_said() -> None:
    start = find_source("segresnet_16.suprem")
    assert about_network("segresnet_16", start) == []
    (decision,) = about_network("resnet18_3d", start)
    assert (decision.differs, decision.from_start) == (True, "segresnet_16")


def test_pictures_and_videos_have_no_size_in_millimeters() -> None:
    assert start_size(find_source("segresnet_16.suprem")) == (96, 96, 96)
    assert start_size(find_source("r3d_18.kinetics400_v1")) is None
    assert start_size(find_source("resnet18.a1_in1k")) is None


def network(model: str, outputs: int = 4, **given: Any) -> Any:
    with torch.device("meta"):
        return build_segmentation(model, outputs, **given)


@pytest.mark.parametrize(
    ("source", "model", "decoder", "parts", "why"),
    [
        ("segresnet_16.suprem", "segresnet_16", "native", "all", "knows 2 of the 3"),
        ("swin_unetr_48.suprem", "swin_unetr_48", "native", "decoder", "its head is text-driven"),
        ("videomae_base.k400", "videomae_base", "unet", "encoder", "none that this network has"),
        ("resnet18.a1_in1k", "resnet18_3d", "unet", "encoder", "has no decoder"),
        ("genesis_unet.chest_ct", "genesis_unet", "native", "decoder", "knows none"),
    ],
)
def test_parts(source: str, model: str, decoder: Any, parts: str, why: str) -> None:
    built = network(model, decoder=decoder)
    found, decision = decide_parts(find_source(source), ("liver", "spleen", "moon"), built)
    assert found == parts
    assert why in decision.why


def test_a_saved_decoder_is_kept(tmp_path: Path) -> None:
    built = build_segmentation("resnet18_3d", 2, decoder_norm="group", decoder_width=8)
    card = Card(
        model="resnet18_3d", in_channels=1, input_mean=(0.5,), input_sd=(0.25,),
        stem="conv1.weight", outputs=2, decoder="unet", classes=("background", "liver"),
        decoder_options={"decoder_norm": "group", "decoder_width": 8},
    )  # fmt: skip
    state = {k: v for k, v in built.state_dict().items() if not k.startswith("input_")}
    save_weights(tmp_path, state, card)
    start = find_source(tmp_path)
    decoder = choose_decoder("resnet", start)
    assert (decoder.kind, decoder.norm, decoder.width) == ("unet", "group", 8)
    assert decoder.decision("resnet").why == "the start's own"
    parts, _ = decide_parts(start, ("liver", "spleen"), built)
    assert parts == "all"
    assert decide_parts(start, ("spleen",), built)[0] == "decoder"
    parts, decision = decide_parts(replace(start, decoder=()), ("liver",), built)
    assert (parts, decision.why) == ("encoder", "the start has no decoder")


def test_every_start_of_the_catalogue_names_a_network_that_is_known() -> None:
    from voxgraft.grafting import network_of
    from voxgraft.models import MODELS

    for source in SOURCES:
        model = network_of(source)
        assert model in MODELS or model.endswith("_3d"), source.id


def test_slowfast_chooses_slices_without_numbers() -> None:
    with torch.device("meta"):
        encoder = build_encoder("slowfast_r50")
    with FakeTensorMode():
        assert encoder.slow_slices(12) == [0, 5, 11]  # type: ignore[operator]


def test_a_budget_for_the_cpu_has_no_bfloat16(two_cases: Table, plan: Any) -> None:
    assert plan(two_cases, model="segresnet_8", memory_gib=8, device="cpu").precision == "no"
