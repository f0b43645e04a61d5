"""Every way to train a segmentation, for a few steps: it learns, moves what it may, and is kept."""

import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from voxgraft.datasets import write_table
from voxgraft.files import read_json
from voxgraft.grafting import graft
from voxgraft.recipes import recipe_from_dict
from voxgraft.runs import begin_run, build_segmenter, execute, execute_run, load_segmentation
from voxgraft.runs.build import loaded_decoder
from voxgraft.synthesis import write_anatomies

CLASSES = ("lung_left", "liver")
WAYS = {
    "plain": {},
    "deep_focal": {"segmentation": {"deep_supervision": True, "loss": "dice_focal"}},
    "focal_overlapping": {"segmentation": {"loss": "dice_focal", "overlapping": True}},
    "surfaces_deep": {"segmentation": {"loss": "dice_ce_hausdorff", "deep_supervision": True}},
    "surfaces_overlapping": {"segmentation": {"loss": "dice_ce_hausdorff", "overlapping": True}},
    "text": {"segmentation": {"head": "text"}},
    "batch_of_one": {
        "segmentation": {"decoder": "unet", "decoder_norm": "batch", "decoder_width": 4},
        "optimization": {"batch_size": 1},
    },
    "bf16_accumulated": {
        "optimization": {"precision": "bf16", "accumulate": 2, "batch_size": 1},
        # In bf16, PyTorch's weight gradients of 3D kernels are wrong on a CPU for maps of depth 2.
        "crop_size_voxels": [32, 16, 16],
    },
    "averaged_checkpointed": {
        "optimization": {"ema_decay": 0.5, "gradient_checkpointing": True},
        "memory_format": "channels_last",
    },
    "frozen": {"start": {"adapt": "frozen", "parts": "all"}},
    "layerwise": {"start": {"adapt": {"method": "layerwise", "decay": 0.5}}},
    "gradual": {"start": {"adapt": {"method": "gradual", "until": 0.5}}},
    "lora_text_deep": {
        "start": {"adapt": {"method": "lora", "rank": 2}, "parts": "encoder"},
        "segmentation": {"head": "text", "deep_supervision": True},
    },
}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Six bodies of 12 by 16 by 16 voxels, embeddings of the names, and a start trained on them."""
    root = tmp_path_factory.mktemp("ways")
    table = write_anatomies(
        root / "bodies", range(6), annotated=CLASSES, size_voxels=(12, 16, 16), spacing_mm=20.0
    )
    split = ["train"] * 4 + ["validation", "test"]
    table = write_table(table.with_column("split", split), root / "bodies" / "split.csv")
    names = ["background", *CLASSES]
    vectors = torch.randn(3, 512, generator=torch.Generator().manual_seed(0))
    save_file({"vectors": vectors}, root / "names.safetensors", {"classes": json.dumps(names)})
    made = SimpleNamespace(root=root, table=table, start=root / "start")
    begin_run(made.start, recipe(made, {}, steps=2))
    execute_run(made.start)
    return made


def recipe(small, changes, *, steps=4):
    segmentation = {"validation_overlap": 0.0, "overlap": 0.0, **changes.get("segmentation", {})}
    if segmentation.get("head") == "text":
        segmentation["embeddings"] = str(small.root / "names.safetensors")
    own = {"name": "own", "source": str(small.start)}
    data = {
        "table": str(small.table.path),
        "target": {"kind": "segmentation", "columns": ["masks"], "classes": list(CLASSES)},
        "metric": "dice",
        "preprocessing": {"intensity": {"kind": "window", "low": -1000, "high": 300}},
        "augmentation": {"flip_axes": ["width"], "intensity_shift": 0.05},
        "model": changes.get("model", "segresnet_8"),
        "start": own | changes["start"] if "start" in changes else "scratch",
        "crop_size_voxels": changes.get("crop_size_voxels", [8, 16, 16]),
        "segmentation": segmentation,
        "optimization": {
            "steps": steps, "batch_size": 2, "eval_every": 2, "learning_rate": 5e-3, "threads": 1,
        }
        | changes.get("optimization", {}),
        "memory_format": changes.get("memory_format", "contiguous"),
        "score_splits": ["validation"],
        "store": str(small.root / "store"),
    }  # fmt: skip
    return recipe_from_dict(data, "the test")


def run_of(small, folder, way, monkeypatch):
    """Execute a run; return its result, its network's first state, and its outputs when saved."""
    image = torch.rand(1, 1, 9, 16, 20, generator=torch.Generator().manual_seed(0))
    seen = {}
    fit, save = execute.fit, execute.save_network

    def fit_seen(network, *given, **settings):
        seen["before"] = {name: value.clone() for name, value in network.state_dict().items()}
        return fit(network, *given, **settings)

    def save_seen(run, network, *rest):
        with torch.no_grad():
            seen["logits"] = network.eval()(image)
        save(run, network, *rest)

    monkeypatch.setattr(execute, "fit", fit_seen)
    monkeypatch.setattr(execute, "save_network", save_seen)
    begin_run(folder, recipe(small, WAYS[way]))
    result = execute_run(folder, check_parity=False)
    return SimpleNamespace(result=result, image=image, **seen)


def may_move(way, name, value):
    """Say whether a way to train may move a tensor of that name."""
    room, _, _ = name.partition(".")
    if room in ("input_mean", "input_sd") or "organ_embedding" in name:
        return False
    if room != "encoder" or "running" in name:
        return True
    if way == "frozen":
        return False
    return value.ndim > 1 if way.startswith("lora") else True


@pytest.mark.parametrize("way", WAYS)
def test_it_learns_moves_what_it_may_and_is_kept(way, small, tmp_path, monkeypatch):
    run = run_of(small, tmp_path / "run", way, monkeypatch)
    assert run.result["status"] == "finished"
    history = run.result["fit"]["history"]
    losses = [row["validation_loss"] for row in history]
    assert min(losses[1:]) < losses[0]
    assert all(0.0 <= row["validation"]["dice"] <= 1.0 for row in history)
    trained = load_file(tmp_path / "run" / "model.safetensors")
    moved = {name for name, value in trained.items() if not torch.equal(value, run.before[name])}
    allowed = {name for name, value in trained.items() if may_move(way, name, value)}
    assert moved <= allowed
    if way != "gradual":  # whose best weights may be those before the encoder thawed
        assert {name for name in allowed if trained[name].ndim > 1} <= moved
    loaded = load_segmentation(tmp_path / "run")
    with torch.no_grad():
        logits = loaded.network(run.image)
    torch.testing.assert_close(logits, run.logits, rtol=0, atol=0)
    notices = run.result["notices"]
    assert len(notices) == (way == "batch_of_one")


class Stopped(BaseException):
    pass


@pytest.mark.parametrize("way", ["bf16_accumulated", "lora_text_deep"])
def test_stopped_and_resumed_is_bitwise_the_same(way, small, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "fit", partial(execute.fit, checkpoint_every_steps=2))
    for name in ("whole", "cut"):
        begin_run(tmp_path / name, recipe(small, WAYS[way], steps=4))
    execute_run(tmp_path / "whole", check_parity=False)
    made = []

    def stop(_steps, _text):
        made.append(1)
        if len(made) == 3:
            raise Stopped

    with pytest.raises(Stopped):
        execute_run(tmp_path / "cut", on_steps=stop, check_parity=False)
    result = execute_run(tmp_path / "cut", check_parity=False)
    assert result["fit"]["resumed_at"] == 2
    whole, cut = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def test_exchanged_normalization_is_what_the_graft_reports_and_what_comes_back(small, tmp_path):
    """From BatchNorm to group normalization: as the graft of a classification exchanges it."""
    unet = {"decoder": "unet", "decoder_width": 4}
    plain = {"model": "mobilenetv3_small_3d", "segmentation": unet}
    first = recipe(small, plain, steps=1)
    run = begin_run(tmp_path / "first", first)
    execute_run(run.path)
    start = {"source": str(run.path), "parts": "decoder", "norm": "group"}
    changed = recipe(small, plain | {"start": start}, steps=1)
    own, grafted = build_segmenter(changed, 3, check_parity=False)
    expected = graft(
        str(run.path), "mobilenetv3_small_3d", norm="group", in_channels=1, check_parity=False
    )
    assert not any(isinstance(layer, torch.nn.BatchNorm3d) for layer in own.encoder.modules())
    state = own.encoder.state_dict()
    assert state.keys() == expected.encoder.state_dict().keys()
    for name, value in expected.encoder.state_dict().items():  # running statistics folded in
        assert torch.equal(state[name], value), name
    assert grafted.report.norm == expected.report.norm == "group"
    assert any("became group normalizations" in note for note in grafted.report.notes)
    sizes = sum(parameter.numel() for parameter in own.parameters())
    assert grafted.report.parameters["model"] == sizes
    begin_run(tmp_path / "second", changed)
    execute_run(tmp_path / "second", check_parity=False)
    report = read_json(tmp_path / "second" / "graft.json")
    assert report["norm"] == "group"
    loaded = load_segmentation(tmp_path / "second").network
    trained = load_file(tmp_path / "second" / "model.safetensors")
    assert all(torch.equal(loaded.state_dict()[name], value) for name, value in trained.items())


def test_rates_of_a_run_fall_through_a_decoder_that_came_from_the_start(small):
    for parts, loaded in (("decoder", True), ("encoder", False)):
        start = {"parts": parts, "adapt": {"method": "layerwise", "decay": 0.5}}
        network, grafted = build_segmenter(recipe(small, {"start": start}), 3, check_parity=False)
        names = {name for name, _ in network.named_parameters() if name.startswith("decoder.")}
        assert loaded_decoder(grafted) == (names if loaded else set())
    assert loaded_decoder(None) == frozenset()
