"""Ten mishaps that people report of loading public weights, each on a file made for it."""

from __future__ import annotations

import importlib
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from monai.networks.nets.resnet import resnet10
from safetensors.torch import save_file
from torch import Tensor

from voxgraft.errors import FetchError, GraftError, SourceError
from voxgraft.grafting import check_statistics, find_source, graft
from voxgraft.models import build_encoder
from voxgraft.weights import SOURCES, fetch_source, read_checkpoint, read_state_dict
from voxgraft.weights.convert import convert
from voxgraft.weights.layouts import naming_rules

State = dict[str, Tensor]
SMALL = "mobilenetv3_small_050"


@pytest.fixture(scope="module")
def small() -> State:
    torch.manual_seed(3)
    return dict(timm.create_model(SMALL, num_classes=7).eval().state_dict())


def _save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


# 1. MedicalNet's files were saved from DataParallel; copies of them on hubs were not.


def test_medicalnet_with_and_without_module(tmp_path: Path) -> None:
    torch.manual_seed(1)
    original = resnet10(
        spatial_dims=3, n_input_channels=1, feed_forward=False, bias_downsample=False
    ).eval()
    state = dict(original.state_dict())
    bare = _save(tmp_path / "bare.pth", state)
    wrapped = _save(
        tmp_path / "wrapped.pth",
        {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 79},
    )
    found = []
    for path in (bare, wrapped):
        done = graft(f"medicalnet_resnet10.3dseg8@{path}", "medicalnet_resnet10_3d")
        assert done.report.coverage == 1.0
        assert not [v for v in done.report.fresh if "num_batches" not in v["name"]]
        found.append(done.encoder.state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    for name, tensor in state.items():
        assert torch.equal(found[0][name], tensor)


def test_a_program_around_the_network_is_named_not_lost(tmp_path: Path, small: State) -> None:
    """Nothing of 'model.backbone.…' is called as in the network: 0 tensors would match by name."""
    theirs = {f"model.backbone.{name}": tensor for name, tensor in small.items()}
    theirs["model.neck.fc.weight"] = torch.ones(3, 3)
    path = _save(tmp_path / "theirs.pth", {"state_dict": theirs})
    for source in (f"timm:{SMALL}@{path}", str(path)):
        report = graft(source, f"{SMALL}_3d").report
        assert report.coverage == 1.0
        assert "the network is the part 'model.backbone' of the file" in report.notes
        reasons = {verdict["name"]: verdict["because"] for verdict in report.dropped}
        assert "outside of 'model.backbone'" in reasons["model.neck.fc.weight"]


# 2. Stems of one and of three channels.


@pytest.mark.parametrize(("theirs", "ours"), [(1, 1), (1, 3), (3, 1), (3, 2), (4, 1)])
def test_stems_of_other_channels(tmp_path: Path, theirs: int, ours: int) -> None:
    network = timm.create_model("resnet10t", in_chans=theirs, num_classes=2)
    path = _save(tmp_path / "theirs.pth", network.state_dict())
    done = graft(f"timm:resnet10t@{path}", "resnet10t_3d", in_channels=ours)
    assert done.source.input.channels == theirs
    assert done.report.parity.relative_error is not None
    assert done.report.parity.relative_error < 1e-4
    stem = done.encoder.get_parameter("conv1.0.weight")
    assert stem.shape[1] == ours
    torch.testing.assert_close(
        stem.sum(dim=(1, 2)),
        network.state_dict()["conv1.0.weight"].sum(dim=1),
        rtol=1e-4,
        atol=1e-5,
    )


# 3. Self-supervised Swin UNETR: 'module.', no 'swinViT.', and 'fc' for 'linear'.


def test_keys_of_self_supervised_swin_unetr(tmp_path: Path) -> None:
    own = build_encoder("swin_unetr_48", seed=1).state_dict()
    transformer = {n: t for n, t in own.items() if n.startswith("swinViT.")}
    theirs = {
        "module." + name.removeprefix("swinViT.").replace("mlp.linear", "mlp.fc"): tensor
        for name, tensor in transformer.items()
    }
    path = _save(tmp_path / "model_swinvit.pt", {"state_dict": theirs, "epoch": 300})
    done = graft(f"swin_unetr_48.ssl_5050@{path}", "swin_unetr_48")
    found = done.encoder.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in transformer.items())
    loaded = {verdict["name"] for verdict in (*done.report.loaded, *done.report.adapted)}
    assert transformer.keys() <= loaded


# 4. MONAI's ViT keeps a cross-attention in each block that its forward never uses.


def test_monais_unused_cross_attention_is_dropped_by_name() -> None:
    source = SOURCES.get("monai_vit_b16.brainiac")
    with torch.device("meta"):
        own = build_encoder("monai_vit_b16").state_dict()
    state = {f"backbone.{name}": tensor for name, tensor in own.items()}
    unused = {
        f"backbone.blocks.{block}.{part}": torch.empty(768, 768, device="meta")
        for block in range(12)
        for part in ("norm_cross_attn.weight", "norm_cross_attn.bias", "cross_attn.to_q.weight",
                     "cross_attn.to_k.weight", "cross_attn.to_v.weight",
                     "cross_attn.out_proj.weight", "cross_attn.out_proj.bias")
    }  # fmt: skip
    targets = {name: tuple(tensor.shape) for name, tensor in own.items()}
    report = convert({**state, **unused}, targets, naming_rules(source)).report
    assert report.coverage == 1.0
    reasons = {verdict["name"]: verdict["because"] for verdict in report.dropped}
    assert reasons.keys() == unused.keys()
    assert all("cross" in reason for reason in reasons.values())


# 5. A checkpoint wrapped in another dictionary, or two of them.


@pytest.mark.parametrize(
    "keys",
    ["state_dict", "model", "net", "network_weights", "model_state", "teacher", "model.module",
     "checkpoint.model"],
)  # fmt: skip
def test_checkpoints_in_dictionaries(tmp_path: Path, small: State, keys: str) -> None:
    content: Any = dict(small)
    for key in reversed(keys.split(".")):
        content = {"epoch": 3, key: content, "optimizer": {"param_groups": [{"lr": 0.1}]}}
    path = _save(tmp_path / "run.pth", content)
    if keys.startswith("checkpoint"):  # no key that training programs are known to use
        with pytest.raises(SourceError, match=r"no state dict: its keys are 'epoch', 'checkpoint'"):
            read_checkpoint(path)
        source = find_source(f"timm:{SMALL}@{path}", key=keys)
        assert source.key == keys
        assert graft(source, f"{SMALL}_3d").report.coverage == 1.0
        return
    checkpoint = read_checkpoint(path)
    assert checkpoint.notes[0] == f"read from the key {keys!r}"
    assert graft(path, f"{SMALL}_3d").report.coverage == 1.0


def test_student_and_teacher_are_never_chosen_between(tmp_path: Path, small: State) -> None:
    student = {f"module.backbone.{name}": tensor + 1 for name, tensor in small.items()}
    teacher = {f"backbone.{name}": tensor for name, tensor in small.items()}
    path = _save(tmp_path / "dino.pth", {"student": student, "teacher": teacher, "epoch": 99})
    with pytest.raises(SourceError, match="several networks, under the keys 'teacher', 'student'"):
        graft(path, f"{SMALL}_3d")
    done = graft(path, f"{SMALL}_3d", key="teacher")
    assert done.report.coverage == 1.0
    kernel = done.encoder.get_parameter("conv_head.bias")
    assert torch.equal(kernel, small["conv_head.bias"])


# 6. A head of another number of classes.


@pytest.mark.parametrize("classes", [0, 1, 1000])
def test_heads_of_other_class_counts(tmp_path: Path, classes: int) -> None:
    network = timm.create_model(SMALL, num_classes=classes)
    path = _save(tmp_path / "theirs.pth", network.state_dict())
    report = graft(path, f"{SMALL}_3d").report
    assert report.coverage == 1.0
    dropped = {verdict["name"] for verdict in report.dropped}
    assert dropped == ({"classifier.weight", "classifier.bias"} if classes else set())


# 7. Positions of another grid.


def test_positions_of_another_grid(tmp_path: Path) -> None:
    torch.manual_seed(4)
    network = timm.create_model("vit_tiny_patch16_224", img_size=96, num_classes=3).eval()
    path = _save(tmp_path / "theirs.pth", network.state_dict())
    report = graft(f"timm:vit_tiny_patch16_224@{path}", "vit_tiny_patch16_224_3d").report
    assert report.coverage == 1.0
    how = {verdict["name"]: verdict["how"] for verdict in report.adapted}
    assert "6×6" in how["pos_embed"]
    assert "14×14" in how["pos_embed"]


# 8. A file truncated half way.


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz", "legacy.pth"])
def test_half_a_file_is_refused(tmp_path: Path, small: State, suffix: str) -> None:
    path = tmp_path / f"whole{suffix}"
    if suffix == ".safetensors":
        save_file(small, path)
    elif suffix == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in small.items()})
    else:
        torch.save(small, path, _use_new_zipfile_serialization=suffix == ".pth")
    assert len(read_state_dict(path)) == len(small)
    half = tmp_path / f"half{suffix}"
    half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(SourceError, match=r"half.*(damaged|truncated)"):
        graft(f"timm:{SMALL}@{half}", f"{SMALL}_3d")


# 9. A pickle that would run code.


class _Calls:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def _touch(path: Path) -> list[_Calls]:
    import os
    import subprocess

    return [
        _Calls(os.system, f"touch {path}"),
        _Calls(eval, f"open({str(path)!r}, 'w')"),
        _Calls(exec, f"open({str(path)!r}, 'w')"),
        _Calls(open, str(path), "w"),
        _Calls(subprocess.call, ["touch", str(path)]),
        _Calls(np.save, str(path), 1),
        _Calls(getattr, str(path), "upper"),
    ]


@pytest.mark.parametrize("number", range(7))
def test_pickles_that_would_run_code_are_refused(tmp_path: Path, small: State, number: int) -> None:
    marker = tmp_path / "ran"
    content = {"state_dict": dict(small), "callbacks": _touch(marker)[number]}
    for modern in (True, False):
        path = tmp_path / f"evil{modern}.pth"
        torch.save(content, path, _use_new_zipfile_serialization=modern)
        with pytest.raises(SourceError, match="would run code when opened"):
            read_checkpoint(path)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(_touch(marker)[number]))
    with pytest.raises(SourceError):
        read_checkpoint(tmp_path / "plain.pt")
    assert not list(tmp_path.glob("ran*"))


def test_numpy_objects_are_no_weights(tmp_path: Path) -> None:
    stream = io.BytesIO()
    pickle.dump({"conv.weight": np.ones((3, 3), dtype=object)}, stream, protocol=2)
    (tmp_path / "a.pt").write_bytes(stream.getvalue())
    with pytest.raises(SourceError):
        read_checkpoint(tmp_path / "a.pt")
    path = _save(tmp_path / "b.pt", {"a": torch.ones(2), "b": np.ones(3)})
    with pytest.raises(SourceError, match=r"b is an object of another program, expected a tensor"):
        read_checkpoint(path)
    path = _save(tmp_path / "c.pt", {"model": {"a": torch.ones(2)}, "best": np.float64(0.5)})
    checkpoint = read_checkpoint(path)
    assert list(checkpoint.state) == ["a"]
    assert "objects of other programs beside the weights were left out" in checkpoint.notes[0]


# 10. A transposed tensor of the same shape.


def test_a_transposed_tensor_of_a_published_file_is_named(tmp_path: Path) -> None:
    name = "efficientnet_lite0.tf_in1k"
    try:
        state = read_state_dict(fetch_source(SOURCES.get(name)))
    except FetchError as fault:
        pytest.skip(str(fault))
    kernel = "_blocks.3._depthwise_conv.weight"
    state[kernel] = state[kernel].transpose(2, 3).contiguous()
    path = _save(tmp_path / "turned.pth", state)
    with pytest.raises(SourceError, match=r"is transposed: axes 2 and 3 are exchanged"):
        graft(path, "tf_efficientnet_lite0_3d")


def test_a_kernel_of_a_graft_that_is_transposed_after_it_is_found_by_parity(
    tmp_path: Path, small: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of the conversion: the original gets the file's tensor, the graft a turned one."""
    module = importlib.import_module("voxgraft.grafting.graft")

    path = _save(tmp_path / "theirs.pth", small)
    whole = module.convert

    def turned(*arguments: Any, **options: Any) -> Any:
        converted = whole(*arguments, **options)
        kernel = converted.state["blocks.1.0.conv_dw.weight"]
        converted.state["blocks.1.0.conv_dw.weight"] = kernel.transpose(-1, -2).contiguous()
        return converted

    monkeypatch.setattr(module, "convert", turned)
    with pytest.raises(GraftError, match=r"They part at blocks\.1\.0\.conv_dw"):
        graft(f"timm:{SMALL}@{path}", f"{SMALL}_3d")


def test_exchanged_tensors_of_an_unknown_file_are_found_by_its_own_statistics(
    tmp_path: Path,
) -> None:
    """Both networks hold the same wrong values: parity holds, running statistics do not."""
    name = "efficientnet_lite0.tf_in1k"
    try:
        state = read_state_dict(fetch_source(SOURCES.get(name)))
    except FetchError as fault:
        pytest.skip(str(fault))
    first, second = (f"_blocks.{n}._expand_conv.weight" for n in (9, 10))
    state = {n: t * (1 + 1e-6) if t.is_floating_point() else t for n, t in state.items()}
    state[first], state[second] = state[second], state[first]
    path = _save(tmp_path / "theirs.pth", state)
    done = graft(f"timm:tf_efficientnet_lite0@{path}", "tf_efficientnet_lite0_3d")
    assert done.report.parity.relative_error is not None
    with pytest.raises(GraftError, match="gross disagreement"):
        check_statistics(done, strict=True)
